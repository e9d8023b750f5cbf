//! Bytes of deltas, block lists and whatever else crosses a wall: one value has exactly one encoding.
//!
//! Everything is built from LEB128 varints (shortest form only), zigzag for signed differences, and byte strings with their length in front.
//! What refers to blobs is written in two sections: first the *logical* bytes (what things are), then the *locators* (where blobs lie), so
//! that a hash over the first survives a repack. Versions stand in a table of their own, in order of first use, and are named by index.
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
pub use delta::{decode_delta, decode_file_delta, encode_delta, encode_file_delta};
pub use error::DecodeError;
pub use file::{decode_row, encode_row};
pub use locators::{read_locator, write_locator};
