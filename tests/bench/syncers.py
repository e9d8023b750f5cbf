"""Programs that keep folders in step, each behind one face: make a group of devices, let them meet, part them.

A group has `roots` (what each device's user sees), `settle()` (all that the first device has is everywhere), `part()` (from now on they do
not hear of each other), `meet(order)` (they do again, in this order; returns when nothing moves any more) and `end()`.
"""

import json
import os
import socket
import subprocess
import time
import urllib.request

from places import OUROBOX, START_S, Device, Process, clock_behind, fail, run, until

QUIET_S = 1.5
SETTLED_MAX_S = 40


def free_port():
    """A port of 127.0.0.1 that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def neighbours(count):
    """Who meets whom: devices in a chain."""
    return list(zip(range(count - 1), range(1, count)))


def quiet(state, done, limit_s=SETTLED_MAX_S):
    """Waits until `done()` and `state()` has stayed the same for a while; says whether that came to be."""
    end, seen, since = time.monotonic() + limit_s, None, time.monotonic()
    while time.monotonic() < end:
        now = state()
        if now != seen or not done():
            seen, since = now, time.monotonic()
        elif time.monotonic() - since > QUIET_S:
            return True
        time.sleep(0.1)
    return False


# --- Unison -----------------------------------------------------------------------------------------------------------


class Unison:
    """Unison without a person at it: two local roots at a time."""

    ours = ()

    def __init__(self, title, *options):
        self.title, self.options = title, options
        self.version = run("unison", "-version").split()[2]

    def group(self, folder, count, _slow_clock):
        """Devices as folders; the archives beside them."""
        return UnisonGroup(self.options, folder, count)

    def end(self):
        """Nothing runs between the scripts."""


class UnisonGroup:
    """Folders that are compared two at a time."""

    def __init__(self, options, folder, count):
        self.options = ["-batch", "-ui", "text", "-confirmbigdel=false", "-auto", *options]
        self.env = os.environ | {"UNISON": str(folder / "archives"), "HOME": str(folder)}
        self.roots = [folder / name for name in "abc"[:count]]
        for root in self.roots:
            root.mkdir(parents=True)

    def _once(self, one, other):
        done = subprocess.run(
            ["unison", self.roots[one], self.roots[other], *self.options], env=self.env, capture_output=True, text=True, timeout=START_S
        )
        # 1: something was skipped; more: it failed.
        if done.returncode > 1:
            fail(f"unison ended with {done.returncode}: {done.stderr[-500:]}")

    def settle(self):
        """As `meet`, in order."""
        self.meet(range(len(self.roots)))

    def part(self):
        """It runs only when it is called."""

    def meet(self, order):
        """Every pair of neighbours, again until what the first learned has been everywhere."""
        pairs = neighbours(len(self.roots))
        for _ in range(len(self.roots)):
            for one, other in pairs if order[0] < order[-1] else [(b, a) for a, b in reversed(pairs)]:
                self._once(one, other)

    def end(self):
        """Nothing to end."""


# --- Syncthing --------------------------------------------------------------------------------------------------------

SYNCTHING_CONFIG = """<configuration version="36">
<gui enabled="true" tls="false"><address>127.0.0.1:{gui}</address><apikey>{key}</apikey></gui>
<options>
<listenAddress>tcp://127.0.0.1:{port}</listenAddress>
<globalAnnounceEnabled>false</globalAnnounceEnabled><localAnnounceEnabled>false</localAnnounceEnabled>
<relaysEnabled>false</relaysEnabled><natEnabled>false</natEnabled><startBrowser>false</startBrowser>
<urAccepted>-1</urAccepted><crashReportingEnabled>false</crashReportingEnabled><autoUpgradeIntervalH>0</autoUpgradeIntervalH>
<stunKeepaliveStartS>0</stunKeepaliveStartS><reconnectionIntervalS>1</reconnectionIntervalS>
</options></configuration>
"""


class Syncthing:
    """Syncthing with its own settings, but for traffic (none leaves 127.0.0.1) and for when it looks at a folder (when it is told to)."""

    ours = (".stfolder",)
    title = "Syncthing"

    def __init__(self, folder):
        self.version = run("syncthing", "--version").split()[1]
        self.nodes = [SyncthingNode(folder / name, name) for name in "abc"]
        for one, other in neighbours(len(self.nodes)):
            self.nodes[one].know(self.nodes[other])
            self.nodes[other].know(self.nodes[one])
        self.groups = 0

    def group(self, folder, count, _slow_clock):
        """A new shared folder between the running devices."""
        self.groups += 1
        return SyncthingGroup(self.nodes[:count], folder, f"script-{self.groups}")

    def end(self):
        """Ends the devices."""
        for node in self.nodes:
            node.process.end()


class SyncthingNode:
    """One running device, told what to do by its REST interface."""

    def __init__(self, home, name):
        env = os.environ | {"HOME": str(home), "STNOUPGRADE": "1"}
        run("syncthing", "generate", "--no-default-folder", f"--home={home}", env=env)
        self.id = run("syncthing", "--device-id", f"--home={home}", env=env).strip()
        self.name, self.key, self.port, gui = name, "k" * 32, free_port(), free_port()
        (home / "config.xml").write_text(SYNCTHING_CONFIG.format(gui=gui, port=self.port, key=self.key))
        self.url = f"http://127.0.0.1:{gui}/rest/"
        self.process = Process(["syncthing", "serve", f"--home={home}", "--no-browser", "--no-restart"], env, home / "log")
        until("Syncthing's interface", self._answers)

    def _answers(self):
        try:
            return self.ask("system/ping")["ping"] == "pong"
        except OSError:
            return False

    def ask(self, path, method="GET", body=None):
        """One call; its document, if it gives one."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method, headers={"X-API-Key": self.key})
        with urllib.request.urlopen(request, timeout=START_S) as answer:
            text = answer.read()
        return json.loads(text) if text.strip() else None

    def know(self, other):
        """Adds another device."""
        address = f"tcp://127.0.0.1:{other.port}"
        self.ask("config/devices", "POST", {"deviceID": other.id, "name": other.name, "addresses": [address]})

    def connected(self, other):
        """Whether there is a connection."""
        return self.ask("system/connections")["connections"].get(other.id, {}).get("connected", False)


