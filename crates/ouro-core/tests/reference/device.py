"""A device: what it knows, what is pending on it, and what operations on the seen write."""

from rendering import View
from state import COUNTER_FIRST, LATER, RECOVERED, ROOT, Commit, Content, Key, Placement, apply, drop, state_of

MODE = 0o600  # of what is made
FAR_AHEAD = 300  # a stamp this far beyond the own clock does not move it


def above(path):
    return path.rsplit("/", 1)[0]


class Device:
    def __init__(self, number, skew, project_rules):
        self.number, self.skew, self.project_rules = number, skew, project_rules
        self.state, self.heads, self.known = {}, {}, []
        self.seq, self.clock, self.counter = 0, 0, COUNTER_FIRST
        self.added, self.replaced = {}, set()
        self.saved = ({}, set())
        self._view = None

    @property
    def pending(self):
        return (LATER, self.number, self.seq + 1)

    @property
    def view(self):
        if self._view is None:
            self._view = View(self.state)
        return self._view

    # Registers

    def replace(self, file, key):
        if key not in self.state.get(file, {}):
            return
        drop(self.state, file, key)
        if key.version == self.pending:
            self.added.pop((file, key), None)
        else:
            self.replaced.add((file, key))
        self._view = None

    def add(self, file, register, slot, value):
        key = Key(register, slot, self.pending)
        self.state.setdefault(file, {})[key] = value
        self.added[(file, key)] = value
        self._view = None

    def keys(self, file, register, slot=None):
        return [k for k in self.state.get(file, {}) if k.register == register and slot in (None, k.slot)]

    def replace_all(self, file, register, slot=None):
        for key in self.keys(file, register, slot):
            self.replace(file, key)

    def write_attributes(self, file, mode):
        """In the study only a change of mode writes attributes; in the project whatever writes a file does."""
        self.replace_all(file, "A")
        self.add(file, "A", 0, mode)

    def seen_attributes(self, file):
        siblings = [(k.version, v) for k, v in self.state.get(file, {}).items() if k.register == "A"]
        return max(siblings)[1] if siblings else None

    def fresh(self):
        self.counter += 1
        return (self.number + 1) << 32 | self.counter

    # Settling

    def settle_copy(self, copy):
        for key in copy.content_keys:
            self.replace(copy.file, key)
        self.add(copy.id, "C", 0, Content(copy.value, (copy.directory, copy.name), True))
        self.add(copy.id, "P", 0, Placement(copy.directory, copy.name, None, "f", True, False))
        self._copy_attributes(copy)

    def _copy_attributes(self, copy):
        mode = self.seen_attributes(copy.file)
        if self.project_rules and mode is not None:
            self.write_attributes(copy.id, mode)

    def settle_copies(self, file, view):
        for copy in view.copies.get(file, []):
            self.settle_copy(copy)

    def put(self, entry, directory, name, by_rule, was=None):
        self.replace_all(entry.file, "P", entry.slot)
        self.add(entry.file, "P", entry.slot, Placement(directory, name, was, "f", by_rule, False))

    def drop_name(self, entry, view, keep_copies=True):
        """Takes a name away, and the content with the last one; true if it was."""
        if keep_copies and view.names[entry.file][0] is entry:
            self.settle_copies(entry.file, view)
        self.replace_all(entry.file, "P", entry.slot)
        others = [e for e in view.names[entry.file] if e is not entry and e.slot != entry.slot]
        if not any(self.keys(e.file, "P", e.slot) for e in others):
            for key in list(self.state.get(entry.file, {})):
                self.replace(entry.file, key)

    def settle_names(self, entry, view):
        """All that stands at the natural name of an entry gets the name under which it is shown."""
        for other in entry.group or []:
            if other.kind == "d":
                continue
            if other.stood_for:
                self.drop_name(other, view)
                continue
            parents = [self.state[other.file][k].parent for k in other.placement_keys if k in self.state.get(other.file, {})]
            settled = other.name == other.natural and not other.unplaced and len(other.placement_keys) == 1
            if not (settled and other.directory in parents):
                self.put(other, other.directory, other.name, True)

    def settle_stem(self, entry, view):
        """Others whose derived name would shift once the name of an entry is free."""
        for other in list(view.paths.values()):
            follows = other.derivation and other.derivation in (entry.derivation, entry.name)
            if other is not entry and follows and other.union == entry.union:
                if other.kind == "c":
                    self.settle_copy(other)
                else:
                    self.settle_names(other, view)

    def cut(self, view):
        """Directories that are not shown where they say."""
        return view.cut | view.lost if self.project_rules else view.cut

    def settle_directory(self, file, view, removed, by_rule=True, place=None, was=None):
        directory = view.directories[file]
        before = directory.was if file not in self.cut(view) else None
        self.replace_all(file, "P")
        parent, name = place or (directory.parent, directory.name)
        self.add(file, "P", 0, Placement(parent, name, was or before, "d", by_rule, removed))

    def settle_cuts(self, view, but_settled=False):
        for file in self.cut(view):
            shown = view.directories[file]
            if not (but_settled and self._is_settled(file, shown)):
                self.settle_directory(file, view, shown.removed)

    def _is_settled(self, file, shown):
        """Whether a directory was written since the last commit: by a user too in the study, only by settling in the project."""
        key = Key("P", 0, self.pending)
        if not self.project_rules or (file, key) not in self.added:
            return (file, key) in self.added
        alone, now = len(self.keys(file, "P")) == 1, self.added[(file, key)]
        return alone and now.by_rule and (now.parent, now.name) == (shown.parent, shown.name)

    def touch_directory(self, path, view):
        """Un-removes a directory in which something is about to be done, and what is removed above it."""
        while True:
            first = view.paths[path].members[0]
            if first not in (ROOT, RECOVERED) and view.directories[first].removed:
                self.settle_directory(first, view, False)
                self.settle_cuts(view, but_settled=True)
            if not path:
                return
            path = above(path)

    # What people do

    def create(self, path, value):
        view, (directory, name) = self.view, self._target(path)
        self.touch_directory(above(path), view)
        file = self.fresh()
        self.add(file, "P", 0, Placement(directory, name, None, "f", False, False))
        self.add(file, "C", 0, Content(value, (directory, name), False))
        if self.project_rules:
            self.write_attributes(file, MODE)

    def make_directory(self, path):
        view, (directory, name) = self.view, self._target(path)
        self.touch_directory(above(path), view)
        file = self.fresh()
        self.add(file, "P", 0, Placement(directory, name, None, "d", False, False))
        if self.project_rules:
            self.write_attributes(file, MODE)

    def _target(self, path):
        return self.view.paths[above(path)].members[0], path.rsplit("/", 1)[1]

    def edit(self, path, value):
        view, entry = self.view, self.view.paths[path]
        at = (entry.directory, entry.name)
        if entry.kind == "c":
            self.settle_stem(entry, view)
            for key in entry.content_keys:
                self.replace(entry.file, key)
            self.add(entry.id, "C", 0, Content(value, at, False))
            self.add(entry.id, "P", 0, Placement(*at, None, "f", True, False))
            self._copy_attributes(entry)
            return
        self.settle_names(entry, view)
        for other in view.names[entry.file]:
            if other is not entry:
                self.settle_names(other, view)
        staying = []
        for copy in view.copies.get(entry.file, []):
            if copy.value == value:
                self.settle_copy(copy)
            else:
                staying += copy.content_keys
        for key in self.keys(entry.file, "C"):
            if key not in staying:
                self.replace(entry.file, key)
        self.add(entry.file, "C", 0, Content(value, at, False))
        if self.project_rules:
            self.write_attributes(entry.file, self.seen_attributes(entry.file) or MODE)

    def save(self, path, value):
        """An atomic save is an edit, unless another name keeps the old file."""
        entry = self.view.paths[path]
        if entry.kind == "f" and len([e for e in self.view.names[entry.file] if not e.stood_for]) > 1:
            self.delete(path)
            self.create(path, value)
        else:
            self.edit(path, value)

    def change_mode(self, path, mode):
        file = self.view.paths[path].file
        if not self.project_rules or [self.state[file][k] for k in self.keys(file, "A")] != [mode]:
            self.write_attributes(file, mode)

    def delete(self, path):
        view, entry = self.view, self.view.paths[path]
        self.touch_directory(above(path), view)
        self.settle_stem(entry, view)
        if entry.kind == "c":
            self._bury(entry)
            return
        self.settle_names(entry, view)
        self.drop_name(entry, view)

    def _bury(self, copy):
        for key in copy.content_keys:
            self.replace(copy.file, key)
        self.add(copy.id, "C", 0, Content(None, (copy.directory, copy.name), False))

    def move(self, path, target):
        view, entry, (directory, name) = self.view, self.view.paths[path], self._target(target)
        self.touch_directory(above(path), view)
        self.touch_directory(above(target), view)
        self.settle_stem(entry, view)
        if entry.kind == "c":
            for key in entry.content_keys:
                self.replace(entry.file, key)
            at = (entry.directory, entry.name) if self.project_rules else (directory, name)
            self.add(entry.id, "C", 0, Content(entry.value, at, True))
            self.add(entry.id, "P", 0, Placement(directory, name, None, "f", False, False))
            self._copy_attributes(entry)
            return
        self.settle_names(entry, view)
        if view.names[entry.file][0] is entry:
            self.settle_copies(entry.file, view)
        was = None if self.project_rules else (entry.directory, entry.name)
        self.put(entry, directory, name, False, was)

    def move_over(self, path, target):
        self.delete(target)
        self.move(path, target)

    def link(self, path, target):
        view, entry, (directory, name) = self.view, self.view.paths[path], self._target(target)
        self.touch_directory(above(target), view)
        if entry.kind == "c":
            if self.project_rules:
                self.settle_stem(entry, view)
            self.settle_copy(entry)
        else:
            self.settle_names(entry, view)
            self.settle_copies(entry.file, view)
        file = entry.id if entry.kind == "c" else entry.file
        self.add(file, "P", self.fresh(), Placement(directory, name, None, "f", False, False))

    def move_directory(self, path, target):
        view, entry, (parent, name) = self.view, self.view.paths[path], self._target(target)
        self.settle_cuts(view)
        self.touch_directory(above(path), view)
        self.touch_directory(above(target), view)
        self.settle_names(entry, view)
        for file in entry.members:
            shown = view.directories[file]
            was = self._first_move(file, view) or (shown.parent, shown.name)
            self.settle_directory(file, view, False, False, (parent, name), was)

    def remove_all(self, path):
        """All at once, or one after the other from the deepest on, as `rm -r` does."""
        if self.project_rules:
            while inside := [p for p in self.view.paths if p == path or p.startswith(path + "/")]:
                deepest = max(inside, key=lambda p: (p.count("/"), p.encode()))
                if self.view.paths[deepest].kind == "d":
                    self.remove_directory(deepest)
                else:
                    self.delete(deepest)
            return
        view, entry = self.view, self.view.paths[path]
        self.settle_cuts(view)
        self.touch_directory(above(path), view)
        self.settle_names(entry, view)
        inside = [e for p, e in view.paths.items() if p.startswith(path + "/")]
        for copy in [e for e in inside if e.kind == "c"]:
            self._bury(copy)
        for file in [e for e in inside if e.kind == "f"]:
            for name in [file, *file.equals]:
                self.drop_name(name, view, keep_copies=False)
        directories = [e for e in inside if e.kind == "d"] + [entry]
        for gone in sorted(directories, key=lambda e: e.path.count("/"), reverse=True):
            for file in gone.members:
                if file != RECOVERED:
                    self._remove_directory(file, view)

    def remove_directory(self, path):
        """What stands in it is judged as it was before the act."""
        view, entry = self.view, self.view.paths[path]
        self._added_before = dict(self.added)
        self.settle_cuts(view)
        self.touch_directory(above(path), view)
        self.settle_names(entry, view)
        for file in entry.members:
            if file != RECOVERED:
                self._remove_directory(file, view)

    def _remove_directory(self, file, view):
        shown = view.directories[file]
        place, was = (shown.parent, shown.name), None
        if self.project_rules:
            if self._is_unsealed(file) and not self._holds_anything(file, view):
                self.replace_all(file, "P")
                self.replace_all(file, "A")
                return
            moved_from = self._first_move(file, view)
            place, was = moved_from or place, None
            parent = place[0]
            while self._is_unsealed(parent):
                parent = view.directories[parent].parent
            place = (parent, place[1])
            directory = view.directories[file]
            before = None if moved_from or file in self.cut(view) else directory.was
            self.replace_all(file, "P")
            self.add(file, "P", 0, Placement(*place, before, "d", False, True))
            return
        was = shown.was if file not in self.cut(view) else place
        self.replace_all(file, "P")
        self.add(file, "P", 0, Placement(*place, was, "d", False, True))

    # Refinements of the project: what nobody else has seen leaves no trace.

    def _first_move(self, file, view):
        """Where a directory was before it was first moved since the last commit."""
        if not self.project_rules or file in self.cut(view):
            return None
        key, value = max(((k, v) for k, v in self.state[file].items() if k.register == "P"),
                         key=lambda s: (not s[1].by_rule, not s[1].removed, s[0].version))  # fmt: skip
        moved = key.version == self.pending and not value.by_rule and not value.removed
        return value.was if moved else None

    def _is_unsealed(self, file):
        if file in (ROOT, RECOVERED) or file not in self.state:
            return False
        replaced = any(f == file for f, _ in self.replaced)
        return not replaced and all(key.version == self.pending for key in self.state[file])

    def _holds_anything(self, directory, view):
        entries = (e for names in (*view.names.values(), *view.copies.values()) for e in names)
        children = any(view.visible.get(d) for d in view.below.get(directory, []))
        placements = (v for (_, k), v in self._added_before.items() if k.register == "P")
        placed = any(p.kind == "d" and p.parent == directory for p in placements)
        nameless = [view.placements[f].values() for f in view.files if f not in view.names]
        hidden = any(
            len(slots) == 1 and len(siblings := next(iter(slots))) == 1 and siblings[0][1].parent == directory
            for slots in nameless
        )
        return children or placed or hidden or any(e.directory == directory for e in entries)

    # Sealing, learning, crashing, purging

    def floor(self):
        """The stamp a commit of what is pending must exceed, however far it is beyond the clock."""
        view, floor = self.view, 0
        stamps = lambda file: [k.version[0] for k in self.state.get(file, {}) if k.version[0] < LATER]
        writes_directories = any(k.register == "P" and v.kind == "d" for (_, k), v in self.added.items())
        if self.cut(view) and writes_directories:
            floor = max([floor, *(s for d in view.directories for s in stamps(d))])
        touched = {file for file, _ in self.added}
        if self.project_rules:
            touched |= {file for file, _ in self.replaced}
            floor = max([floor, *(key.version[0] for _, key in self.replaced)])
        for file in touched:
            group = {file} | {e.file for name in view.names.get(file, []) for e in name.group or []}
            floor = max([floor, *(s for mate in group for s in stamps(mate))])
        return floor

    def seal(self, now):
        """Makes a commit of what is pending."""
        if not self.added and not self.replaced:
            return None
        view = self.view
        for entry in list(view.paths.values()):
            if entry.kind == "f" and entry.version == self.pending and entry.derivation:
                self.settle_names(entry, view)
        self.clock = max(self.clock, now + self.skew)
        stamp = max(self.clock, self.floor()) + 1
        self.clock = stamp if stamp < now + self.skew + FAR_AHEAD else self.clock + 1
        version = (stamp, self.number, self.seq + 1)
        added = []
        for (file, key), value in self.added.items():
            sealed = key._replace(version=version)
            added.append((file, sealed, value))
            self.state[file][sealed] = self.state[file].pop(key)
        commit = Commit(self.number, self.seq + 1, stamp, dict(self.heads), added, sorted(self.replaced))
        self.seq += 1
        self.heads[self.number] = self.seq
        self.known.append(commit)
        self.added, self.replaced, self.saved, self._view = {}, set(), ({}, set()), None
        return commit

    def can_learn(self, commit):
        before = all(self.heads.get(device, 0) >= seq for device, seq in commit.known.items())
        return before and self.heads.get(commit.device, 0) == commit.seq - 1

    def learn(self, commit, now):
        self.heads[commit.device] = commit.seq
        self.known.append(commit)
        apply(self.state, commit)
        self._view = None
        if commit.stamp < now + self.skew + FAR_AHEAD:
            self.clock = max(self.clock, commit.stamp)

    def save_journal(self):
        self.saved = (dict(self.added), set(self.replaced))

    def crash(self):
        self.state = state_of(self.known)
        self.added, self.replaced = dict(self.saved[0]), set(self.saved[1])
        for file, key in self.replaced:
            drop(self.state, file, key)
        for (file, key), value in self.added.items():
            self.state.setdefault(file, {})[key] = value
        self._view = None

    def purgeable(self, settled):
        """What may be purged: hidden here and in what every device knew at its newest commit, and all of its file with it."""
        hidden, long_hidden = self.view.hidden(), View(settled).hidden()
        partly = {file for file, key in hidden if (file, key) not in long_hidden}
        return {(file, key) for file, key in hidden & long_hidden if file not in partly}
