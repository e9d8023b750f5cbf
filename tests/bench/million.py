"""A million files: what a fresh device and an everyday change cost when the box is large."""

import os
import random
import statistics
import time

from latency import Latency
from places import Device, fail, remove, run, timed, until
import trees

SAVES = 200
TOUCHES = 1000
# Longer than this, and the run is given up.
IMPORT_S_MAX = 1800
INDEX_S_MAX = 300
# So long that what the engine itself does hardly counts beside it.
ROUND_TRIP_S = 0.1


class Report:
    """Lines of `what | figure | aim`."""

    def __init__(self):
        self.lines = []

    def add(self, what, figure, aim=""):
        """One line, told at once."""
        self.lines.append((what, figure, aim))
        print(f"| {what} | {figure} | {aim} |", flush=True)


def requests(stats):
    """All requests together."""
    return sum(stats["requests"].values())


def build(device, count, scratch, report):
    """Takes all files in by `ourobox import`, part by part; returns the directories made, as they are in the box, with their files."""
    large, flat = count * 3 // 10, count // 10
    parts = {"archive": (large, 11), "camera": (flat, None), "home": (count - large - flat, 12)}
    process, made, seconds = device.process, [], 0
    before = process.cpu_s()
    for name, (files, seed) in parts.items():
        source = scratch / name
        if seed is None:
            trees.flat(source, files)
        else:
            made += [(device.mount / os.path.relpath(folder, scratch), n) for folder, n in trees.tree(source, files, seed=seed)]
        seconds += timed(lambda source=source, name=name: device.call("import", source, device.mount / name, limit_s=IMPORT_S_MAX))
        remove(source)
    report.add(f"{count} files taken in by `ourobox import`", f"{seconds:.0f} s, {count / seconds:.0f}/s")
    report.add("... processor time of the engine", f"{process.cpu_s() - before:.1f} s")
    report.add("... peak memory of the engine", f"{process.peak_mib():.0f} MiB")
    stats = device.stats()
    cost = f"{stats['bytes_out'] / 1e6:.0f} MB, {requests(stats)} requests, {stats['checkpoints']} checkpoints"
    report.add("... to the remote", f"{cost}, {stats['index_bytes_out'] / 1e6:.1f} MB of it index")
    return made


def fresh(folder, remote, made, report):
    """Devices that have never seen the box, and fetch the index only as they need it."""
    wanted, entries = max(made, key=lambda found: found[1])
    inside = wanted.relative_to(folder / "writer/mount")
    for name, ready in (("at once", False), ("once the upper levels of the index are here", True)):
        device = Device(folder / f"alone-{name.split()[1]}", remote, OUROBOX_NO_INDEX_FETCH="1")
        report.add("fresh device: mount", f"{device.start() * 1000:.0f} ms", "< 1 s")
        before = {"requests": {"get": 0}, "bytes_in": 0}
        if ready:
            until("the root of the box", lambda: (device.mount / "home").is_dir())
            time.sleep(1)
            before = device.stats()
        start = time.monotonic()
        # What is not there yet is not there: a device that knows nothing of its box shows an empty one.
        until("the directory", lambda: (device.mount / inside).is_dir())
        run("ls", "-l", device.mount / inside)
        seconds, after = time.monotonic() - start, device.stats()
        if len(os.listdir(device.mount / inside)) != entries:
            fail(f"{inside} has not {entries} entries")
        gets, bytes_in = after["requests"]["get"] - before["requests"]["get"], after["bytes_in"] - before["bytes_in"]
        cost = f"{gets} GET, {bytes_in / 1e3:.0f} KB, {seconds * 1000:.0f} ms"
        # At once, also those by which the device learns what is new, and what comes in the background.
        report.add(f"fresh device: first ls of an unseen directory of {entries}, {name}", cost, "≤ 5 sequential requests, ≤ 300 KB")
        device.stop()


def fresh_far_away(folder, s3, bucket, made, report):
    """The same at once after the mount and with a round trip that counts, as it is and without any fetching in the background."""
    wanted, entries = max(made, key=lambda found: found[1])
    inside = wanted.relative_to(folder / "writer/mount")
    for name, fetches in (("as it is", "leaves"), ("without the background", "all")):
        far = Latency(s3.port, ROUND_TRIP_S)
        device = Device(folder / f"far-{fetches}", s3.box(bucket, far.port), OUROBOX_NO_INDEX_FETCH=fetches)
        before, start = len(far.requests), time.monotonic()
        device.start()
        until("the directory", lambda: (device.mount / inside).is_dir())
        run("ls", "-l", device.mount / inside)
        end = time.monotonic()
        nodes = [request for request in far.requests[before:] if "/nodes/" in request[1]]
        start = min((sent for sent, _, _ in nodes), default=start)
        trips = f"{(end - start) / ROUND_TRIP_S:.1f} round trips of {ROUND_TRIP_S * 1000:.0f} ms"
        cost = f"{trips} from the first node of the index that was asked for, {len(nodes)} nodes, {sum(n for _, _, n in nodes) / 1e3:.0f} KB"
        report.add(f"fresh device far away: first ls of that directory, at once, {name}", cost, "≤ 5 sequential requests, ≤ 300 KB")
        device.stop()
        far.end()


