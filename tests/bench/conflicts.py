#!/usr/bin/env python3
"""The same scripts of edits on Syncthing, Unison and Ourobox: what became of them, as tables. `make peers` installs what it needs and calls it.

    tests/bench/conflicts.py [--only SYSTEM] [--script WORDS] [--show]

Each script is played twice, so that each device once writes first and is the first to meet the others: from a tree in step, two (or three)
devices are parted, everybody edits, they meet, and every device's tree is judged. --show prints the trees.
Environment: BENCH_DIR (scratch space, /dev/shm).
"""

import argparse
import collections
import os
import pathlib
import tempfile
import time

from edits import SCRIPTS, WRONGS, View
from places import remove
from syncers import Ourobox, Syncthing, Unison

# Between what the first and what the second writes, so that nobody's clock confuses them.
APART_S = 1.1
UNSYNCED = "left unsynced"


class Outcome:
    """What became of one script on one system, over both orders."""

    def __init__(self, script):
        self.script, self.copies, self.needless, self.unsynced, self.wrongs = script, 0, 0, 0, []

    def add(self, views):
        """One order's trees."""
        conflicts = set().union(*(view.conflicts() for view in views))
        self.copies += len(conflicts)
        self.needless += max(0, len(conflicts) - self.script.needs)
        self.unsynced += len(set().union(*(views[0].differences(view) for view in views[1:])))
        self.wrongs += self.script.judge(views)

    def told(self):
        """In a few words."""
        kinds = {kind for kind, _ in self.wrongs}
        words = [kind for kind in WRONGS if kind in kinds]
        if self.unsynced:
            words.append(UNSYNCED)
        if self.needless:
            words.append("needless copies")
        return ", ".join(words) or "right"


def play(script, system, scratch, order, show):
    """One script in one order; the devices' trees."""
    group = system.group(scratch, script.devices(), script.slow_clock)
    try:
        for act in script.start:
            act(group.roots[0])
        group.settle()
        deeds = [script.a, script.b] + ([script.c] if script.c else [])
        group.part()
        for at in order:
            for act in deeds[at]:
                act(group.roots[at])
            time.sleep(APART_S)
        group.meet(order)
        views = [View(root, system.ours) for root in group.roots]
    finally:
        group.end()
    if show:
        for name, view in zip("ABC", views):
            print(f"  {name}: {', '.join(f'{path}={text!r} {mode:o}' for path, (text, mode) in sorted(view.files.items()))}; {sorted(view.folders)}")
    return views


def examine(system, scripts, scratch, show):
    """Every script in both orders; an outcome for each."""
    outcomes = []
    for number, script in enumerate(scripts):
        outcome = Outcome(script)
        for step in (1, -1):
            folder = scratch / f"{number}-{step}"
            outcome.add(play(script, system, folder, list(range(script.devices()))[::step], show))
            remove(folder)
        outcomes.append(outcome)
        print(f"{system.title}: {script.title}: {outcome.told()}; {outcome.copies} conflict files; {sorted(set(outcome.wrongs))}", flush=True)
    return outcomes


def totals(results):
    """The table of sums."""
    rows = ["conflict files", "... of these needless", *WRONGS, UNSYNCED]
    print("\n| in all | " + " | ".join(title for title, _ in results) + " |\n| --- |" + " ---: |" * len(results))
    for row in rows:
        cells = []
        for _, outcomes in results:
            counts = collections.Counter(kind for outcome in outcomes for kind, _ in outcome.wrongs)
            counts["conflict files"] = sum(outcome.copies for outcome in outcomes)
            counts["... of these needless"] = sum(outcome.needless for outcome in outcomes)
            counts[UNSYNCED] = sum(outcome.unsynced for outcome in outcomes)
            cells.append(str(counts[row]))
        print(f"| {row} | " + " | ".join(cells) + " |")
    right = [f"{sum(outcome.told() == 'right' for outcome in outcomes)} of {len(outcomes)}" for _, outcomes in results]
    print("| scripts that end right in both orders | " + " | ".join(right) + " |")


def details(results):
    """The table of scripts."""
    print("\n| A / B | " + " | ".join(title for title, _ in results) + " |\n| --- |" + " --- |" * len(results))
    for row in zip(*(outcomes for _, outcomes in results)):
        print(f"| {row[0].script.title} | " + " | ".join(outcome.told() for outcome in row) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="one system: syncthing, unison, newer, copies, ourobox")
    parser.add_argument("--script", default="", help="only scripts whose title has these words")
    parser.add_argument("--show", action="store_true", help="print every tree")
    options = parser.parse_args()
    scripts = [script for script in SCRIPTS if options.script in script.title]
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="ourobox-peers-", dir=os.environ.get("BENCH_DIR", "/dev/shm")))
    systems = {
        "ourobox": Ourobox,
        "syncthing": lambda: Syncthing(scratch / "syncthing-nodes"),
        "unison": lambda: Unison("Unison"),
        "newer": lambda: Unison("Unison, newer wins", "-prefer", "newer", "-times"),
        "copies": lambda: Unison("Unison, newer wins, copies", "-prefer", "newer", "-times", "-copyonconflict"),
    }
    results = []
    try:
        for name, make in systems.items():
            if options.only not in (None, name):
                continue
            system = make()
            try:
                results.append((f"{system.title} {system.version}", examine(system, scripts, scratch / name, options.show)))
            finally:
                system.end()
        totals(results)
        details(results)
    finally:
        remove(scratch)


if __name__ == "__main__":
    main()
