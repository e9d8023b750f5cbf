"""What is alive: versions of placements, contents and attributes, by file. Commits add versions and name those they replace."""

from collections import namedtuple

ROOT, RECOVERED = 1, 2
COUNTER_FIRST = 16
LATER = 1 << 62  # the stamp of what is not sealed yet

# A version is (stamp, device, seq). A register is ("P", slot) for where a name stands, ("C", 0) and ("A", 0).
Key = namedtuple("Key", "register slot version")
Placement = namedtuple("Placement", "parent name was kind by_rule removed")
Content = namedtuple("Content", "value at by_rule")  # value None: a conflict copy that was removed before it was a file
Commit = namedtuple("Commit", "device seq stamp known added replaced")


def apply(state, commit):
    """Takes a commit into a state {file: {key: value}}."""
    for file, key in commit.replaced:
        drop(state, file, key)
    for file, key, value in commit.added:
        state.setdefault(file, {})[key] = value


def drop(state, file, key):
    """Removes one version, and the file with its last one."""
    versions = state.get(file, {})
    versions.pop(key, None)
    if file in state and not versions:
        del state[file]


def state_of(commits):
    state = {}
    for commit in commits:
        apply(state, commit)
    return state


def _rotate(word, by):
    return (word >> by | word << (32 - by)) & 0xFFFFFFFF


def _blake3_of_one_block(data):
    """The first eight bytes of the BLAKE3 hash of at most 64 bytes, as a number."""
    chaining = [0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19]
    block = data.ljust(64, b"\0")
    words = [int.from_bytes(block[i : i + 4], "little") for i in range(0, 64, 4)]
    mix = chaining + chaining[:4] + [0, 0, len(data), 1 | 2 | 8]

    def quarter(a, b, c, d, x, y):
        for word, turn, other in ((x, 16, 12), (y, 8, 7)):
            mix[a] = (mix[a] + mix[b] + word) & 0xFFFFFFFF
            mix[d] = _rotate(mix[d] ^ mix[a], turn)
            mix[c] = (mix[c] + mix[d]) & 0xFFFFFFFF
            mix[b] = _rotate(mix[b] ^ mix[c], other)

    lanes = [(0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15)]
    lanes += [(0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)]
    for _ in range(7):
        for i, lane in enumerate(lanes):
            quarter(*lane, words[2 * i], words[2 * i + 1])
        words = [words[i] for i in (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)]
    return (mix[0] ^ mix[8]) | (mix[1] ^ mix[9]) << 32


_copy_ids = {}


def copy_id(file, version, stamp):
    """The id of the conflict copy of a content of a file, by the earliest version that holds it."""
    known = (file, version)
    if known not in _copy_ids:
        _, device, seq = version
        parts = ((file, 8), (stamp, 8), (device, 4), (seq, 8))
        data = b"".join(number.to_bytes(length, "little") for number, length in parts)
        _copy_ids[known] = _blake3_of_one_block(data) | 1 << 63
    return _copy_ids[known]
