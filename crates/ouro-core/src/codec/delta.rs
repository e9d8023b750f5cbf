//! Deltas: what commit records and the overlay's journal carry.
//!
//! Files are sorted, so an id costs its distance from the one before; places name their directory by its distance from the file. A place
//! that repeats the hint or the new placement is a flag. One edited file with one chunk is about 110 bytes, its locator 25.

use super::error::{DecodeError, invalid};
use super::sections::{Decoder, Encoder, split};
use super::value::{
    CONTENT_TAG_MAX, content_tag, kind_code, kind_of, read_attributes, read_content, read_place, write_attributes,
    write_content, write_place,
};
use crate::codec::Reader;
use crate::delta::{AddedContent, AddedPlacement, Delta, FileDelta, Register};
use crate::id::{FileId, Version};
use crate::state::Place;
use alloc::vec::Vec;

/// The number that deltas begin with.
const FORMAT: u8 = 1;
/// Fewest bytes of one file: id and flags.
const FILE_BYTES_MIN: usize = 2;

const HAS_HINT: u8 = 1 << 3;
const HAS_PLACEMENTS: u8 = 1 << 4;
const HAS_CONTENT: u8 = 1 << 5;
const HAS_ATTRIBUTES: u8 = 1 << 6;
const HAS_REPLACED: u8 = 1 << 7;

const BY_RULE: u8 = 1 << 3;
const REMOVED: u8 = 1 << 4;
const HAS_SLOT: u8 = 1 << 5;

const AT_SHIFT: u8 = 4;
const SPELLED_OUT: u8 = 0;
const SAME_AS_HINT: u8 = 1;
const SAME_AS_PLACEMENT: u8 = 2;

const WAS_NONE: u8 = 0;
const WAS_HINT: u8 = 1;
const WAS_SPELLED_OUT: u8 = 2;

/// Encodes a delta.
///
/// # Panics
/// If the delta is not what [`Delta`] promises: files, placements or replaced versions unsorted or twice. Its bytes could not be read.
pub fn encode_delta(delta: &Delta) -> Vec<u8> {
    assert!(delta.files.is_sorted_by(|a, b| a.id < b.id), "a delta names each file once, sorted by id");
    let mut to = Encoder::default();
    to.out.varint(delta.files.len() as u64);
    let mut next = 0u64;
    for file in &delta.files {
        to.out.varint(file.id.0 - next);
        next = file.id.0.wrapping_add(1);
        write_file(&mut to, file);
    }
    to.finish(&[FORMAT])
}

/// Decodes what [`encode_delta`] wrote.
///
/// # Errors
/// [`DecodeError`] for anything else.
pub fn decode_delta(bytes: &[u8]) -> Result<Delta, DecodeError> {
    let (logical, locators) = split(bytes)?;
    let mut input = Reader::new(logical);
    match input.u8()? {
        FORMAT => {}
        0 => return invalid("format of a delta"),
        format => return Err(DecodeError::NewerFormat { format }),
    }
    let mut from = Decoder::new(input, locators)?;
    let count = from.input.count(FILE_BYTES_MIN)?;
    // A decoded file is some hundred bytes where an encoded one may be two: grow with what is really there.
    let mut files = Vec::with_capacity(count.min(1024));
    let mut next = Some(0u64);
    for _ in 0..count {
        let distance = from.input.varint()?;
        let id = next.and_then(|n| n.checked_add(distance)).ok_or(DecodeError::TooLarge { what: "file id" })?;
        next = id.checked_add(1);
        files.push(read_file(&mut from, FileId(id))?);
    }
    from.finish()?;
    Ok(Delta { files })
}

/// Encodes the delta of one file: a row of the overlay's journal.
///
/// # Panics
/// As [`encode_delta`].
pub fn encode_file_delta(file: &FileDelta) -> Vec<u8> {
    let mut to = Encoder::default();
    to.out.varint(file.id.0);
    write_file(&mut to, file);
    to.finish(&[FORMAT])
}

