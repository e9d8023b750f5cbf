//! Everything alive about a file, in full: what a tree's columns cannot hold, and rows by themselves.

use super::error::{DecodeError, invalid};
use super::sections::{Decoder, Encoder, split};
use super::value::{
    CONTENT_TAG_MAX, content_tag, kind_code, kind_of, read_attributes, read_content, read_name, read_place,
    write_attributes, write_content, write_name, write_place,
};
use crate::codec::Reader;
use crate::id::FileId;
use crate::row::{Header, Key, Row};
use crate::state::{AttributesVersion, ContentVersion, File, Place, Placement};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// The number that rows by themselves begin with.
const FORMAT: u8 = 1;

const ROW_RECORD: u8 = 0;
const ROW_REFERENCE: u8 = 1;
const ROW_HEADER: u8 = 2;

const HEADER_REMOVED: u8 = 1;
const HEADER_CUT: u8 = 2;

const AT_KEY: u8 = 1;
const HAS_WAS: u8 = 2;
const HAS_SLOT: u8 = 4;
const BY_RULE: u8 = 8;
const REMOVED: u8 = 16;
// Contents use the three lowest bits for their tag.
const CONTENT_AT_KEY: u8 = 16;

/// Encodes one row with its key: for keeping rows outside a tree.
///
/// # Panics
/// If the row is a record that is not normalized ([`File::normalize`]) or not the key's file.
pub fn encode_row(key: &Key, row: &Row) -> Vec<u8> {
    let mut to = Encoder::default();
    to.out.varint(key.directory.0);
    write_name(&mut to.out, &key.name);
    to.out.varint(key.file.0);
    to.out.varint(key.slot);
    write_row(&mut to, key, row);
    to.finish(&[FORMAT])
}

/// Decodes what [`encode_row`] wrote.
///
/// # Errors
/// [`DecodeError`] for anything else.
pub fn decode_row(bytes: &[u8]) -> Result<(Key, Row), DecodeError> {
    let (logical, locators) = split(bytes)?;
    let mut input = Reader::new(logical);
    match input.u8()? {
        FORMAT => {}
        0 => return invalid("format of a row"),
        format => return Err(DecodeError::NewerFormat { format }),
    }
    let mut from = Decoder::new(input, locators)?;
    let directory = FileId(from.input.varint()?);
    let name = read_name(&mut from.input)?;
    let key = Key { directory, name, file: FileId(from.input.varint()?), slot: from.input.varint()? };
    let row = read_row(&mut from, &key)?;
    from.finish()?;
    Ok((key, row))
}

/// Writes a row without its key.
pub(crate) fn write_row(to: &mut Encoder, key: &Key, row: &Row) {
    match row {
        Row::Record(file) => {
            assert_eq!(file.id, key.file, "a record stands under its file's id");
            to.out.u8(ROW_RECORD | kind_code(file.kind) << 2);
            write_file(to, key, file);
        }
        Row::Reference(kind) => to.out.u8(ROW_REFERENCE | kind_code(*kind) << 2),
        Row::Header(header) => {
            let removed = if header.removed { HEADER_REMOVED } else { 0 };
            let cut = if header.cut { HEADER_CUT } else { 0 };
            to.out.u8(ROW_HEADER | (removed | cut) << 2);
            write_place(&mut to.out, &header.shown, key.file);
        }
    }
}

/// Reads a row whose key is known.
pub(crate) fn read_row(from: &mut Decoder<'_>, key: &Key) -> Result<Row, DecodeError> {
    let tag = from.input.u8()?;
    Ok(match tag & 3 {
        ROW_RECORD => {
            let mut file = File::new(key.file, kind_of(tag >> 2)?);
            read_file(from, key, &mut file)?;
            Row::Record(Arc::new(file))
        }
        ROW_REFERENCE => Row::Reference(kind_of(tag >> 2)?),
        ROW_HEADER if tag >> 2 <= HEADER_REMOVED | HEADER_CUT => {
            let (removed, cut) = (tag >> 2 & HEADER_REMOVED != 0, tag >> 2 & HEADER_CUT != 0);
            Row::Header(Header { shown: read_place(&mut from.input, key.file)?, removed, cut })
        }
        _ => return invalid("kind of row"),
    })
}

