"""Trees that look like somebody's files: names of words and numbers, 20 to 200 files to a directory, small unique contents."""

import os
import random

WORDS = (
    "invoice report holiday summer budget draft notes meeting scan letter photo recipe garden project plan review "
    "travel house school music contract tax memo lecture paper sketch design backup family birthday winter concert"
).split()
ENDINGS = ".txt .md .jpg .pdf .json .py .rs .html .csv .xml .log .odt".split()


def write(path, content):
    """Makes one file, by the fewest calls."""
    handle = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o644)
    os.write(handle, content)
    os.close(handle)


def content_of(dice, number, size):
    """`size` bytes, different for each number; as compressible as text is."""
    words = " ".join(dice.choices(WORDS, k=size // 12))
    unique = f"{number} {dice.getrandbits(256):x} "
    return (unique + words).encode().ljust(size, b".")[:size]


def name_of(dice, number):
    """A name as people and cameras give them."""
    return f"{dice.choice(WORDS)}-{dice.choice(WORDS)}-{number:06}{dice.choice(ENDINGS)}"


def directories(dice, count):
    """How `count` files are spread: (path of a directory, files in it), two levels deep."""
    left, number = count, 0
    while left > 0:
        files = min(left, dice.randint(20, 200))
        yield f"{dice.choice(WORDS)}-{number // 40:03}/{dice.choice(WORDS)}-{number:05}", files
        left -= files
        number += 1


def tree(root, count, size=200, seed=1):
    """Makes `count` files below `root`; returns its directories."""
    dice, number, made = random.Random(seed), 0, []
    upper = {}
    for path, files in directories(dice, count):
        group = path.split("/")[0].rsplit("-", 1)[1]
        folder = os.path.join(root, upper.setdefault(group, path.split("/")[0]), path.split("/")[1])
        os.makedirs(folder, exist_ok=True)
        made.append((folder, files))
        for _ in range(files):
            number += 1
            write(os.path.join(folder, name_of(dice, number)), content_of(dice, number, size))
    return made


def flat(root, count, size=200, seed=2):
    """One directory of `count` files."""
    dice = random.Random(seed)
    os.makedirs(root, exist_ok=True)
    for number in range(count):
        write(os.path.join(root, name_of(dice, number)), content_of(dice, number, size))


def walk(folder):
    """What `find -ls` does: a list and a stat of everything."""
    os.system(f"find '{folder}' -ls > /dev/null")


def first_entry_s(folder):
    """Seconds until the first entry of a directory is there."""
    import time

    start = time.monotonic()
    with os.scandir(folder) as entries:
        next(entries)
    return time.monotonic() - start