/// How many files a delta names, without decoding them.
///
/// # Errors
/// [`DecodeError`] if it does not even begin like what [`encode_delta`] wrote.
pub fn count_delta_files(bytes: &[u8]) -> Result<usize, DecodeError> {
    let (logical, locators) = split(bytes)?;
    let mut input = Reader::new(logical);
    if input.u8()? != FORMAT {
        return invalid("format of a delta");
    }
    Decoder::new(input, locators)?.input.count(FILE_BYTES_MIN)
}

/// Decodes what [`encode_file_delta`] wrote.
///
/// # Errors
/// [`DecodeError`] for anything else.
pub fn decode_file_delta(bytes: &[u8]) -> Result<FileDelta, DecodeError> {
    let (logical, locators) = split(bytes)?;
    let mut input = Reader::new(logical);
    match input.u8()? {
        FORMAT => {}
        0 => return invalid("format of a delta"),
        format => return Err(DecodeError::NewerFormat { format }),
    }
    let mut from = Decoder::new(input, locators)?;
    let id = FileId(from.input.varint()?);
    let file = read_file(&mut from, id)?;
    from.finish()?;
    Ok(file)
}

fn write_file(to: &mut Encoder, file: &FileDelta) {
    let flag = |on: bool, bit: u8| if on { bit } else { 0 };
    to.out.u8(kind_code(file.kind)
        | flag(file.hint.is_some(), HAS_HINT)
        | flag(!file.placements.is_empty(), HAS_PLACEMENTS)
        | flag(file.content.is_some(), HAS_CONTENT)
        | flag(file.attributes.is_some(), HAS_ATTRIBUTES)
        | flag(!file.replaced.is_empty(), HAS_REPLACED));
    if let Some(hint) = &file.hint {
        write_place(&mut to.out, hint, file.id);
    }
    if !file.placements.is_empty() {
        assert!(file.placements.is_sorted_by(|a, b| a.slot < b.slot), "a delta places each link once, sorted by slot");
        to.out.varint(file.placements.len() as u64);
        file.placements.iter().for_each(|placement| write_placement(to, file, placement));
    }
    if let Some(content) = &file.content {
        let how = how_spelled(file.hint.as_ref(), &file.placements, &content.at);
        to.out.u8(content_tag(content.value.as_ref()) | flag(content.by_rule, BY_RULE) | how << AT_SHIFT);
        if how == SPELLED_OUT {
            write_place(&mut to.out, &content.at, file.id);
        }
        if let Some(value) = &content.value {
            write_content(to, value);
        }
    }
    if let Some(attributes) = &file.attributes {
        write_attributes(&mut to.out, attributes);
    }
    if !file.replaced.is_empty() {
        assert!(file.replaced.is_sorted_by(|a, b| a < b), "a delta names each replaced version once, sorted");
        to.out.varint(file.replaced.len() as u64);
        file.replaced.iter().for_each(|(register, version)| write_replaced(to, *register, *version));
    }
}

fn read_file(from: &mut Decoder<'_>, id: FileId) -> Result<FileDelta, DecodeError> {
    let flags = from.input.u8()?;
    let mut file = FileDelta::new(id, kind_of(flags & 7)?, None);
    if flags & HAS_HINT != 0 {
        file.hint = Some(read_place(&mut from.input, id)?);
    }
    if flags & HAS_PLACEMENTS != 0 {
        let count = some(from.input.count(4)?)?;
        for _ in 0..count {
            let placement = read_placement(from, &file)?;
            if file.placements.last().is_some_and(|before| before.slot >= placement.slot) {
                return invalid("placements not sorted");
            }
            file.placements.push(placement);
        }
    }
    if flags & HAS_CONTENT != 0 {
        file.content = Some(read_added_content(from, &file)?);
    }
    if flags & HAS_ATTRIBUTES != 0 {
        file.attributes = Some(read_attributes(&mut from.input)?);
    }
    if flags & HAS_REPLACED != 0 {
        let count = some(from.input.count(1)?)?;
        for _ in 0..count {
            let replaced = read_replaced(from)?;
            if file.replaced.last().is_some_and(|before| *before >= replaced) {
                return invalid("replaced versions not sorted");
            }
            file.replaced.push(replaced);
        }
    }
    Ok(file)
}

/// A list that a flag promised is not empty.
fn some(count: usize) -> Result<usize, DecodeError> {
    if count == 0 { invalid("an empty list written out") } else { Ok(count) }
}

