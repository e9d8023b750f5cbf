"""What is measured and on what: the S3 server, Ourobox's devices, rclone's mount, the in-memory FUSE file system, restic."""

import contextlib
import hashlib
import hmac
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
OUROBOX = os.environ.get("OUROBOX_BINARY", str(TARGET / "release/ourobox"))
MEMORY = os.environ.get("OUROBOX_MEMORY_FS", str(TARGET / "release/examples/memory"))
RCLONE = os.environ.get("OUROBOX_RCLONE", str(ROOT / "target/tools/rclone"))
KEY, SECRET = "K" * 20, "S" * 40
START_S = 30
# No verb of the command takes longer, unless it is said.
CALL_S_MAX = 600


def fail(what):
    """Ends the run with one line."""
    sys.exit(f"{pathlib.Path(sys.argv[0]).stem}: {what}")


def run(*command, **options):
    """Runs a command to its end and fails with its output when it fails."""
    try:
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **options)
    except subprocess.TimeoutExpired as late:
        fail(f"{command} did not end within {late.timeout:.0f} s")
    if done.returncode != 0:
        fail(f"{command} failed ({done.returncode}): {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def timed(work):
    """Seconds that `work()` takes."""
    start = time.monotonic()
    work()
    return time.monotonic() - start


def until(what, condition, limit_s=START_S, every_s=0.005):
    """Waits until something is so."""
    end = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end:
            fail(f"waited {limit_s} s in vain: {what}")
        time.sleep(every_s)


class Process:
    """A process with its figures, ended with the block."""

    def __init__(self, command, env=None, log=None):
        out = open(log, "ab") if log else subprocess.DEVNULL
        self.child = subprocess.Popen([str(part) for part in command], env=env, stdout=out, stderr=out)

    def _status(self, field):
        for line in pathlib.Path(f"/proc/{self.child.pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) / 1024
        return 0.0

    def rss_mib(self):
        """Resident memory now."""
        return self._status("VmRSS")

    def peak_mib(self):
        """Most resident memory since the start, or since `forget_peak`."""
        return self._status("VmHWM")

    def forget_peak(self):
        """Begins a new peak."""
        pathlib.Path(f"/proc/{self.child.pid}/clear_refs").write_text("5")

    def cpu_s(self):
        """Seconds of processor time taken so far."""
        fields = pathlib.Path(f"/proc/{self.child.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self, sign=signal.SIGTERM):
        """Ends the process."""
        if self.child.poll() is None:
            self.child.send_signal(sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.child.wait(START_S)
        if self.child.poll() is None:
            self.child.kill()
            self.child.wait()


class S3:
    """A real S3 server over a folder: `rclone serve s3`. Each folder in it is a bucket."""

    def __init__(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        address = f"127.0.0.1:{self.port}"
        # Before it reads an object from a place a little behind its beginning, it would wait 20 ms for somebody to read what is before that.
        options = ["--vfs-cache-mode", "off", "--vfs-read-wait", "0"]
        self.process = Process([RCLONE, "serve", "s3", "--auth-key", f"{KEY},{SECRET}", "--addr", address, *options, folder])
        until("the S3 server", lambda: socket.socket().connect_ex(("127.0.0.1", self.port)) == 0)
        self.endpoint = f"http://{address}"

    def bucket(self, name):
        """Makes an empty bucket."""
        run(RCLONE, "mkdir", *self.options(), f":s3:{name}")
        return name

    def box(self, bucket, port=None):
        """The URI of a box in a bucket, by way of another port if there is one."""
        endpoint = f"http://127.0.0.1:{port}" if port else self.endpoint
        return f"s3://{bucket}/box?region=us-east-1&endpoint={endpoint}"

    def largest(self, bucket):
        """The name of the largest object in a bucket, and its bytes."""
        folder = self.folder / bucket
        size, path = max((path.stat().st_size, path) for path in folder.rglob("*") if path.is_file())
        return str(path.relative_to(folder)), size

    def range_get_s(self, bucket, name, offset, length, rounds):
        """Seconds that each of some ranged GETs of an object takes a plain client, on one connection that is open already."""
        client = http.client.HTTPConnection("127.0.0.1", self.port)
        path, times = f"/{bucket}/{name}", []
        for number in range(rounds + 1):
            headers = self.signed("GET", path) | {"Range": f"bytes={offset}-{offset + length - 1}"}
            start = time.monotonic()
            client.request("GET", path, headers=headers)
            answer = client.getresponse()
            # Some servers say 200 to a range and send just that all the same.
            if answer.status not in (200, 206) or len(answer.read()) != length:
                fail(f"a range of {name} could not be read: {answer.status}")
            # The first one opens the connection.
            times += [time.monotonic() - start] if number else []
        client.close()
        return times

    def signed(self, method, path):
        """The headers of a request without a body, signed (AWS Signature Version 4)."""
        now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        scope = f"{now[:8]}/us-east-1/s3/aws4_request"
        headers = {"host": f"127.0.0.1:{self.port}", "x-amz-content-sha256": "UNSIGNED-PAYLOAD", "x-amz-date": now}
        names, listed = ";".join(headers), "".join(f"{name}:{value}\n" for name, value in headers.items())
        canonical = f"{method}\n{path}\n\n{listed}\n{names}\nUNSIGNED-PAYLOAD"
        text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        key = f"AWS4{SECRET}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        credential = f"Credential={KEY}/{scope}, SignedHeaders={names}, Signature={signature}"
        return {**headers, "Authorization": f"AWS4-HMAC-SHA256 {credential}"}

    def options(self):
        """What rclone has to be told to reach it as `:s3:`."""
        keys = ["--s3-access-key-id", KEY, "--s3-secret-access-key", SECRET]
        return ["--config", "/dev/null", "--s3-provider", "Other", "--s3-endpoint", self.endpoint, *keys]


class Device:
    """One installation of Ourobox with a home and a mount of its own."""

    def __init__(self, folder, remote, **env):
        self.home, self.mount = folder / "home", folder / "mount"
        for made in (self.home, self.mount):
            made.mkdir(parents=True)
        credentials = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
        # As an engine in the background is started; here it runs in the foreground, so that its figures can be read.
        engine = {"OUROBOX_HOME": str(self.home), "MALLOC_ARENA_MAX": "2"}
        self.env = os.environ | engine | credentials | env
        self.log = folder / "log"
        secret = folder / "passphrase"
        secret.write_text("bench\n")
        secret.chmod(0o600)
        self.call("init", remote, "--box", "bench", "--device-name", folder.name, "--passphrase-file", secret)
        self.process = None

    def call(self, *arguments, limit_s=CALL_S_MAX):
        """Runs one verb of the command; gives up after a time."""
        return run(OUROBOX, *arguments, env=self.env, timeout=limit_s)

    def wait(self):
        """Returns when everything is durable on the remote."""
        self.call("wait", "--all")

    def stats(self):
        """Requests and bytes since the start."""
        return json.loads(self.call("stats", "--json"))["boxes"][0]

    def status(self):
        """How the box stands."""
        return json.loads(self.call("status", "--json"))["boxes"][0]

    def start(self):
        """Mounts the box; returns the seconds until it was there."""
        self.process = Process([OUROBOX, "fuse", "--foreground", self.mount, "--box", "bench"], self.env, self.log)

        def mounted():
            if self.process.child.poll() is not None:
                fail(f"the mount ended: {self.log.read_text()[-2000:]}")
            return os.path.ismount(self.mount)

        return timed(lambda: until("the mount", mounted, every_s=0.001))

    def stop(self):
        """Unmounts and ends the engine."""
        # A private mount namespace made meanwhile (a container, a sandbox) keeps a copy of the mount alive: then it never ends by itself.
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run([OUROBOX, "umount", str(self.mount)], env=self.env, timeout=START_S, check=False, capture_output=True)
        self.process.end()

    @contextlib.contextmanager
    def mounted(self):
        """Mounted for as long as the block lasts."""
        self.start()
        try:
            yield self.mount
        finally:
            self.stop()


def clock_behind(by):
    """The environment of an engine whose clock is so far behind, such as `3h` or `366d`."""
    found = sorted(pathlib.Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    if not found:
        fail("no libfaketime (scripts/bootstrap bench or peers installs it)")
    return {"LD_PRELOAD": str(found[0]), "FAKETIME": f"-{by}", "DONT_FAKE_MONOTONIC": "1"}


@contextlib.contextmanager
def mounted_by(command, mount):
    """A file system served by `command`."""
    mount.mkdir(parents=True)
    process = Process(command)
    try:
        until(f"the mount of {command[0]}", lambda: os.path.ismount(mount))
        yield process
    finally:
        subprocess.run(["fusermount3", "-u", "-z", str(mount)], check=False)
        process.end()


def memory_fs(mount):
    """The in-memory FUSE file system: the limit that the protocol sets."""
    return mounted_by([MEMORY, mount], mount)


def rclone_mount(s3, bucket, mount, cache):
    """rclone's mount of a bucket, with its full cache."""
    flags = ["--vfs-cache-mode", "full", "--cache-dir", cache]
    return mounted_by([RCLONE, "mount", *flags, *s3.options(), f":s3:{bucket}", mount], mount)


class Restic:
    """A restic repository in a bucket."""

    def __init__(self, s3, bucket, cache):
        self.env = os.environ | {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "RESTIC_PASSWORD": "bench",
            "RESTIC_REPOSITORY": f"s3:{s3.endpoint}/{bucket}/restic",
            "RESTIC_CACHE_DIR": str(cache),
        }
        run("restic", "init", env=self.env)

    def backup(self, folder):
        """Backs a folder up: wall seconds, processor seconds, peak MiB."""
        start = time.monotonic()
        child = subprocess.Popen(["restic", "backup", "-q", str(folder)], env=self.env)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = status
        wall = time.monotonic() - start
        if status != 0:
            fail(f"restic ended with {status}")
        return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def remove(folder):
    """Removes a folder and all in it."""
    shutil.rmtree(folder, ignore_errors=True)