class SyncthingGroup:
    """One folder, shared by neighbours."""

    def __init__(self, nodes, folder, name):
        self.nodes, self.name = nodes, name
        self.pairs = [(nodes[a], nodes[b]) for a, b in neighbours(len(nodes))]
        self.roots = [folder / node.name for node in nodes]
        for at, (node, root) in enumerate(zip(nodes, self.roots)):
            root.mkdir(parents=True)
            members = [{"deviceID": other.id} for other in nodes[max(at - 1, 0) : at + 2]]
            folder_of = {"id": name, "path": str(root), "fsWatcherEnabled": False, "devices": members}
            node.ask("config/folders", "POST", folder_of)

    def _scan(self, at):
        self.nodes[at].ask(f"db/scan?folder={self.name}", "POST")

    def _status(self):
        return [self.nodes[at].ask(f"db/status?folder={self.name}") for at in range(len(self.nodes))]

    def _state(self):
        told = ("state", "sequence", "needTotalItems", "globalFiles", "globalDirectories", "globalDeleted", "globalBytes", "localFiles")
        return [[status[what] for what in told] for status in self._status()]

    def _done(self):
        states = self._state()
        idle = all(state[0] == "idle" and state[2] == 0 for state in states)
        return idle and all(state[3:7] == states[0][3:7] for state in states)

    def settle(self):
        """As `meet`, in order."""
        self.meet(range(len(self.roots)))

    def part(self):
        """Pauses every connection."""
        for one, other in self.pairs:
            one.ask(f"system/pause?device={other.id}", "POST")
            other.ask(f"system/pause?device={one.id}", "POST")
            until("Syncthing parts", lambda one=one, other=other: not one.connected(other))

    def meet(self, order):
        """Every device looks at its folder; then they connect and finish, look again at what came of it, and finish."""
        for at in order:
            self._scan(at)
        for one, other in self.pairs:
            one.ask(f"system/resume?device={other.id}", "POST")
            other.ask(f"system/resume?device={one.id}", "POST")
            until("Syncthing meets", lambda one=one, other=other: one.connected(other) and other.connected(one))
        quiet(self._state, self._done)
        for at in order:
            self._scan(at)
        quiet(self._state, self._done)

    def end(self):
        """Takes the folder out; it is met by no later script."""
        for node in self.nodes:
            node.ask(f"config/folders/{self.name}", "DELETE")


# --- Ourobox ----------------------------------------------------------------------------------------------------------


class Ourobox:
    """Devices with a mount each and one folder as remote."""

    ours = ()
    title = "Ourobox"

    def __init__(self):
        self.version = run(OUROBOX, "--version").split()[-1]

    def group(self, folder, count, slow_clock):
        """Fresh devices; the second with a slow clock if that is wanted."""
        return OuroboxGroup(folder, count, slow_clock)

    def end(self):
        """Nothing runs between the scripts."""


class OuroboxGroup:
    """Each device reaches the remote by a way of its own, which can be taken away: a symlink."""

    def __init__(self, folder, count, slow_clock):
        self.remote, self.ways, self.devices = folder / "remote", [], []
        self.remote.mkdir(parents=True)
        for at, name in enumerate(("anna", "berta", "carla")[:count]):
            way = folder / f"way-of-{name}"
            way.symlink_to(self.remote)
            env = clock_behind("3h") if slow_clock and at == 1 else {}
            device = Device(folder / name, f"fs://{way}", **env)
            device.start()
            self.ways.append(way)
            self.devices.append(device)
        self.roots = [device.mount for device in self.devices]

    def _commits(self):
        logs = [json.loads(device.call("log", "-n", "1000", "--json"))["commits"] for device in self.devices]
        return [sorted(commit["id"] for commit in log) for log in logs]

    def _same(self):
        for device in self.devices:
            device.wait()
        commits = self._commits()
        return all(known == commits[0] for known in commits)

    def settle(self):
        """Everything is on the remote, and everybody knows it."""
        until("every device knows every commit", self._same, SETTLED_MAX_S, 0.1)

    def part(self):
        """Takes every way away."""
        for way in self.ways:
            way.unlink()

    def meet(self, order):
        """The ways come back one after another; each device is done before the next gets its own."""
        for at in order:
            self.ways[at].symlink_to(self.remote)
            self.devices[at].wait()
        self.settle()
        quiet(self._commits, lambda: True)

    def end(self):
        """Unmounts."""
        for device in self.devices:
            device.stop()