def saves(device, report):
    """One file saved again and again, each save alone."""
    folder = device.mount / "home/saves"
    folder.mkdir()
    device.wait()
    puts, sizes, waits, checkpoints = [], [], [], 0
    for number in range(SAVES):
        before = device.stats()
        body = os.urandom(10240)
        trees.write(folder / f"save-{number % 20}.bin", body)
        waits.append(timed(device.wait))
        after = device.stats()
        if after["checkpoints"] != before["checkpoints"]:
            checkpoints += 1
            continue
        puts.append(after["requests"]["put"] - before["requests"]["put"])
        sizes.append(after["bytes_out"] - before["bytes_out"])
    figure = f"{statistics.median(puts):.0f} PUT, {statistics.median(sizes) / 1024:.1f} KiB"
    report.add(f"a saved 10 KiB file, median of {len(puts)}", figure, "1 PUT, ≤ 12 KB")
    report.add("... durable after", f"{statistics.median(waits) * 1000:.0f} ms (most {max(waits) * 1000:.0f})")
    report.add("checkpoints in that time", str(checkpoints))


def touches(device, made, report):
    """A thousand files all over the tree get a new time."""
    device.wait()
    dice, folders = random.Random(3), [folder for folder, _ in made]
    chosen = []
    for folder in dice.sample(folders, min(TOUCHES, len(folders))):
        chosen.append(os.path.join(folder, dice.choice(os.listdir(folder))))
    while len(chosen) < TOUCHES:
        folder = dice.choice(folders)
        chosen.append(os.path.join(folder, dice.choice(os.listdir(folder))))
    before = device.stats()
    start = time.monotonic()
    for path in chosen:
        os.utime(path)
    device.wait()
    seconds, after = time.monotonic() - start, device.stats()
    bytes_out = after["bytes_out"] - before["bytes_out"]
    if after["checkpoints"] != before["checkpoints"]:
        bytes_out -= after["last_checkpoint"]["bytes"]
    report.add(f"{len(chosen)} scattered touches", f"{bytes_out / 1e3:.0f} KB, {seconds:.2f} s", "< 150 KB")


def rename(device, count, report):
    """A directory with much below it gets a new name."""
    device.wait()
    before = device.stats()
    start = time.monotonic()
    os.rename(device.mount / "archive", device.mount / "archive 2020")
    device.wait()
    seconds, after = time.monotonic() - start, device.stats()
    puts = after["requests"]["put"] - before["requests"]["put"]
    bytes_out = after["bytes_out"] - before["bytes_out"]
    figure = f"{puts} PUT, {bytes_out} bytes, {seconds * 1000:.0f} ms"
    report.add(f"renaming a directory with {count * 3 // 10} files below", figure, "1 PUT, < 1 KB")


def walk(device, count, report):
    """All of it listed with attributes, and what the engine holds meanwhile."""
    process = device.process
    at_rest = process.rss_mib()
    process.forget_peak()
    first, again = timed(lambda: trees.walk(device.mount)), timed(lambda: trees.walk(device.mount))
    peak = process.peak_mib()
    found = int(run("sh", "-c", f"find '{device.mount}' | wc -l"))
    if found <= count:
        fail(f"find sees {found} entries, and there are {count} files")
    report.add(f"find -ls of all {found} entries, and again", f"{first:.1f} s, {again:.1f} s")
    report.add("... memory of the engine at rest, and at most meanwhile", f"{at_rest:.0f}, {peak:.0f} MiB", "< 200 MiB")


def measure(scratch, s3, count):
    """All of it, in order; returns the report."""
    report = Report()
    print(f"\n### {count} files\n\n| what | figure | aim |\n| --- | --- | --- |")
    bucket = s3.bucket("million")
    writer = Device(scratch / "writer", s3.box(bucket))
    writer.start()
    made = build(writer, count, scratch / "source", report)
    writer.wait()
    fresh(scratch, s3.box(bucket), made, report)
    fresh_far_away(scratch, s3, bucket, made, report)
    saves(writer, report)
    touches(writer, made, report)
    rename(writer, count, report)
    writer.stop()
    # While it joins it would fetch a part of the index already, unmeasured.
    reader = Device(scratch / "reader", s3.box(bucket), OUROBOX_NO_INDEX_FETCH="1")
    del reader.env["OUROBOX_NO_INDEX_FETCH"]
    began = time.monotonic()
    reader.start()
    until("the whole index", lambda: reader.status()["index_complete"], limit_s=INDEX_S_MAX, every_s=0.05)
    stats = reader.stats()
    figure = f"{time.monotonic() - began:.1f} s, {stats['bytes_in'] / 1e6:.1f} MB, {requests(stats)} requests"
    report.add("fresh device: whole index here", figure)
    walk(reader, count, report)
    reader.stop()
    report.add("the same device: mount again", f"{reader.start() * 1000:.0f} ms", "< 1 s")
    reader.stop()
    return report
