"""Time in a large box: taking in what another device did meanwhile, comparing and listing commits, opening a state of a year ago."""

import json
import os
import random
import statistics
import subprocess
import time

from million import Report, requests
from places import Device, clock_behind, fail, timed, until
import trees

CHANGES = 1000
YEAR = "366d"
# Between two saves of the file whose log is asked for.
EVERY = 10
NEIGHBOURS = 20
TAIL = 20
CHECKPOINT_WITHIN = 5000
CHECKPOINT_BESIDE = 3


def ask(device, *arguments):
    """One verb's document."""
    return json.loads(device.call("--json", *arguments))


def cost(device, work):
    """Seconds, and seconds of the engine's processor time, that `work()` takes."""
    before = device.process.cpu_s()
    seconds = timed(work)
    return seconds, device.process.cpu_s() - before


def whole_index(device):
    """Waits until a device holds the whole index."""
    until("the whole index", lambda: device.status()["index_complete"], 600, 0.05)


def year_ago(device, source, count, report):
    """The import, and a first commit with a name, by a device whose clock is a year behind; the name of that commit's time."""
    now = dict(device.env)
    device.env |= clock_behind(YEAR)
    device.start()
    seconds = timed(lambda: device.call("import", source, device.mount / "tree"))
    report.add(f"{count} files imported", f"{seconds:.0f} s, {count / seconds:.0f}/s")
    # The commit's second is to be its own.
    time.sleep(1.1)
    (device.mount / "notes.txt").write_text("first\n")
    device.call("snapshot", "-m", "a year ago")
    moment = ask(device, "log", "-n", "1")["commits"][0]["time"]
    device.stop()
    device.env = now
    device.start()
    return moment.split(".")[0].replace(":", ".").rstrip("Z") + "Z"


def save_again_and_again(device, files, commits, report):
    """So many commits of one change each; every tenth of the file whose log is asked for."""
    dice = random.Random(5)

    def save():
        for number in range(commits):
            path = device.mount / "notes.txt" if number % EVERY == 0 else dice.choice(files)
            trees.write(path, f"{number} {dice.getrandbits(128):x}\n".encode())
            device.wait()

    seconds = timed(save)
    report.add(f"{commits} commits", f"{seconds:.0f} s, {seconds / commits * 1000:.0f} ms each")


