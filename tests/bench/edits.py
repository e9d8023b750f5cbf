"""Scripts of edits that two people make to one tree without knowing of each other, and what must hold afterwards.

Each file's text is said once, so that it can be found again wherever a program puts it. What must hold is what people expect of any
program that keeps folders in step, not how one of them names things:

* `keeps`      what somebody wrote, and nobody replaced or deleted who had seen it, is in some file
* `gone`       what was deleted or written over, and touched by nobody else, is not back
* `once`       a file or directory is in one place, however it was moved
* `at`         a new name or place that only one of them gave is in effect
* `has_mode`   a mode that was set is in effect
"""

import dataclasses
import os
import pathlib
import re
from collections.abc import Callable

LOST, BACK, TWICE, DROPPED, MODE = "lost edits", "came back", "twice", "renames dropped", "modes lost"
WRONGS = (LOST, BACK, TWICE, DROPPED, MODE)
# How the programs call what they put beside a file.
CONFLICT = re.compile(r"\.sync-conflict-|\(conflict[ _]")
CLOCK_BEHIND_S = 3 * 3600


# --- what people do; each is a function of the root ------------------------------------------------------------------


def write(path, text):
    """A file written in place, with its directories."""

    def act(root):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)

    return act


def save(path, text):
    """A file saved as editors do: a new one, renamed over the old."""

    def act(root):
        temporary = root / (path + ".saving")
        temporary.write_text(text)
        temporary.rename(root / path)

    return act


def behind(path, text):
    """A file written by somebody whose clock is three hours behind."""

    def act(root):
        write(path, text)(root)
        past = (root / path).stat().st_mtime - CLOCK_BEHIND_S
        os.utime(root / path, (past, past))

    return act


def remove(path):
    """A file deleted, or a directory with all in it."""

    def act(root):
        whole = root / path
        if not whole.is_dir():
            whole.unlink()
            return
        for folder, folders, files in os.walk(whole, topdown=False):
            for name in files:
                os.unlink(os.path.join(folder, name))
            for name in folders:
                os.rmdir(os.path.join(folder, name))
        whole.rmdir()

    return act


def move(source, target):
    """A file or directory renamed or moved; what stands at the target is replaced."""

    def act(root):
        (root / target).parent.mkdir(parents=True, exist_ok=True)
        (root / source).rename(root / target)

    return act


def mode(path, bits):
    """A mode set."""
    return lambda root: (root / path).chmod(bits)


# --- what is seen afterwards ------------------------------------------------------------------------------------------


class View:
    """A tree as a person sees it: directories, and files with text and mode, by path."""

    def __init__(self, root, ours=()):
        self.folders, self.files = set(), {}
        for folder, folders, files in os.walk(root):
            folders[:] = sorted(name for name in folders if name not in ours)
            below = pathlib.PurePath(folder).relative_to(root)
            self.folders.update(str(below / name) for name in folders)
            for name in files:
                path = os.path.join(folder, name)
                with open(path, encoding="utf-8") as file:
                    self.files[str(below / name)] = (file.read(), os.stat(path).st_mode & 0o7777)

    def __eq__(self, other):
        return (self.folders, self.files) == (other.folders, other.files)

    def places(self, text):
        """Paths of the files with this text."""
        return [path for path, (found, _) in self.files.items() if found == text]

    def conflicts(self):
        """Paths of the files and directories that a program put beside others."""
        return {path for path in self.folders | set(self.files) if CONFLICT.search(os.path.basename(path))}

    def differences(self, other):
        """Paths at which two views differ."""
        paths = set(self.files) | set(other.files)
        return {path for path in paths if self.files.get(path) != other.files.get(path)} | (self.folders ^ other.folders)


# --- what must hold; each is a function of a view that names what is wrong ------------------------------------------


def keeps(*texts):
    """These texts are in some file."""
    return lambda view: [(LOST, text) for text in texts if not view.places(text)]


def gone(*texts):
    """These texts are in no file."""
    return lambda view: [(BACK, text) for text in texts if view.places(text)]


def once(*texts):
    """Each text that is there at all is in one file."""
    return lambda view: [(TWICE, text) for text in texts if len(view.places(text)) > 1]


