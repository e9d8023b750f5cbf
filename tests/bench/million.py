"""A million files: what a fresh device and an everyday change cost when the box is large."""

import os
import random
import statistics
import subprocess
import time

from places import Device, timed
import trees

SAVES = 200
TOUCHES = 1000


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


def build(device, count, report):
    """Writes all files through the mount of the first device."""
    mount, process = device.mount, device.process
    large, flat, rest = count * 3 // 10, count // 10, count - count * 3 // 10 - count // 10
    made = []

    def write():
        made.extend(trees.tree(mount / "archive", large, seed=11))
        trees.flat(mount / "camera", flat)
        made.extend(trees.tree(mount / "home", rest, seed=12))

    seconds = timed(write)
    report.add(f"{count} files written through the mount", f"{seconds:.0f} s, {count / seconds:.0f}/s")
    uploaded = timed(device.wait)
    report.add("until all is durable on the remote after that", f"{uploaded:.0f} s")
    report.add("engine, peak memory while writing", f"{process.peak_mib():.0f} MiB")
    stats = device.stats()
    report.add("bytes to the remote, requests", f"{stats['bytes_out'] / 1e6:.0f} MB, {requests(stats)}")
    return made


def fresh(device, made, report):
    """A device that has never seen the box, and fetches the index only as it needs it."""
    report.add("fresh device: mount", f"{device.start() * 1000:.0f} ms", "< 1 s")
    while device.stats()["requests"]["get"] == 0 or not os.listdir(device.mount):
        time.sleep(0.1)
    wanted = max((files, folder) for folder, files in made)[1]
    wanted = device.mount / os.path.relpath(wanted, made[0][0].split("/archive/")[0])
    time.sleep(1)
    before = device.stats()
    seconds = timed(lambda: subprocess.run(["ls", "-l", wanted], check=True, stdout=subprocess.DEVNULL))
    after = device.stats()
    entries = len(os.listdir(wanted))
    gets = after["requests"]["get"] - before["requests"]["get"]
    bytes_in = after["bytes_in"] - before["bytes_in"]
    cost = f"{gets} GET, {bytes_in / 1e3:.0f} KB, {seconds * 1000:.0f} ms"
    report.add(f"first ls of an unseen directory of {entries}", cost, "≤ 5 requests, ≤ 300 KB")


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


def walk(device, report, what):
    """All of it listed with attributes, and what the engine holds meanwhile."""
    process = device.process
    at_rest = process.rss_mib()
    process.forget_peak()
    first = timed(lambda: trees.walk(device.mount))
    again = timed(lambda: trees.walk(device.mount))
    report.add(f"{what}: find -ls of all, again", f"{first:.1f} s, {again:.1f} s")
    report.add(f"{what}: engine at rest, peak while walking", f"{at_rest:.0f}, {process.peak_mib():.0f} MiB", "< 200 MiB")


def measure(scratch, s3, count):
    """All of it, in order; returns the report."""
    report = Report()
    print(f"\n### {count} files\n\n| what | figure | aim |\n| --- | --- | --- |")
    bucket = s3.bucket("million")
    writer = Device(scratch / "writer", s3.box(bucket))
    writer.start()
    made = build(writer, count, report)
    time.sleep(3)
    writer.wait()
    stats = writer.stats()
    report.add("checkpoints so far, index bytes to the remote", f"{stats['checkpoints']}, {stats['index_bytes_out'] / 1e6:.1f} MB")
    alone = Device(scratch / "alone", s3.box(bucket), OUROBOX_NO_INDEX_FETCH="1")
    fresh(alone, made, report)
    alone.stop()
    saves(writer, report)
    touches(writer, made, report)
    rename(writer, count, report)
    writer.stop()
    reader = Device(scratch / "reader", s3.box(bucket))
    began = time.monotonic()
    reader.start()
    while not reader.status()["index_complete"]:
        time.sleep(0.05)
    stats = reader.stats()
    figure = f"{time.monotonic() - began:.1f} s, {stats['bytes_in'] / 1e6:.1f} MB, {requests(stats)} requests"
    report.add("fresh device: whole index here", figure)
    walk(reader, report, "reader")
    reader.stop()
    report.add("mount again", f"{reader.start() * 1000:.0f} ms", "< 1 s")
    reader.stop()
    return report
