//! The list of a big file's chunks, kept in a blob of its own.

use super::bytes::Reader;
use super::error::{DecodeError, invalid};
use super::locators::LocatorReader;
use super::sections::{join, split};
use super::value::BLOB_BYTES_MIN;
use crate::codec::Writer;
use crate::content::BlobRef;
use crate::id::BlobId;
use alloc::vec::Vec;

/// The number that block lists begin with.
const FORMAT: u8 = 1;

/// Encodes the chunks of a file in order: `format, count, ids, lengths`, then their locators.
pub fn encode_block_list(chunks: &[BlobRef]) -> Vec<u8> {
    let mut logical = Writer::with_capacity(8 + chunks.len() * 36);
    logical.u8(FORMAT);
    logical.varint(chunks.len() as u64);
    chunks.iter().for_each(|chunk| logical.raw(&chunk.id.0));
    chunks.iter().for_each(|chunk| logical.varint(u64::from(chunk.len)));
    let locators: Vec<_> = chunks.iter().map(|chunk| chunk.at).collect();
    join(logical.as_bytes(), &locators)
}

/// Decodes what [`encode_block_list`] wrote.
///
/// # Errors
/// [`DecodeError`] for anything else.
pub fn decode_block_list(bytes: &[u8]) -> Result<Vec<BlobRef>, DecodeError> {
    let (logical, locators) = split(bytes)?;
    let mut input = Reader::new(logical);
    match input.u8()? {
        FORMAT => {}
        0 => return invalid("format of a block list"),
        format => return Err(DecodeError::NewerFormat { format }),
    }
    let count = input.count(BLOB_BYTES_MIN)?;
    let mut locators = LocatorReader::new(locators)?;
    let mut chunks = Vec::with_capacity(count);
    for _ in 0..count {
        chunks.push(BlobRef { id: BlobId(input.array()?), len: 0, at: locators.next()? });
    }
    for chunk in &mut chunks {
        chunk.len = input.varint32("length of a chunk")?;
    }
    input.finish()?;
    locators.finish()?;
    Ok(chunks)
}