def one_folder(*names):
    """No directory of such a name is in two places."""

    def check(view):
        counts = {name: sum(os.path.basename(path) == name for path in view.folders) for name in names}
        return [(TWICE, f"{name}/") for name, count in counts.items() if count > 1]

    return check


def one_of_folders(*paths):
    """Of the names that a directory was given, one is there."""

    def check(view):
        there = [path for path in paths if path in view.folders]
        return [(TWICE, f"{path}/") for path in there[1:]]

    return check


def at(path, text):
    """The file of this text has this path."""
    return lambda view: [] if path in view.places(text) else [(DROPPED, f"{text} at {path}")]


def has_mode(text, *allowed):
    """The file of this text has one of these modes."""

    def check(view):
        modes = [view.files[path][1] for path in view.places(text)]
        return [(MODE, f"{bits:o} on {text}") for bits in modes if bits not in allowed]

    return check


@dataclasses.dataclass(frozen=True)
class Script:
    """What is there first, what A and B do apart, what must hold, and how many files beside others that may take."""

    title: str
    start: list[Callable]
    a: list[Callable]
    b: list[Callable]
    holds: list[Callable]
    needs: int = 0
    c: list[Callable] | None = None
    slow_clock: bool = False

    def devices(self):
        """How many devices it takes; three of them stand in a chain."""
        return 2 if self.c is None else 3

    def judge(self, views):
        """What is wrong, as (kind, what). Where devices differ nothing has been decided yet: then only what none of them has is wrong."""
        found = [set(wrong for check in self.holds for wrong in check(view)) for view in views]
        differ = any(view != views[0] for view in views)
        return sorted(wrong for wrong in set.intersection(*found) if wrong[0] == LOST or not differ)


FOLDER = [write("d/x.txt", "x"), write("d/y.txt", "y"), write("d/z.txt", "z")]

