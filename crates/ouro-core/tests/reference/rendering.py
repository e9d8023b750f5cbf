"""From a state to what people see: slow, at once, by the words of docs/semantics.md."""

import re
from datetime import datetime, timezone

from state import LATER, RECOVERED, ROOT, copy_id

EPOCH_MS, TICK_MS = 999_999_960_000, 10_000  # a stamp of the model counts ticks from a full minute on
SUFFIX = re.compile(r" \(conflict from D\d+ [^()]*\)(-\d+)?$")


def hlc(stamp):
    return (EPOCH_MS + stamp * TICK_MS) << 16


def derived_name(natural, version):
    stamp, device, _ = version
    when = "unsynced"
    if stamp < LATER:
        when = datetime.fromtimestamp((EPOCH_MS + stamp * TICK_MS) / 1000, timezone.utc).strftime("%Y-%m-%d %H.%M")
    return "%s (conflict from D%d %s)" % (SUFFIX.sub("", natural), device + 1, when)


class Directory:
    """Where a directory is shown. Cutting a cycle changes `parent` and `name`."""

    def __init__(self, parent, name, was, version, removed):
        self.parent, self.name, self.was, self.version, self.removed = parent, name, was, version, removed


class Entry:
    """Something to be seen: a file by one of its names ("f"), a conflict copy ("c"), or directories shown as one ("d")."""

    def __init__(self, kind, id, file, slot, value, keys, natural, directory, version, **more):
        self.kind, self.id, self.file, self.slot, self.value, self.content_keys = kind, id, file, slot, value, keys
        self.natural, self.directory, self.version = natural, directory, version
        self.placement_keys = more.get("placement_keys", [])  # the siblings that put it here
        self.unplaced = more.get("unplaced", False)  # shown where its content says, for it has no placement
        self.members = more.get("members", ())  # of a directory: all that are shown as it
        self.union = ()  # the directories it is listed in
        self.group = None  # all that stands at its natural name
        self.equals = []  # names for which this one stands, for they show the same
        self.stood_for = False
        self.name = self.derivation = self.path = None


def pick(siblings):
    """The placement that is seen: a user's before one by rule, standing before removed, then the latest."""
    return max(siblings, key=lambda sibling: (not sibling[1].by_rule, not sibling[1].removed, sibling[0].version))


