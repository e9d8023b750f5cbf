#!/usr/bin/env python3
"""Figures for Ourobox beside its peers, measured in one run on this machine. `make bench` builds what it needs and calls it.

    tests/bench/bench.py [--only peers|uploads|million|history]

Environment: BENCH_FILES (files in each tree beside the peers, 100000), BENCH_MILLION (files of the large boxes, 1000000; 0 leaves them out),
BENCH_COMMITS (commits in the large box with a history, 10000), BENCH_ROUNDS (times that a fresh device is measured, 3), BENCH_DIR (scratch space, /dev/shm, so that no disk adds its noise).

Read the ratios: absolute times say little about another machine. The remote of all of them is the same S3 server on 127.0.0.1.
"""

import argparse
import os
import pathlib
import platform
import tempfile
import time

import history
import million
import peers
from places import ROOT, S3, remove, run


def cpu_model():
    """What /proc calls the processor."""
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["peers", "uploads", "million", "history"])
    options = parser.parse_args()
    files, large = int(os.environ.get("BENCH_FILES", 100_000)), int(os.environ.get("BENCH_MILLION", 1_000_000))
    rounds = int(os.environ.get("BENCH_ROUNDS", 3))
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="ourobox-bench-", dir=os.environ.get("BENCH_DIR", "/dev/shm")))
    commit = run("git", "-C", ROOT, "log", "-1", "--format=%h").strip()
    print(f"{cpu_model()}, {os.cpu_count()} cores, Linux {platform.release()}, commit {commit}, {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}")
    print(f"load average at the start {os.getloadavg()[0]:.1f}, {rounds} rounds, {files} files", flush=True)
    server = S3(scratch / "served")
    try:
        if options.only == "uploads":
            peers.measure_uploads(scratch / "peers", server, files, rounds)
        elif options.only not in ("million", "history"):
            peers.measure(scratch / "peers", server, files, rounds)
        if options.only in (None, "million") and large:
            million.measure(scratch / "million", server, large)
        if options.only in (None, "history") and large:
            history.measure(scratch / "history", large, int(os.environ.get("BENCH_COMMITS", 10_000)))
        print(f"\nload average at the end {os.getloadavg()[0]:.1f}")
    finally:
        server.process.end()
        remove(scratch)


if __name__ == "__main__":
    main()
