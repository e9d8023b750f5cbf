//! Parts of files and deltas: kinds, names, places, contents, attributes.

use super::bytes::{Reader, Writer};
use super::error::{DecodeError, invalid};
use super::sections::{Decoder, Encoder};
use crate::content::{Content, Xattrs};
use crate::id::FileId;
use crate::name::Name;
use crate::state::{Attributes, Kind, Place};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Fewest bytes of a blob: id and length.
pub(crate) const BLOB_BYTES_MIN: usize = 33;

pub(crate) fn kind_code(kind: Kind) -> u8 {
    match kind {
        Kind::File => 0,
        Kind::Directory => 1,
        Kind::Symlink => 2,
        Kind::Fifo => 3,
        Kind::Socket => 4,
        Kind::CharDevice => 5,
        Kind::BlockDevice => 6,
    }
}

pub(crate) fn kind_of(code: u8) -> Result<Kind, DecodeError> {
    Ok(match code {
        0 => Kind::File,
        1 => Kind::Directory,
        2 => Kind::Symlink,
        3 => Kind::Fifo,
        4 => Kind::Socket,
        5 => Kind::CharDevice,
        6 => Kind::BlockDevice,
        _ => return invalid("kind of file"),
    })
}

/// A name: one byte of length, then the bytes.
pub(crate) fn write_name(out: &mut Writer, name: &Name) {
    out.u8(name.as_bytes().len() as u8);
    out.raw(name.as_bytes());
}

pub(crate) fn read_name(input: &mut Reader<'_>) -> Result<Name, DecodeError> {
    let len = usize::from(input.u8()?);
    if len == 0 {
        return Ok(Name::empty());
    }
    Name::new(input.raw(len)?).map_err(|_| DecodeError::Invalid { what: "name" })
}

/// A place; its directory as the difference from a file id that is probably near.
pub(crate) fn write_place(out: &mut Writer, place: &Place, near: FileId) {
    out.zigzag(place.parent.0.wrapping_sub(near.0) as i64);
    write_name(out, &place.name);
}

pub(crate) fn read_place(input: &mut Reader<'_>, near: FileId) -> Result<Place, DecodeError> {
    let parent = FileId(near.0.wrapping_add(input.zigzag()? as u64));
    Ok(Place { parent, name: read_name(input)? })
}

/// What the tag of [`write_content`] can be at most.
pub(crate) const CONTENT_TAG_MAX: u8 = 4;

pub(crate) fn content_tag(content: Option<&Content>) -> u8 {
    match content {
        None => 0,
        Some(Content::Inline(_)) => 1,
        Some(Content::Chunks(_)) => 2,
        Some(Content::BlockList { .. }) => 3,
        Some(Content::Pending { .. }) => 4,
    }
}

/// A content; its tag is written by the caller among other flags.
pub(crate) fn write_content(to: &mut Encoder, content: &Content) {
    match content {
        Content::Inline(bytes) => to.out.bytes(bytes),
        Content::Chunks(chunks) => {
            to.out.varint(chunks.len() as u64);
            chunks.iter().for_each(|chunk| to.blob(chunk));
        }
        Content::BlockList { list, size } => {
            to.blob(list);
            to.out.varint(*size);
        }
        Content::Pending { size, generation } => {
            to.out.varint(*size);
            to.out.varint(*generation);
        }
    }
}

pub(crate) fn read_content(from: &mut Decoder<'_>, tag: u8) -> Result<Option<Content>, DecodeError> {
    Ok(Some(match tag {
        0 => return Ok(None),
        1 => Content::Inline(Arc::from(from.input.bytes()?)),
        2 => {
            let count = from.input.count(BLOB_BYTES_MIN)?;
            let mut chunks = Vec::with_capacity(count);
            for _ in 0..count {
                chunks.push(from.blob()?);
            }
            Content::Chunks(Arc::from(chunks))
        }
        3 => Content::BlockList { list: from.blob()?, size: from.input.varint()? },
        4 => Content::Pending { size: from.input.varint()?, generation: from.input.varint()? },
        _ => return invalid("kind of content"),
    }))
}

/// Attributes: `mode << 2 | has xattrs << 1 | is a device`, mtime, ctime as difference, then what the flags promise.
pub(crate) fn write_attributes(out: &mut Writer, attributes: &Attributes) {
    let xattrs = &attributes.xattrs;
    assert!(xattrs.is_sorted_by(|a, b| a.0 < b.0), "extended attributes are sorted by name, each once");
    let flags = u64::from(!xattrs.is_empty()) << 1 | u64::from(attributes.rdev != 0);
    out.varint(u64::from(attributes.mode) << 2 | flags);
    out.raw(&attributes.mtime_ns.to_le_bytes());
    out.zigzag(attributes.ctime_ns.wrapping_sub(attributes.mtime_ns));
    if attributes.rdev != 0 {
        out.varint(attributes.rdev);
    }
    if !xattrs.is_empty() {
        out.varint(xattrs.len() as u64);
        for (name, value) in xattrs {
            out.bytes(name);
            out.bytes(value);
        }
    }
}

pub(crate) fn read_attributes(input: &mut Reader<'_>) -> Result<Attributes, DecodeError> {
    let head = input.varint()?;
    let mode = u16::try_from(head >> 2).map_err(|_| DecodeError::TooLarge { what: "mode" })?;
    let mtime_ns = i64::from_le_bytes(input.array()?);
    let ctime_ns = mtime_ns.wrapping_add(input.zigzag()?);
    let mut rdev = 0;
    if head & 1 != 0 {
        rdev = input.varint()?;
        if rdev == 0 {
            return invalid("device number 0 written out");
        }
    }
    let mut xattrs = Xattrs::new();
    if head & 2 != 0 {
        let count = input.count(2)?;
        if count == 0 {
            return invalid("no extended attributes written out");
        }
        for _ in 0..count {
            let name = input.bytes()?;
            if xattrs.last().is_some_and(|(before, _)| &**before >= name) {
                return invalid("extended attributes not sorted");
            }
            xattrs.push((name.into(), input.bytes()?.into()));
        }
    }
    Ok(Attributes { mode, mtime_ns, ctime_ns, rdev, xattrs })
}