class View:
    def __init__(self, state):
        self.state = state
        self.cut = set()  # directories put elsewhere because of a cycle
        self.lost = set()  # directories whose parent nobody knows
        self.names = {}  # by file: its entries, one for each name
        self.copies = {}  # by file: its conflict copies
        self.paths = {}
        self.placements = {file: self._placements(versions) for file, versions in state.items()}
        self.files = []
        self.directories = {}
        self._place_directories()
        self._children = {}
        self._place_files()
        self._decide_what_is_visible()
        self._name_everything()

    @staticmethod
    def _placements(versions):
        by_slot = {}
        for key, value in versions.items():
            if key.register == "P":
                by_slot.setdefault(key.slot, []).append((key, value))
        return by_slot

    def _place_directories(self):
        for file, by_slot in self.placements.items():
            if any(value.kind == "d" for siblings in by_slot.values() for _, value in siblings):
                key, value = pick(by_slot[0])
                removed = any(sibling.removed for _, sibling in by_slot[0])
                self.directories[file] = Directory(value.parent, value.name, value.was, key.version, removed)
            else:
                self.files.append(file)
        self.directories[RECOVERED] = Directory(ROOT, "Recovered", None, (0, 0, 0), True)
        while cycle := self._find_cycle():
            self._cut(cycle)
        for file, directory in self.directories.items():
            if directory.parent != ROOT and directory.parent not in self.directories:
                directory.parent = RECOVERED
                self.lost.add(file)

    def _find_cycle(self):
        good = {ROOT}
        for start in self.directories:
            path, at = [], start
            while at not in good and at in self.directories and at not in path:
                path.append(at)
                at = self.directories[at].parent
            if at in path:
                return path[path.index(at) :]
            good.update(path)
        return None

    def _cut(self, cycle):
        """The latest member that was elsewhere goes back there; if all have gone back, the latest goes to Recovered."""
        latest = lambda file: (self.directories[file].version, file)

        def may_go_back(file):
            directory = self.directories[file]
            return file not in self.cut and directory.was and directory.was[0] != directory.parent

        back = [file for file in cycle if may_go_back(file)]
        if back:
            file = max(back, key=latest)
            self.directories[file].parent, self.directories[file].name = self.directories[file].was
        else:
            file = max(cycle, key=latest)
            self.directories[file].parent = RECOVERED
        self.cut.add(file)

    def known(self, directory):
        return directory if directory == ROOT or directory in self.directories else RECOVERED

    def _place_files(self):
        for file in self.files:
            groups = self._contents(file)
            if not groups:
                continue
            winner = groups.pop()
            last, content = max(winner, key=lambda version: version[0].version)
            picked = {slot: pick(siblings) for slot, siblings in self.placements[file].items()}
            stands = [(slot, key.version, p.parent, p.name, False) for slot, (key, p) in sorted(picked.items())]
            stands = stands or [(0, last.version, content.at[0], content.at[1], True)]
            for index, (slot, version, directory, name, unplaced) in enumerate(stands):
                directory = self.known(directory)
                keys = [key for key, _ in self.placements[file].get(slot, [])]
                self._stand(
                    Entry("f", file, file, slot, content.value, [k for k, _ in winner], name, directory, version,
                          placement_keys=keys, unplaced=unplaced), self.names)  # fmt: skip
                for group in groups if index == 0 else []:
                    first = min(key.version for key, _ in group)
                    id = copy_id(file, (first[0], first[1] + 1, first[2]), hlc(first[0]))
                    self._stand(
                        Entry("c", id, file, 0, group[0][1].value, [k for k, _ in group], name, directory, first),
                        self.copies)  # fmt: skip

    def _stand(self, entry, of_file):
        self._children.setdefault(entry.directory, []).append(entry)
        of_file.setdefault(entry.file, []).append(entry)

    def _contents(self, file):
        """Equal living contents together, the one that is seen last. What users wrote hides what was written by rule."""
        contents = [(key, value) for key, value in self.state[file].items() if key.register == "C"]
        chosen = [c for c in contents if not c[1].by_rule] or contents
        groups = {}
        for key, content in chosen:
            if content.value is not None:
                groups.setdefault(content.value, []).append((key, content))
        return sorted(groups.values(), key=lambda group: max(key.version for key, _ in group))

    def _decide_what_is_visible(self):
        below = {}
        for file, directory in self.directories.items():
            below.setdefault(directory.parent, []).append(file)
        self.below, self.visible = below, {}

        def decide(file):
            inside = [decide(child) for child in below.get(file, [])]
            self.visible[file] = not self.directories[file].removed or bool(self._children.get(file)) or any(inside)
            return self.visible[file]

        for file in below.get(ROOT, []):
            decide(file)

    def _name_everything(self):
        root = Entry("d", ROOT, ROOT, 0, None, [], "", 0, (0, 0, 0), members=(ROOT,))
        root.path = ""
        self.paths[""] = root
        todo = [root]
        while todo:
            parent = todo.pop()
            for entry in self._listing(parent.members):
                entry.path = parent.path + "/" + entry.name
                assert entry.path not in self.paths, entry.path
                self.paths[entry.path] = entry
                if entry.kind == "d":
                    todo.append(entry)

    def _listing(self, union):
        at_name, directories, derived = {}, {}, []
        for member in union:
            for entry in self._children.get(member, []):
                entry.union = union
                if entry.kind == "c":
                    derived.append(entry)
                else:
                    at_name.setdefault(entry.natural, []).append(entry)
            for child in self.below.get(member, []):
                if self.visible[child]:
                    directories.setdefault(self.directories[child].name, []).append(child)
        taken, listed = set(at_name) | set(directories), []
        for name in taken:
            files = sorted(at_name.get(name, []), key=lambda e: (e.version, e.file, e.slot), reverse=True)
            group = list(files)
            if name in directories:
                ids = tuple(sorted(directories[name], key=lambda d: (self.directories[d].removed, d)))
                first = self.directories[ids[0]]
                shown = Entry("d", ids[0], ids[0], 0, None, [], name, first.parent, first.version, members=ids)
                shown.union, shown.name = union, name
                group.append(shown)
                listed.append(shown)
            first_with = {}
            for index, entry in enumerate(files):
                if entry.value in first_with:
                    entry.stood_for = True
                    first_with[entry.value].equals.append(entry)
                    continue
                first_with[entry.value] = entry
                if index == 0 and name not in directories:
                    entry.name = name
                    listed.append(entry)
                else:
                    derived.append(entry)
            for entry in group:
                entry.group = group
        return listed + self._derive(derived, set(taken))

    @staticmethod
    def _derive(entries, taken):
        for entry in entries:
            entry.derivation = derived_name(entry.natural, entry.version)
        entries.sort(key=lambda e: (e.derivation, e.version, e.id, e.slot))
        for entry in entries:
            name, number = entry.derivation, 1
            while name in taken:
                number += 1
                name = "%s-%d" % (entry.derivation, number)
            taken.add(name)
            entry.name = name
        return entries

    def shown(self):
        """{path: content}; directories have None."""
        return {path: entry.value for path, entry in self.paths.items()}

    def hidden(self):
        """Living versions that show nothing: of files without content, and of removed directories that nothing revives."""
        found = set()
        for file in self.files:
            if file not in self.names:
                found |= {(file, key) for key in self.state[file]}
        for file in self.directories:
            if file in self.state and not self.visible.get(file, True):
                found |= {(file, key) for key in self.state[file]}
        return found