fn how_spelled(hint: Option<&Place>, placements: &[AddedPlacement], at: &Place) -> u8 {
    if hint == Some(at) {
        SAME_AS_HINT
    } else if placements.first().is_some_and(|p| p.place == *at) {
        SAME_AS_PLACEMENT
    } else {
        SPELLED_OUT
    }
}

fn write_placement(to: &mut Encoder, file: &FileDelta, placement: &AddedPlacement) {
    let was = match &placement.was {
        None => WAS_NONE,
        Some(was) if Some(was) == file.hint.as_ref() => WAS_HINT,
        Some(_) => WAS_SPELLED_OUT,
    };
    let by_rule = if placement.by_rule { BY_RULE } else { 0 };
    let removed = if placement.removed { REMOVED } else { 0 };
    let has_slot = if placement.slot != 0 { HAS_SLOT } else { 0 };
    to.out.u8(was | by_rule | removed | has_slot);
    if placement.slot != 0 {
        to.out.varint(placement.slot);
    }
    write_place(&mut to.out, &placement.place, file.id);
    if let (WAS_SPELLED_OUT, Some(place)) = (was, &placement.was) {
        write_place(&mut to.out, place, file.id);
    }
}

fn read_placement(from: &mut Decoder<'_>, file: &FileDelta) -> Result<AddedPlacement, DecodeError> {
    let flags = from.input.u8()?;
    if flags & !(3 | BY_RULE | REMOVED | HAS_SLOT) != 0 {
        return invalid("flags of a placement");
    }
    let slot = if flags & HAS_SLOT != 0 { from.input.varint()? } else { 0 };
    if slot == 0 && flags & HAS_SLOT != 0 {
        return invalid("slot 0 written out");
    }
    let place = read_place(&mut from.input, file.id)?;
    let was = match flags & 3 {
        WAS_NONE => None,
        WAS_HINT if file.hint.is_some() => file.hint.clone(),
        WAS_SPELLED_OUT => Some(read_place(&mut from.input, file.id)?),
        _ => return invalid("flags of a placement"),
    };
    if flags & 3 == WAS_SPELLED_OUT && was == file.hint {
        return invalid("the hint spelled out again");
    }
    Ok(AddedPlacement { slot, place, was, by_rule: flags & BY_RULE != 0, removed: flags & REMOVED != 0 })
}

fn read_added_content(from: &mut Decoder<'_>, file: &FileDelta) -> Result<AddedContent, DecodeError> {
    let flags = from.input.u8()?;
    let (tag, how) = (flags & 7, flags >> AT_SHIFT);
    if tag > CONTENT_TAG_MAX || how > SAME_AS_PLACEMENT {
        return invalid("flags of a content");
    }
    let at = match (how, &file.hint, file.placements.first()) {
        (SPELLED_OUT, _, _) => read_place(&mut from.input, file.id)?,
        (SAME_AS_HINT, Some(hint), _) => hint.clone(),
        (SAME_AS_PLACEMENT, _, Some(placement)) => placement.place.clone(),
        _ => return invalid("flags of a content"),
    };
    if how_spelled(file.hint.as_ref(), &file.placements, &at) != how {
        return invalid("a place spelled out again");
    }
    Ok(AddedContent { value: read_content(from, tag)?, at, by_rule: flags & BY_RULE != 0 })
}

fn write_replaced(to: &mut Encoder, register: Register, version: Version) {
    let index = to.version_index(version) << 2;
    match register {
        Register::Placement { slot: 0 } => to.out.varint(index),
        Register::Placement { slot } => {
            to.out.varint(index | 1);
            to.out.varint(slot);
        }
        Register::Content => to.out.varint(index | 2),
        Register::Attributes => to.out.varint(index | 3),
    }
}

fn read_replaced(from: &mut Decoder<'_>) -> Result<(Register, Version), DecodeError> {
    let code = from.input.varint()?;
    let register = match code & 3 {
        0 => Register::Placement { slot: 0 },
        1 => match from.input.varint()? {
            0 => return invalid("slot 0 written out"),
            slot => Register::Placement { slot },
        },
        2 => Register::Content,
        _ => Register::Attributes,
    };
    Ok((register, from.versions.get(code >> 2)?))
}
