//! Inner nodes: for each child the last key below it and what it is.

use super::keys::{Keys, write_keys};
use super::reference::{NO_IDS, NodeRef, join_ids};
use crate::codec::locators::LocatorReader;
use crate::codec::{DecodeError, Reader, Writer};
use crate::id::{FileId, NodeId};
use crate::row::Key;
use alloc::vec::Vec;

/// Fewest bytes of a child: its id, rows and range of file ids.
const CHILD_BYTES_MIN: usize = 35;

/// Encodes the children of a node: `head, count, last keys, ids, rows, ranges of file ids`.
pub(super) fn encode_inner(head: &[u8], children: &[(Key, NodeRef)]) -> Vec<u8> {
    let mut out = Writer::with_capacity(children.len() * 64);
    out.raw(head);
    out.varint(children.len() as u64);
    write_keys(&mut out, children.iter().map(|(key, _)| key));
    children.iter().for_each(|(_, child)| out.raw(&child.id.0));
    children.iter().for_each(|(_, child)| out.varint(child.rows));
    let mut before = 0u64;
    for (_, child) in children {
        out.zigzag(child.ids.0.0.wrapping_sub(before) as i64);
        out.varint(child.ids.1.0.wrapping_sub(child.ids.0.0));
        before = child.ids.0.0;
    }
    out.into_vec()
}

/// Decodes the children of a node of `level`, from behind the head.
pub(super) fn decode_inner(
    mut input: Reader<'_>,
    locators: &[u8],
    level: u8,
) -> Result<(Keys, Vec<NodeRef>), DecodeError> {
    let child_level = level.checked_sub(1).ok_or(DecodeError::Invalid { what: "level" })?;
    let count = input.count(CHILD_BYTES_MIN)?;
    let keys = Keys::read(&mut input, count)?;
    let mut locators = LocatorReader::new(locators)?;
    let mut children = Vec::with_capacity(count);
    for _ in 0..count {
        let id = NodeId(input.array()?);
        children.push(NodeRef { id, level: child_level, rows: 0, ids: NO_IDS, at: locators.next()? });
    }
    for child in &mut children {
        child.rows = input.varint()?;
    }
    let mut before = 0u64;
    for child in &mut children {
        before = before.wrapping_add(input.zigzag()? as u64);
        child.ids = (FileId(before), FileId(before.wrapping_add(input.varint()?)));
    }
    input.finish()?;
    locators.finish()?;
    Ok((keys, children))
}

/// Rows and file ids below children.
pub(super) fn sum<'c>(children: impl Iterator<Item = &'c NodeRef>) -> (u64, (FileId, FileId)) {
    children.fold((0, NO_IDS), |(rows, ids), child| (rows.saturating_add(child.rows), join_ids(ids, child.ids)))
}
