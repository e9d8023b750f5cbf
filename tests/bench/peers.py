"""Side by side: tmpfs, the in-memory FUSE file system, rclone's mount, Ourobox, restic."""

import contextlib
import os
import pathlib
import random
import select
import statistics
import subprocess
import time

from places import Device, Restic, fail, memory_fs, rclone_mount, run, timed
import trees

DURABLE_FILES = 1000
LARGE_MIB = 1024
STREAM_MIB = 512
PATIENCE_S = 240
FIRST_ENTRY_S_MAX = 120
ROUND_TRIPS = 9


class Table:
    """Rows of figures by column; lower is better where a ratio is made."""

    COLUMNS = ["tmpfs", "memory fs", "rclone mount", "restic", "ourobox"]

    def __init__(self):
        self.rows = {}

    def note(self, row, column, value):
        """One more measurement of a cell."""
        self.rows.setdefault(row, {}).setdefault(column, []).append(value)

    def median(self, row, column):
        """The median of a cell, or none."""
        values = self.rows.get(row, {}).get(column)
        return statistics.median(values) if values else None

    def show(self, unit_of):
        """The table as text, with what Ourobox is to each other column."""
        print("| work | " + " | ".join(self.COLUMNS) + " | others / ourobox |")
        print("| --- |" + " --- |" * (len(self.COLUMNS) + 1))
        for row, cells in self.rows.items():
            shown, ratios, own = [], [], self.median(row, "ourobox")
            for column in self.COLUMNS:
                if column not in cells:
                    shown.append("")
                    continue
                median = self.median(row, column)
                spread = f" ({unit_of(row, min(cells[column]))}–{unit_of(row, max(cells[column]))})" if len(cells[column]) > 1 else ""
                shown.append(unit_of(row, median) + spread)
                if own and column != "ourobox":
                    ratios.append(f"{median / own:.2g}× {column}")
            print(f"| {row} | " + " | ".join(shown) + " | " + ", ".join(ratios) + " |", flush=True)


def unit_of(row, value):
    """A value as its row is counted."""
    if "MiB/s" in row:
        return f"{value:.0f}"
    if "memory" in row:
        return f"{value:.0f} MiB"
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.3g} ms"


def walks(table, column, tree, flat, flat_too=True):
    """Walks over a tree that the file system has not answered for yet, and again; the first entry of a flat directory."""
    files = table.files
    table.note(f"cold `find -ls` of {files} files", column, patient(lambda: trees.walk(tree)))
    table.note(f"warm `find -ls` of {files} files", column, patient(lambda: trees.walk(tree)))
    if flat_too:
        table.note(f"first entry of a directory of {files}", column, trees.first_entry_s(flat))


def patient(work):
    """Seconds that it takes."""
    return timed(work)


def durable(table, column, folder, wait):
    """A thousand small files: from the last close until they are durable on the remote."""
    folder = pathlib.Path(folder) / "durable"
    folder.mkdir()
    bodies = [os.urandom(4096) for _ in range(DURABLE_FILES)]

    def write():
        for number, body in enumerate(bodies):
            trees.write(folder / f"{number:04}.bin", body)

    table.note(f"{DURABLE_FILES} files of 4 KiB: write and close", column, timed(write))
    table.note(f"{DURABLE_FILES} files of 4 KiB: durable after the last close", column, timed(wait))


def stream(table, column, folder):
    """A large file written and read: MiB per second; higher is better."""
    path, block = pathlib.Path(folder) / "stream.bin", random.Random(9).randbytes(1 << 20)

    def write():
        with open(path, "wb", buffering=0) as file:
            for _ in range(STREAM_MIB):
                file.write(block)

    def read():
        with open(path, "rb", buffering=0) as file:
            while file.read(1 << 20):
                pass

    table.note("sequential write, MiB/s", column, STREAM_MIB / timed(write))
    if os.geteuid() == 0:
        run("sync", path)
    table.note("sequential read, MiB/s", column, STREAM_MIB / timed(read))


