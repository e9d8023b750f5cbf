//! The second section: where blobs lie, one optional locator per blob in the order in which the logical section names them.
//!
//! Objects stand in a table in order of first use. A locator is its object's index + 1 (0: none), the distance from the end of the one
//! before in the same object, and the length: neighbours in a pack cost about four bytes. An empty table means that no blob has one.

use super::bytes::{Reader, Writer};
use super::error::{DecodeError, invalid};
use crate::content::{Locator, ObjectId};
use crate::id::{DeviceNo, PackId, Seq};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

/// Fewest bytes an object's name takes: a tag, a device number and a short seq.
const OBJECT_BYTES_MIN: usize = 6;

/// Writes the locators of all blobs of a value.
pub(crate) fn write_locators(out: &mut Writer, locators: &[Option<Locator>]) {
    let mut index = BTreeMap::new();
    let mut objects = Vec::new();
    for locator in locators.iter().flatten() {
        index.entry(locator.object).or_insert_with(|| {
            objects.push(locator.object);
            objects.len() - 1
        });
    }
    out.varint(objects.len() as u64);
    if objects.is_empty() {
        return;
    }
    for object in &objects {
        write_object(out, object);
    }
    let mut ends = alloc::vec![0u32; objects.len()];
    for locator in locators {
        let Some(locator) = locator else {
            out.varint(0);
            continue;
        };
        let object = index[&locator.object];
        out.varint(object as u64 + 1);
        out.zigzag(i64::from(locator.offset) - i64::from(ends[object]));
        out.varint(u64::from(locator.len));
        ends[object] = locator.offset.wrapping_add(locator.len);
    }
}

/// Reads the locators section alongside the logical one.
pub(crate) struct LocatorReader<'a> {
    input: Reader<'a>,
    objects: Vec<ObjectId>,
    ends: Vec<u32>,
    used: usize,
}

impl<'a> LocatorReader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Result<LocatorReader<'a>, DecodeError> {
        let mut input = Reader::new(bytes);
        let count = input.count(OBJECT_BYTES_MIN)?;
        let mut objects = Vec::with_capacity(count);
        for _ in 0..count {
            objects.push(read_object(&mut input)?);
        }
        if objects.iter().collect::<BTreeSet<_>>().len() != count {
            return invalid("an object twice in the table");
        }
        Ok(LocatorReader { input, objects, ends: alloc::vec![0; count], used: 0 })
    }

    /// The objects that locators name.
    pub(crate) fn objects(&self) -> &[ObjectId] {
        &self.objects
    }

    /// The next blob's locator as (index of the object, offset, length).
    pub(crate) fn next_indexed(&mut self) -> Result<Option<(usize, u32, u32)>, DecodeError> {
        if self.objects.is_empty() {
            return Ok(None);
        }
        let code = self.input.varint()?;
        if code == 0 {
            return Ok(None);
        }
        if code - 1 > self.used as u64 || code > self.objects.len() as u64 {
            return invalid("an object out of turn");
        }
        let object = (code - 1) as usize;
        self.used = self.used.max(object + 1);
        let offset = i64::from(self.ends[object]).checked_add(self.input.zigzag()?);
        let offset = offset.and_then(|o| u32::try_from(o).ok()).ok_or(DecodeError::TooLarge { what: "offset" })?;
        let len = self.input.varint32("stored length")?;
        self.ends[object] = offset.wrapping_add(len);
        Ok(Some((object, offset, len)))
    }

    /// The next blob's locator.
    pub(crate) fn next(&mut self) -> Result<Option<Locator>, DecodeError> {
        let found = self.next_indexed()?;
        Ok(found.map(|(object, offset, len)| Locator { object: self.objects[object], offset, len }))
    }

    pub(crate) fn finish(self) -> Result<(), DecodeError> {
        if self.used != self.objects.len() {
            return invalid("an object that no locator names");
        }
        self.input.finish()
    }
}

/// Writes one locator by itself.
pub fn write_locator(out: &mut Writer, locator: &Locator) {
    write_object(out, &locator.object);
    out.varint(u64::from(locator.offset));
    out.varint(u64::from(locator.len));
}

/// Reads one locator by itself.
///
/// # Errors
/// [`DecodeError`] if it is none.
pub fn read_locator(input: &mut Reader<'_>) -> Result<Locator, DecodeError> {
    let object = read_object(input)?;
    Ok(Locator { object, offset: input.varint32("offset")?, len: input.varint32("stored length")? })
}

fn write_object(out: &mut Writer, object: &ObjectId) {
    match object {
        ObjectId::Pack(id) => {
            out.u8(0);
            out.raw(&id.0);
        }
        ObjectId::Nodes(id) => {
            out.u8(1);
            out.raw(&id.0);
        }
        ObjectId::Record(device, seq) => {
            out.u8(2);
            out.raw(&device.0.to_be_bytes());
            out.varint(seq.0);
        }
    }
}

fn read_object(input: &mut Reader<'_>) -> Result<ObjectId, DecodeError> {
    Ok(match input.u8()? {
        0 => ObjectId::Pack(PackId(input.array()?)),
        1 => ObjectId::Nodes(PackId(input.array()?)),
        2 => ObjectId::Record(DeviceNo(u32::from_be_bytes(input.array()?)), Seq(input.varint()?)),
        _ => return invalid("kind of object"),
    })
}
