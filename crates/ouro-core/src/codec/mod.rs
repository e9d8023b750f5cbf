//! Bytes of deltas, block lists and whatever else crosses a wall: one value has exactly one encoding.
//!
//! Everything is built from LEB128 varints (shortest form only), zigzag for signed differences, and byte strings with their length in front.
//! What refers to blobs is written in two sections: first the *logical* bytes (what things are), then the *locators* (where blobs lie), so
//! that a hash over the first survives a repack. Versions stand in a table of their own, in order of first use, and are named by index.
//!
//! # Bytes
//!
//! *Frame* of deltas, journal rows, rows and nodes: `length, logical section, locator section`. The logical section begins with a format byte.
//!
//! *Table of versions*: count; per version: milliseconds (± to the one before), `counter * 2 + (another device follows)`, the device's 4 bytes
//! (big endian) if so, seq (± to the one before). *Locators*: count of objects; per object a tag (0 pack, 1 node pack, 2 record) and 16
//! bytes, or 4 bytes of device number and the seq; then, unless there are none, per blob 0 or `object + 1`, ± offset to the end of the one
//! before in that object, stored length. *Place*: ± directory to the file's own id, a byte of length, the name.
//!
//! *Delta*: format 1, table of versions, count of files; per file: id - (id before + 1), flags (bits 0-2 kind, then hint, placements, content,
//! attributes, replaced), and what the flags say, in this order. *Journal row*: the same with one file, its id as it is.
//!
//! Decoders take bytes from strangers: they never panic, never allocate more than the input can justify, and refuse what an encoder
//! would not have written: longer varints, unsorted lists, unused table entries, trailing bytes.

mod block_list;
mod bytes;
mod delta;
mod error;
pub(crate) mod file;
pub(crate) mod locators;
pub(crate) mod sections;
pub(crate) mod value;
mod versions;

pub use block_list::{decode_block_list, encode_block_list};
pub use bytes::{Reader, Writer};
pub use delta::{count_delta_files, decode_delta, decode_file_delta, encode_delta, encode_file_delta};
pub use error::DecodeError;
pub use file::{decode_row, encode_row};
pub use locators::{read_locator, write_locator};