fn write_file(to: &mut Encoder, key: &Key, file: &File) {
    let placed = |p: &Placement| (p.slot, p.version);
    assert!(
        file.placements.is_sorted_by(|a, b| placed(a) < placed(b))
            && file.contents.is_sorted_by(|a, b| a.version < b.version)
            && file.attributes.is_sorted_by(|a, b| a.version < b.version),
        "a record is normalized and holds each version once"
    );
    to.out.varint(file.placements.len() as u64);
    for placement in &file.placements {
        let at_key = is_at(&placement.place, key);
        let flag = |on: bool, bit: u8| if on { bit } else { 0 };
        to.out.u8(flag(at_key, AT_KEY)
            | flag(placement.was.is_some(), HAS_WAS)
            | flag(placement.slot != 0, HAS_SLOT)
            | flag(placement.by_rule, BY_RULE)
            | flag(placement.removed, REMOVED));
        to.version(placement.version);
        if placement.slot != 0 {
            to.out.varint(placement.slot);
        }
        if !at_key {
            write_place(&mut to.out, &placement.place, key.file);
        }
        if let Some(was) = &placement.was {
            write_place(&mut to.out, was, key.file);
        }
    }
    to.out.varint(file.contents.len() as u64);
    for content in &file.contents {
        let at_key = is_at(&content.at, key);
        let by_rule = if content.by_rule { BY_RULE } else { 0 };
        to.out.u8(content_tag(content.value.as_ref()) | by_rule | if at_key { CONTENT_AT_KEY } else { 0 });
        to.version(content.version);
        if !at_key {
            write_place(&mut to.out, &content.at, key.file);
        }
        if let Some(value) = &content.value {
            write_content(to, value);
        }
    }
    to.out.varint(file.attributes.len() as u64);
    for attributes in &file.attributes {
        to.version(attributes.version);
        write_attributes(&mut to.out, &attributes.value);
    }
}

fn read_file(from: &mut Decoder<'_>, key: &Key, file: &mut File) -> Result<(), DecodeError> {
    let count = from.input.count(2)?;
    for _ in 0..count {
        let placement = read_placement(from, key)?;
        let order = |p: &Placement| (p.slot, p.version);
        if file.placements.last().is_some_and(|before| order(before) >= order(&placement)) {
            return invalid("placements not sorted");
        }
        file.placements.push(placement);
    }
    let count = from.input.count(2)?;
    for _ in 0..count {
        let content = read_content_version(from, key)?;
        if file.contents.last().is_some_and(|before| before.version >= content.version) {
            return invalid("contents not sorted");
        }
        file.contents.push(content);
    }
    let count = from.input.count(11)?;
    for _ in 0..count {
        let version = from.version()?;
        if file.attributes.last().is_some_and(|before| before.version >= version) {
            return invalid("attributes not sorted");
        }
        file.attributes.push(AttributesVersion { version, value: read_attributes(&mut from.input)? });
    }
    Ok(())
}

fn read_placement(from: &mut Decoder<'_>, key: &Key) -> Result<Placement, DecodeError> {
    let flags = from.input.u8()?;
    if flags > (AT_KEY | HAS_WAS | HAS_SLOT | BY_RULE | REMOVED) {
        return invalid("flags of a placement");
    }
    let version = from.version()?;
    let slot = if flags & HAS_SLOT != 0 { from.input.varint()? } else { 0 };
    if flags & HAS_SLOT != 0 && slot == 0 {
        return invalid("slot 0 written out");
    }
    let place = read_place_or_key(from, key, flags & AT_KEY != 0)?;
    let was = if flags & HAS_WAS != 0 { Some(read_place(&mut from.input, key.file)?) } else { None };
    Ok(Placement { slot, version, place, was, by_rule: flags & BY_RULE != 0, removed: flags & REMOVED != 0 })
}

fn read_content_version(from: &mut Decoder<'_>, key: &Key) -> Result<ContentVersion, DecodeError> {
    let flags = from.input.u8()?;
    if flags & 7 > CONTENT_TAG_MAX || flags >> 5 != 0 {
        return invalid("flags of a content");
    }
    let version = from.version()?;
    let at = read_place_or_key(from, key, flags & CONTENT_AT_KEY != 0)?;
    Ok(ContentVersion { version, value: read_content(from, flags & 7)?, at, by_rule: flags & BY_RULE != 0 })
}

fn is_at(place: &Place, key: &Key) -> bool {
    place.parent == key.directory && place.name == key.name
}

fn read_place_or_key(from: &mut Decoder<'_>, key: &Key, at_key: bool) -> Result<Place, DecodeError> {
    if at_key {
        return Ok(Place { parent: key.directory, name: key.name.clone() });
    }
    let place = read_place(&mut from.input, key.file)?;
    if is_at(&place, key) { invalid("the key's place spelled out") } else { Ok(place) }
}