def first_byte_s(path):
    """Seconds until the first 4 KiB of a file are there."""
    start = time.monotonic()
    with open(path, "rb", buffering=0) as file:
        if len(file.read(4096)) != 4096:
            fail(f"{path} is short")
    return time.monotonic() - start


def first_byte(table, s3, bucket, path):
    """The first bytes of a large file, and beside it what the server takes for a few bytes and for about one chunk of a pack."""
    table.note("first byte of a cold 1 GiB file", "ourobox", first_byte_s(path))
    name, size = s3.largest(bucket)
    for length, what in [(4096, "4 KiB"), (min(size, 1 << 20), "1 MiB")]:
        for seconds in s3.range_get_s(bucket, name, 0, length, ROUND_TRIPS):
            table.note(f"... the server's round trip for {what}, a plain client", "ourobox", seconds)


def local_sides(table, scratch):
    """What memory alone gives, and the protocol's limit."""
    plain = scratch / "plain"
    walks(table, "tmpfs", plain / "tree", plain / "flat")
    durable(table, "tmpfs", plain, lambda: None)
    stream(table, "tmpfs", plain)
    mount = scratch / "memory"
    with memory_fs(mount) as process:
        trees.tree(mount / "tree", table.files)
        trees.flat(mount / "flat", table.files)
        # What was created stands in the kernel's cache; a cold walk begins without it.
        drop_caches()
        walks(table, "memory fs", mount / "tree", mount / "flat")
        durable(table, "memory fs", mount, lambda: None)
        stream(table, "memory fs", mount)
        del process


def drop_caches():
    """The kernel forgets names and pages, where we may ask it to."""
    with contextlib.suppress(OSError):
        pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")


def rclone_side(table, scratch, s3):
    """rclone's mount over the same server; the tree is put under the server, so that nobody waits for its upload."""
    bucket = s3.bucket("rclone")
    trees.tree(s3.folder / bucket / "tree", table.files)
    trees.flat(s3.folder / bucket / "flat", table.files)
    (s3.folder / bucket / "large.bin").write_bytes(os.urandom(1 << 20) * LARGE_MIB)
    mount = scratch / "rclone/mount"
    with rclone_mount(s3, bucket, mount, scratch / "rclone/cache") as process:
        table.note("first byte of a cold 1 GiB file", "rclone mount", first_byte_s(mount / "large.bin"))
        walks(table, "rclone mount", mount / "tree", mount / "flat", flat_too=table.files <= 20_000)
        if table.files > 20_000:
            begun = subprocess.Popen(["ls", "-U", str(mount / "flat")], stdout=subprocess.PIPE)
            start = time.monotonic()
            ready, _, _ = select.select([begun.stdout], [], [], FIRST_ENTRY_S_MAX)
            row = f"first entry of a directory of {table.files}"
            table.note(row if ready else row + " (rclone: given up)", "rclone mount", time.monotonic() - start)
            begun.kill()
            begun.wait()

        def arrived():
            end = time.monotonic() + PATIENCE_S
            there = s3.folder / bucket / "durable"
            while not there.is_dir() or len(os.listdir(there)) < DURABLE_FILES:
                if time.monotonic() > end:
                    fail("rclone's files did not arrive")
                time.sleep(0.02)

        durable(table, "rclone mount", mount, arrived)
        stream(table, "rclone mount", mount)
        table.note("peak memory, mount", "rclone mount", process.peak_mib())