def meeting(writer, other, way, remote, files, report):
    """Both change a thousand files of a thousand and a half without knowing of each other; the engine that takes the other's in is timed."""
    dice = random.Random(6)
    chosen = dice.sample(files, min(len(files), CHANGES * 3 // 2))
    third = len(chosen) // 3
    way.unlink()
    for path in chosen[third:]:
        trees.write(other.mount / path.relative_to(writer.mount), b"of the other, without knowing\n")
    for path in chosen[: 2 * third]:
        trees.write(path, b"of the writer\n")
    writer.call("snapshot", "-m", "of the writer")

    def met():
        way.symlink_to(remote)
        other.wait()
        until("what the writer did", lambda: "of the writer" in other.call("log", "-n", "10"), 120, 0.05)

    seconds, engine = cost(other, met)
    figure = f"{engine:.2f} s of processor time with sealing and publishing its own, {seconds:.2f} s in all"
    report.add(f"{2 * third} concurrent changes taken in against {2 * third} own, {third} files in both", figure, "< 0.5 s of engine time")
    conflicts = ask(other, "conflicts")["conflicts"]
    report.add("... conflicts listed", str(len(conflicts)), f"{third}")


def neighbours(device, report):
    """What differs between a commit and the one before it."""
    commits = [commit["id"] for commit in ask(device, "log", "-n", str(3 * NEIGHBOURS))["commits"]]
    alone = statistics.median(timed(lambda: device.call("stats")) for _ in range(NEIGHBOURS))
    before, times = device.process.cpu_s(), []
    for newer, older in list(zip(commits, commits[1:]))[-NEIGHBOURS:]:
        times.append(timed(lambda older=older, newer=newer: device.call("diff", older, newer)))
    engine = (device.process.cpu_s() - before) / NEIGHBOURS
    figure = f"{statistics.median(times) * 1000:.0f} ms for the command (`stats` takes {alone * 1000:.0f} ms), {engine * 1000:.0f} ms of the engine"
    report.add(f"diff of neighbouring commits, median of {NEIGHBOURS}", figure, "< 50 ms")


def log_of_a_path(device, commits, report):
    """All that was done to one file."""
    told = {}
    seconds, engine = cost(device, lambda: told.update(ask(device, "log", "-n", "1000000", device.mount / "notes.txt")))
    figure = f"{seconds:.2f} s for the command, {engine:.2f} s of the engine, {len(told['commits'])} commits found"
    report.add(f"log PATH over {commits} commits", figure, "< 1 s")


def old_state(device, what, moment, report):
    """The state of a year ago, by its time and by its name: its root, then a directory of it, then a file's bytes."""
    for way, name in (("time", moment), ("name", "a year ago")):
        old_state_called(device, device.mount / ".snapshots" / name, f"{what}, by {way}", report)


def old_state_called(device, oldest, what, report):
    """One of both."""

    def look():
        listed = sorted(os.listdir(oldest / "tree"))
        inner = oldest / "tree" / listed[0]
        folder = inner / sorted(os.listdir(inner))[0]
        subprocess.run(["ls", "-l", folder], check=True, stdout=subprocess.DEVNULL)
        with open(oldest / "notes.txt", encoding="utf-8") as file:
            if file.read() != "first\n":
                fail("the state of a year ago is another")

    seconds, engine = cost(device, look)
    report.add(f"{what}: a snapshot of a year and all those commits ago, listed and read", f"{seconds:.2f} s, {engine:.2f} s of the engine", "< 1 s")


def past_a_checkpoint(device, remote, files, report):
    """Goes on until a checkpoint was written and some commits after it; returns the records below it."""
    dice, begun = random.Random(8), device.stats()["checkpoints"]
    log = max((folder for folder in (remote / "log").iterdir()), key=lambda folder: len(os.listdir(folder)))
    for commits in range(1, CHECKPOINT_WITHIN):
        covered = sorted(os.listdir(log))
        trees.write(dice.choice(files), f"on {commits}\n".encode())
        device.wait()
        if device.stats()["checkpoints"] > begun:
            break
    else:
        fail(f"no checkpoint within {CHECKPOINT_WITHIN} commits")
    for number in range(TAIL):
        trees.write(dice.choice(files), f"after {number}\n".encode())
        device.wait()
    # The newest record that it covers is read for its hash and time; a checkpoint is made beside the next commits.
    below = [log / name for name in covered[:-CHECKPOINT_BESIDE]]
    report.add("commits until the next checkpoint, records below it", f"{commits}, {len(below)}")
    return below


def fresh_device(scratch, remote, below, report):
    """A device that joins where no record below the newest checkpoint can be read any more."""
    away = scratch / "records"
    away.mkdir()
    for record in below:
        record.rename(away / record.name)
    fresh = Device(scratch / "fresh", f"fs://{remote}")
    report.add("fresh device without those records: mount", f"{fresh.start() * 1000:.0f} ms", "< 1 s")
    seconds = timed(lambda: whole_index(fresh))
    stats = fresh.stats()
    report.add("... the whole index", f"{seconds:.1f} s, {stats['bytes_in'] / 1e6:.1f} MB, {requests(stats)} requests")
    for record in below:
        (away / record.name).rename(record)
    return fresh


def measure(scratch, count, commits):
    """All of it, in order; returns the report."""
    report = Report()
    print(f"\n### {count} files, {commits} commits\n\n| what | figure | aim |\n| --- | --- | --- |")
    source, remote = scratch / "source", scratch / "remote"
    trees.tree(source, count)
    remote.mkdir(parents=True)
    way = scratch / "way"
    way.symlink_to(remote)
    writer = Device(scratch / "writer", f"fs://{remote}")
    moment = year_ago(writer, source, count, report)
    folders = sorted(path for path in (writer.mount / "tree").iterdir())
    dice = random.Random(4)
    files = [path for folder in dice.sample(folders, min(len(folders), 40)) for path in sorted(folder.rglob("*.*")) if path.is_file()]
    other = Device(scratch / "other", f"fs://{way}")
    other.start()
    whole_index(other)
    save_again_and_again(writer, files, commits, report)
    until("one state", lambda: writer.stats()["digest"] == other.stats()["digest"], 120, 0.1)
    meeting(writer, other, way, remote, files, report)
    other.stop()
    neighbours(writer, report)
    log_of_a_path(writer, commits, report)
    old_state(writer, "the writer", moment, report)
    below = past_a_checkpoint(writer, remote, files, report)
    writer.stop()
    fresh = fresh_device(scratch, remote, below, report)
    writer.start()
    until("one state", lambda: writer.stats()["digest"] == fresh.stats()["digest"], 60, 0.1)
    old_state(writer, "after a restart", moment, report)
    writer.stop()
    until("the name of a year ago", lambda: (fresh.mount / ".snapshots" / "a year ago").exists() or looked(fresh), 300, 1)
    old_state(fresh, "a fresh device", moment, report)
    fresh.stop()
    return report


def looked(device):
    """Makes a fresh device fetch the records that it passed over."""
    device.call("diff", "a year ago", "now")
    return False
