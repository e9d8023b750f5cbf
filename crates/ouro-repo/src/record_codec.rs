//! The inside of a commit record, byte by byte.

use std::collections::BTreeMap;
use std::sync::Arc;

use ouro_core::codec::{decode_delta, encode_delta};
use ouro_core::content::{BlobRef, Content, Locator};
use ouro_core::delta::Delta;
use ouro_core::id::{BlobId, DeviceNo, Hlc, Line, RecordHash, Seq};
use ouro_core::tree::{read_node_ref, write_node_ref};

use crate::record::{Announcement, Body, MESSAGE_BYTES_MAX, Record};
use crate::wire::{
    BLOB_BYTES_MIN, DecodeError, Reader, Writer, invalid, read_blob, read_flag, read_rest, read_text, read_u64,
    write_blob, write_flag,
};

const DELTA: u8 = 1;
const DELTA_BLOBS: u8 = 2;
const CHECKPOINT: u8 = 3;

/// A blob inside a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InlineEntry {
    pub(crate) id: BlobId,
    /// Plain length in bytes.
    pub(crate) len: u32,
    /// Stored length in bytes.
    pub(crate) stored: u32,
}

/// The blobs inside a record, in the order in which they lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Directory {
    /// Hash of all of them as stored.
    pub(crate) hash: [u8; 16],
    pub(crate) entries: Vec<InlineEntry>,
}

pub(crate) fn encode(record: &Record, inline: &Directory) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.varint(u64::from(record.rules));
    writer.varint(u64::from(record.device.0));
    writer.varint(record.seq.0);
    writer.varint(u64::from(record.line.0));
    writer.raw(&record.hlc.0.to_le_bytes());
    writer.raw(&record.digest.to_le_bytes());
    writer.varint(record.acknowledged);
    writer.bytes(record.message.as_bytes());
    write_flag(&mut writer, record.previous.is_some());
    if let Some(previous) = &record.previous {
        writer.raw(&previous.0);
    }
    writer.varint(record.parents.len() as u64);
    for (device, seq, hash) in &record.parents {
        writer.varint(u64::from(device.0));
        writer.varint(seq.0);
        writer.raw(&hash.0);
    }
    writer.varint(inline.entries.len() as u64);
    for entry in &inline.entries {
        writer.raw(&entry.id.0);
        writer.varint(u64::from(entry.len));
        writer.varint(u64::from(entry.stored));
    }
    writer.raw(&inline.hash);
    match &record.body {
        Body::Delta(delta) => {
            writer.u8(DELTA);
            writer.raw(&encode_delta(delta));
        }
        Body::DeltaBlobs(blobs) => {
            writer.u8(DELTA_BLOBS);
            writer.varint(blobs.len() as u64);
            blobs.iter().for_each(|blob| write_blob(&mut writer, blob));
        }
        Body::Checkpoint(announcement) => {
            writer.u8(CHECKPOINT);
            write_announcement(&mut writer, announcement);
        }
    }
    writer.into_vec()
}

/// The rules a record was made by: they stand first, for what follows may be laid out by them.
pub(crate) fn rules(plain: &[u8]) -> Result<u32, DecodeError> {
    Reader::new(plain).varint32("rules")
}

pub(crate) fn decode(plain: &[u8]) -> Result<(Record, Directory), DecodeError> {
    let mut reader = Reader::new(plain);
    let rules = reader.varint32("rules")?;
    let device = DeviceNo(reader.varint32("device number")?);
    let seq = Seq(reader.varint()?);
    let line = Line(reader.varint32("line")?);
    let hlc = Hlc(read_u64(&mut reader)?);
    let digest = u128::from_le_bytes(reader.array()?);
    let acknowledged = reader.varint()?;
    let message = read_text(&mut reader, MESSAGE_BYTES_MAX)?;
    let previous = if read_flag(&mut reader)? { Some(RecordHash(reader.array()?)) } else { None };
    let count = reader.count(2 + 32)?;
    let mut parents = Vec::with_capacity(count);
    for _ in 0..count {
        parents.push((DeviceNo(reader.varint32("device number")?), Seq(reader.varint()?), RecordHash(reader.array()?)));
    }
    if !parents.is_sorted_by(|a, b| a.0 < b.0) {
        return Err(invalid("parents are not in order"));
    }
    let count = reader.count(32 + 2)?;
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        let (id, len) = (BlobId(reader.array()?), reader.varint32("length of a blob")?);
        entries.push(InlineEntry { id, len, stored: reader.varint32("stored length")? });
    }
    let inline = Directory { hash: reader.array()?, entries };
    let body = read_body(&mut reader)?;
    reader.finish()?;
    Ok((Record { rules, device, seq, line, parents, previous, hlc, message, digest, acknowledged, body }, inline))
}

fn read_body(reader: &mut Reader<'_>) -> Result<Body, DecodeError> {
    Ok(match reader.u8()? {
        DELTA => Body::Delta(decode_delta(read_rest(reader))?),
        DELTA_BLOBS => {
            let count = reader.count(BLOB_BYTES_MIN)?;
            Body::DeltaBlobs((0..count).map(|_| read_blob(reader)).collect::<Result<_, _>>()?)
        }
        CHECKPOINT => Body::Checkpoint(read_announcement(reader)?),
        _ => return Err(invalid("unknown kind of commit")),
    })
}

pub(crate) fn write_announcement(writer: &mut Writer, announcement: &Announcement) {
    write_flag(writer, announcement.root.is_some());
    if let Some(root) = &announcement.root {
        write_node_ref(writer, root);
    }
    writer.varint(announcement.covers.len() as u64);
    for (device, seq) in &announcement.covers {
        writer.varint(u64::from(device.0));
        writer.varint(seq.0);
    }
    writer.raw(&announcement.digest.to_le_bytes());
}

pub(crate) fn read_announcement(reader: &mut Reader<'_>) -> Result<Announcement, DecodeError> {
    let root = if read_flag(reader)? { Some(read_node_ref(reader)?) } else { None };
    let count = reader.count(2)?;
    let mut covers = Vec::with_capacity(count);
    for _ in 0..count {
        covers.push((DeviceNo(reader.varint32("device number")?), Seq(reader.varint()?)));
    }
    if !covers.is_sorted_by(|a, b| a.0 < b.0) {
        return Err(invalid("devices are not in order"));
    }
    Ok(Announcement { root, covers, digest: u128::from_le_bytes(reader.array()?) })
}

/// Gives references to inline blobs their places.
pub(crate) fn locate_inline(delta: &mut Delta, inline: &[(BlobId, Locator)]) {
    if inline.is_empty() {
        return;
    }
    let places: BTreeMap<BlobId, Locator> = inline.iter().copied().collect();
    let place = |blob: &mut BlobRef| {
        if blob.at.is_none() {
            blob.at = places.get(&blob.id).copied();
        }
    };
    for file in &mut delta.files {
        match file.content.as_mut().and_then(|content| content.value.as_mut()) {
            Some(Content::Chunks(chunks)) if chunks.iter().any(|chunk| chunk.at.is_none()) => {
                Arc::make_mut(chunks).iter_mut().for_each(place);
            }
            Some(Content::BlockList { list, .. }) => place(list),
            _ => {}
        }
    }
}