def uploads(table, scratch, s3, rounds):
    """The first upload of many small files, and one changed file among them: Ourobox and restic in turns."""
    files, source = table.files, scratch / "plain/tree"
    some = next(os.path.join(folder, names[0]) for folder, _, names in os.walk(source) if names)
    for number in range(rounds):
        restic = Restic(s3, s3.bucket(f"restic-{number}"), scratch / f"restic-cache-{number}")
        wall, cpu, peak = restic.backup(source)
        table.note(f"first upload of {files} files", "restic", wall)
        table.note(f"first upload of {files} files: processor time", "restic", cpu)
        table.note("peak memory, upload", "restic", peak)
        trees.write(some, os.urandom(300))
        table.note("one changed file among them", "restic", restic.backup(source)[0])

        device = Device(scratch / f"upload-{number}", s3.box(s3.bucket(f"upload-{number}")))
        device.start()
        before, start = device.process.cpu_s(), time.monotonic()
        device.call("import", source, device.mount / "tree")
        table.note(f"first upload of {files} files", "ourobox", time.monotonic() - start)
        table.note(f"first upload of {files} files: processor time", "ourobox", device.process.cpu_s() - before)
        table.note("peak memory, upload", "ourobox", device.process.peak_mib())
        changed = device.mount / "tree" / os.path.relpath(some, source)

        def change(path=changed, here=device):
            trees.write(path, os.urandom(300))
            here.wait()

        table.note("one changed file among them", "ourobox", timed(change))
        device.stop()
        through = Device(scratch / f"through-{number}", s3.box(s3.bucket(f"through-{number}")))
        through.start()
        before, start = through.process.cpu_s(), time.monotonic()
        run("cp", "-r", source, through.mount / "tree")
        through.wait()
        table.note("... by cp through the mount", "ourobox", time.monotonic() - start)
        table.note("... by cp: processor time of the engine", "ourobox", through.process.cpu_s() - before)
        table.note("... by cp: peak memory", "ourobox", through.process.peak_mib())
        through.stop()


def ourobox_side(table, scratch, s3, rounds):
    """Ourobox: one device writes, fresh ones read."""
    bucket = s3.bucket("ourobox")
    writer = Device(scratch / "writer", s3.box(bucket))
    with writer.mounted() as mount:
        run("cp", "-r", scratch / "plain/tree", mount / "tree")
        run("cp", "-r", scratch / "plain/flat", mount / "flat")
        (mount / "large.bin").write_bytes(os.urandom(1 << 20) * 8)
        with open(mount / "large.bin", "wb", buffering=0) as file:
            dice = random.Random(7)
            for _ in range(LARGE_MIB):
                file.write(dice.randbytes(1 << 20))
        writer.wait()
        durable(table, "ourobox", mount, writer.wait)
        stream(table, "ourobox", mount)
        writer.wait()
        time.sleep(3)
        writer.wait()
    for number in range(rounds):
        reader = Device(scratch / f"reader-{number}", s3.box(bucket))
        table.note("fresh device: mount", "ourobox", reader.start())
        begin = time.monotonic()
        while not (reader.mount / "tree").is_dir():
            time.sleep(0.002)
        table.note("fresh device: content seen after the mount", "ourobox", time.monotonic() - begin)
        walks(table, "ourobox", reader.mount / "tree", reader.mount / "flat")
        first_byte(table, s3, bucket, reader.mount / "large.bin")
        table.note("peak memory, mount", "ourobox", reader.process.peak_mib())
        reader.stop()


def measure_uploads(scratch, s3, files, rounds):
    """The first upload alone; prints the table."""
    table = Table()
    table.files = files
    trees.tree(scratch / "plain/tree", files)
    uploads(table, scratch, s3, rounds)
    print("\n### First upload\n")
    table.show(unit_of)


def measure(scratch, s3, files, rounds):
    """All of it; prints the table."""
    table = Table()
    table.files = files
    trees.tree(scratch / "plain/tree", files)
    trees.flat(scratch / "plain/flat", files)
    local_sides(table, scratch)
    ourobox_side(table, scratch, s3, rounds)
    uploads(table, scratch, s3, rounds)
    rclone_side(table, scratch, s3)
    print("\n### Side by side\n")
    table.show(unit_of)
    return table
