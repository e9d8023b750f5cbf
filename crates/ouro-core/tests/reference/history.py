#!/usr/bin/env python3
"""Random histories of the model, one after another, as lines for whoever replays them.

    history.py FIRST COUNT

Fields are separated by tabs. `history SEED DEVICES`, then what happens: an operation and its device, then what is seen after it.
Devices are counted from 1.
"""

import random
import sys

from device import Device
from rendering import hlc
from state import RECOVERED, apply, state_of


class History:
    def __init__(self, seed, emit, project_rules=True):
        self.random, self.seed, self.emit, self.project_rules = random.Random(seed), seed, emit, project_rules
        self.now, self.written, self.log, self.devices = 0, 0, {}, []
        count = self.random.choice([2, 2, 3, 3, 4])
        far_ahead = self.random.random() < 0.15
        emit("history", seed, count)
        for i in range(count):
            self.add_device(1000 if far_ahead and i == count - 1 else self.random.choice([0, 0, -20, 20]))
        self.checkpoint = self.away = None
        self.moving = False

    def add_device(self, skew):
        device = Device(len(self.devices), skew, self.project_rules)
        self.devices.append(device)
        self.log[device.number] = []
        return device

    def number(self):
        self.written += 1
        return self.written

    # What is told

    def tell(self, what, device, *fields):
        self.emit(what, device.number + 1, *fields)

    def tell_view(self, device):
        entries = sorted(device.view.paths.items())[1:]
        self.tell("see", device, len(entries))
        for path, entry in entries:
            ids = ",".join(str(id) for id in entry.members or (entry.id,))
            self.emit(path, entry.kind, ids, entry.value or "")

    def act(self, device, what, action, *arguments):
        """Does an operation and tells it, with the counter from which the device takes ids."""
        self.tell(what, device, device.counter, *arguments)
        action(device, *arguments)
        self.tell_view(device)

    # What happens

    def run(self):
        r = self.random
        learns, seals, steps = r.choice([0.05, 0.15, 0.3]), r.choice([0.1, 0.25, 0.5]), r.randint(15, 45)
        if r.random() < 0.2 and len(self.devices) > 2:
            self.away = len(self.devices) - 1
        if r.random() < 0.7:
            self.begin_together()
        self.moving = r.random() < 0.5
        for _ in range(steps):
            self.step(learns, seals)
        for device in self.devices:
            self.seal(device)
        for device in self.devices:
            self.pull(device, True)
        self.emit("end")

    def begin_together(self):
        r, first = self.random, self.devices[0]
        for parent, name in [("", "a"), ("", "b"), ("/a", "c"), ("/b", "d")][: r.randint(2, 4)]:
            self.act(first, "mkdir", Device.make_directory, parent + "/" + name)
        for _ in range(r.randint(1, 4)):
            parent = r.choice(self.directories(first))
            path = parent.path + "/" + r.choice("abcd")
            if path not in first.view.paths:
                self.act(first, "create", Device.create, path, "v%d" % self.number())
                self.number()  # the write itself has a number too
        self.seal(first)
        for device in self.devices:
            self.pull(device, True)

    def step(self, learns, seals):
        r = self.random
        self.now += r.choice([0, 1, 1, 3, 10])
        device = r.choice(self.devices)
        dice = r.random()
        self.operate(device)
        if r.random() < 0.5:
            device.save_journal()
            self.tell("journal", device)
        if r.random() < seals:
            self.seal(device)
        together = [d.number for d in self.devices if d.number != self.away]
        is_away = device.number == self.away
        if (not is_away or r.random() < 0.04) and r.random() < learns * 2:
            self.pull(device, r.random() < 0.5, None if is_away else together)
        if dice < 0.02:
            self.tell("crash", device)
            device.crash()
            self.tell_view(device)
        elif dice < 0.06:
            self.checkpoint = (dict(device.heads), state_of(device.known))
        elif dice < 0.08 and self.checkpoint and len(self.devices) < 5:
            self.join(together)
        elif dice < 0.16:
            self.purge(device)

    def directories(self, device):
        return sorted((e for e in device.view.paths.values() if e.kind == "d"), key=lambda e: e.path)

    def operate(self, device):
        r, view = self.random, device.view
        files = sorted((e for e in view.paths.values() if e.kind != "d"), key=lambda e: e.path)
        directories = self.directories(device)
        movable = [e for e in directories if e.path and RECOVERED not in e.members]
        hot = [e for e in files if e.kind == "c" or e.derivation or e.file in view.copies]
        target = r.choice(directories).path + "/" + r.choice("abcd")
        free = target not in view.paths
        values = [e.value for e in files]
        value = r.choice(values) if values and r.random() < 0.3 else "v%d" % self.number()
        entry = r.choice(hot) if hot and r.random() < 0.4 else (r.choice(files) if files else None)
        dice = r.random()
        if self.moving and r.random() < 0.5 and files:
            dice = r.uniform(0.68, 0.93)
        if dice < 0.2 or not files:
            if free:
                self.act(device, "create", Device.create, target, value)
                self.number()
        elif dice < 0.42:
            kind, action = ("edit", Device.edit) if r.random() < 0.6 else ("save", Device.save)
            self.act(device, kind, action, entry.path, value)
            self.number()
        elif dice < 0.52:
            self.act(device, "delete", Device.delete, entry.path)
        elif dice < 0.64:
            if free:
                self.act(device, "move", Device.move, entry.path, target)
        elif dice < 0.68:
            over = r.choice(files)
            if over.path != entry.path and over.id != entry.id and over.file != entry.file:
                self.act(device, "move over", Device.move_over, entry.path, over.path)
        elif dice < 0.74:
            if free:
                self.act(device, "mkdir", Device.make_directory, target)
        elif dice < 0.86 and movable:
            moved = r.choice(movable)
            if free and not (target.rsplit("/", 1)[0] + "/").startswith(moved.path + "/"):
                self.act(device, "move directory", Device.move_directory, moved.path, target)
        elif dice < 0.92 and movable:
            self.act(device, "remove all", Device.remove_all, r.choice(movable).path)
        elif dice < 0.96:
            if free:
                self.act(device, "link", Device.link, entry.path, target)
        else:
            mode = self.number()
            if entry.kind != "c":
                self.act(device, "mode", Device.change_mode, entry.path, mode)

    def seal(self, device):
        commit = device.seal(self.now)
        if commit is None:
            return
        self.log[device.number].append(commit)
        self.tell("seal", device, hlc(commit.stamp))
        self.emit_changes(commit.added, commit.replaced)
        self.tell_view(device)

    def emit_changes(self, added, replaced):
        for file, key, value in added:
            if key.register == "P":
                was = "%d/%s" % value.was if value.was else ""
                fields = (value.parent, value.name, was, int(value.by_rule), int(value.removed))
            elif key.register == "C":
                fields = (value.value or "", *value.at, int(value.by_rule))
            else:
                fields = (value,)
            self.emit("add", file, key.register, key.slot, *fields)
        for file, key in replaced:
            stamp, number, seq = key.version
            self.emit("replace", file, key.register, key.slot, hlc(stamp), number + 1, seq)

    def learn(self, device, commit):
        device.learn(commit, self.now)
        self.tell("learn", device, commit.device + 1, commit.seq)

    def pull(self, device, everything=False, only=None):
        while True:
            logs = [(n, log) for n, log in self.log.items() if n != device.number and (only is None or n in only)]
            nexts = [log[device.heads.get(n, 0)] for n, log in logs if device.heads.get(n, 0) < len(log)]
            nexts = [commit for commit in nexts if device.can_learn(commit)]
            if not nexts:
                break
            self.learn(device, self.random.choice(nexts))
            if not everything:
                break
        self.tell_view(device)

    def join(self, together):
        heads, state = self.checkpoint
        device = self.add_device(0)
        self.tell("join", device)
        device.heads, device.state = dict(heads), {file: dict(versions) for file, versions in state.items()}
        device.known = self.in_order([c for log in self.log.values() for c in log if c.seq <= heads.get(c.device, 0)])
        for commit in device.known:
            self.tell("learn", device, commit.device + 1, commit.seq)
        self.pull(device, True, together)

    def in_order(self, commits):
        """Some order in which every commit comes after those it was made on."""
        left, heads, ordered = list(commits), {}, []
        while left:
            ready = [c for c in left if c.seq == heads.get(c.device, 0) + 1
                     and all(heads.get(d, 0) >= seq for d, seq in c.known.items())]  # fmt: skip
            commit = self.random.choice(ready)
            left.remove(commit)
            heads[commit.device] = commit.seq
            ordered.append(commit)
        return ordered

    def purge(self, device):
        """Purges what is hidden and was hidden in what every living device knew at its newest commit."""
        self.seal(device)
        settled = None
        for number in [d.number for d in self.devices if d.number != self.away]:
            own = [c for c in device.known if c.device == number]
            if not own:
                return
            known = {**own[-1].known, number: own[-1].seq}
            settled = known if settled is None else {d: min(seq, known.get(d, 0)) for d, seq in settled.items()}
        commits = self.in_order([c for c in device.known if c.seq <= settled.get(c.device, 0)])
        purgeable = device.purgeable(state_of(commits))
        self.tell("purge", device, ",".join("%d:%d" % (d + 1, seq) for d, seq in sorted(settled.items())))
        view = device.view
        if any(file in view.directories for file, _ in purgeable):
            # Without a record in it a cycle is none any more, and what was put back for it would be in `Recovered/`.
            device.settle_cuts(view)
            gone = {file for file, _ in purgeable}
            for added in [added for added in device.added if added[0] in gone]:
                del device.added[added]
        for file, key in sorted(purgeable):
            device.replace(file, key)
        self.emit_changes([(file, key, value) for (file, key), value in device.added.items()], device.replaced)
        self.tell_view(device)
        self.seal(device)


def main():
    first, count = int(sys.argv[1]), int(sys.argv[2])
    for seed in range(first, first + count):
        lines = []
        History(seed, lambda *fields: lines.append("\t".join(map(str, fields)))).run()
        sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