SCRIPTS = [
    Script(
        "edit / edit",
        [write("f.txt", "first")],
        [write("f.txt", "of A")],
        [write("f.txt", "of B, too")],
        [keeps("of A", "of B, too"), gone("first")],
        needs=1,
    ),
    Script(
        "atomic save / atomic save",
        [write("f.txt", "first")],
        [save("f.txt", "of A")],
        [save("f.txt", "of B, too")],
        [keeps("of A", "of B, too"), gone("first")],
        needs=1,
    ),
    Script(
        "same content written by both",
        [write("f.txt", "first")],
        [write("f.txt", "of both")],
        [write("f.txt", "of both")],
        [keeps("of both"), once("of both"), gone("first")],
    ),
    Script(
        "edit / edit, clock of B 3 h behind",
        [write("f.txt", "first")],
        [write("f.txt", "of A")],
        [behind("f.txt", "of B, too")],
        [keeps("of A", "of B, too"), gone("first")],
        needs=1,
        slow_clock=True,
    ),
    Script(
        "edit by B alone, clock 3 h behind",
        [write("f.txt", "first")],
        [],
        [behind("f.txt", "of B, too")],
        [keeps("of B, too"), gone("first")],
        slow_clock=True,
    ),
    Script(
        "edit / delete",
        [write("f.txt", "first")],
        [write("f.txt", "of A")],
        [remove("f.txt")],
        [keeps("of A"), gone("first")],
    ),
    Script(
        "delete directory / new file in it",
        FOLDER,
        [remove("d")],
        [write("d/new.txt", "new of B")],
        [keeps("new of B"), gone("x", "y", "z")],
    ),
    Script(
        "delete directory / edit in it",
        FOLDER,
        [remove("d")],
        [write("d/x.txt", "x of B")],
        [keeps("x of B"), gone("x", "y", "z")],
    ),
    Script(
        "rename / edit",
        [write("f.txt", "first")],
        [move("f.txt", "g.txt")],
        [write("f.txt", "of B, too")],
        [keeps("of B, too"), gone("first"), at("g.txt", "of B, too"), once("of B, too")],
    ),
    Script(
        "rename / rename of a file",
        [write("f.txt", "first")],
        [move("f.txt", "g.txt")],
        [move("f.txt", "h.txt")],
        [keeps("first"), once("first")],
    ),
    Script(
        "move / delete of a file",
        [write("f.txt", "first"), write("d/x.txt", "x")],
        [move("f.txt", "d/f.txt")],
        [remove("f.txt")],
        [keeps("x"), once("first")],
    ),
    Script(
        "rename over a file / edit of that file",
        [write("f.txt", "first"), write("g.txt", "other")],
        [move("g.txt", "f.txt")],
        [write("f.txt", "of B, too")],
        [keeps("other", "of B, too"), once("other", "of B, too"), gone("first")],
        needs=1,
    ),
    Script(
        "rename directory / edit in it",
        FOLDER,
        [move("d", "e")],
        [write("d/x.txt", "x of B")],
        [keeps("x of B", "y", "z"), gone("x"), at("e/x.txt", "x of B"), once("x of B", "y", "z"), one_of_folders("e", "d")],
    ),
    Script(
        "rename directory / new file in it",
        FOLDER,
        [move("d", "e")],
        [write("d/new.txt", "new of B")],
        [keeps("new of B", "x", "y", "z"), at("e/new.txt", "new of B"), once("x", "y", "z"), one_of_folders("e", "d")],
    ),
    Script(
        "rename directory / rename directory",
        FOLDER,
        [move("d", "e")],
        [move("d", "f")],
        [keeps("x", "y", "z"), once("x", "y", "z"), one_of_folders("e", "f", "d")],
    ),
    Script(
        "rename directory / rename a file in it",
        FOLDER,
        [move("d", "e")],
        [move("d/x.txt", "d/w.txt")],
        [keeps("x", "y", "z"), once("x", "y", "z"), at("e/w.txt", "x"), one_of_folders("e", "d")],
    ),
    Script(
        "P into Q / Q into P",
        [write("P/p.txt", "p"), write("Q/q.txt", "q")],
        [move("P", "Q/P")],
        [move("Q", "P/Q")],
        [keeps("p", "q"), once("p", "q"), one_folder("P", "Q")],
    ),
    Script(
        "two new files at one name",
        [write("other.txt", "other")],
        [write("f.txt", "of A")],
        [write("f.txt", "of B, too")],
        [keeps("of A", "of B, too")],
        needs=1,
    ),
    Script(
        "two new equal files at one name",
        [write("other.txt", "other")],
        [write("f.txt", "of both")],
        [write("f.txt", "of both")],
        [keeps("of both"), once("of both")],
    ),
    Script(
        "two new directories at one name",
        [write("other.txt", "other")],
        [write("d/a.txt", "a")],
        [write("d/b.txt", "b")],
        [keeps("a", "b"), at("d/a.txt", "a"), at("d/b.txt", "b")],
    ),
    Script(
        "new file / new directory at one name",
        [write("other.txt", "other")],
        [write("n", "file of A")],
        [write("n/b.txt", "b")],
        [keeps("file of A", "b")],
        needs=1,
    ),
    Script(
        "mode / mode",
        [write("f.txt", "first"), mode("f.txt", 0o644)],
        [mode("f.txt", 0o600)],
        [mode("f.txt", 0o755)],
        [keeps("first"), once("first"), has_mode("first", 0o600, 0o755)],
    ),
    Script(
        "mode / edit",
        [write("f.sh", "first"), mode("f.sh", 0o644)],
        [mode("f.sh", 0o755)],
        [write("f.sh", "of B, too")],
        [keeps("of B, too"), gone("first"), has_mode("of B, too", 0o755)],
    ),
    Script(
        "A - B - C: edit / rename directory / edit",
        [*FOLDER, write("f.txt", "first")],
        [write("f.txt", "of A"), remove("d/z.txt")],
        [move("d", "e")],
        [
            keeps("of A", "of C, at length", "x", "y of C"),
            gone("first", "y", "z"),
            once("of A", "of C, at length", "x", "y of C"),
            at("e/y.txt", "y of C"),
            one_of_folders("e", "d"),
        ],
        needs=1,
        c=[write("f.txt", "of C, at length"), write("d/y.txt", "y of C")],
    ),
]
