//! Leaves: rows as columns.
//!
//! An *ordinary* row is the record of a file that nothing happened to but writes: one placement (its key says which), at most one content,
//! inline or one chunk, written where it stands, one set of attributes without extended ones. It goes into columns. Everything else is
//! *special* and is written in full by [`crate::codec::file`].

use super::column::{read_times, write_times};
use super::keys::{Keys, write_keys};
use super::reference::{NO_IDS, join_ids};
use crate::codec::DecodeError;
use crate::codec::file::{read_row, write_row};
use crate::codec::sections::{Decoder, Encoder};
use crate::codec::value::{kind_code, kind_of};
use crate::content::{BlobRef, Content, Locator, ObjectId};
use crate::id::{BlobId, FileId, Version};
use crate::row::{Key, Row};
use crate::state::{Attributes, AttributesVersion, ContentVersion, File, Place, Placement};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Bits of a row's form: kind of file, how the content stands, whether ctime is mtime.
const KIND: u8 = 7;
const CONTENT: u8 = 3 << 3;
const CONTENT_NONE: u8 = 0;
const CONTENT_CHUNK: u8 = 1 << 3;
const CONTENT_INLINE: u8 = 2 << 3;
const SPECIAL: u8 = 3 << 3;
const SAME_TIMES: u8 = 1 << 5;

/// The rows of a leaf, without their keys.
#[derive(Debug)]
pub(super) struct Leaf {
    rows: Vec<Cell>,
    versions: Vec<Version>,
    objects: Vec<ObjectId>,
    chunks: Vec<Chunk>,
    inline: Vec<Box<[u8]>>,
    special: Vec<Row>,
}

/// One row. For special rows only `form` and `at` mean something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cell {
    mtime_ns: i64,
    ctime_ns: i64,
    /// Indices of versions: placement, content, attributes.
    versions: [u16; 3],
    /// Index in `chunks`, `inline` or `special`.
    at: u16,
    mode: u16,
    form: u8,
}

#[derive(Clone, Copy, Debug)]
struct Chunk {
    id: BlobId,
    len: u32,
    /// Index of the object + 1, or 0 if nobody knows where it lies.
    object: u32,
    offset: u32,
    stored: u32,
}

/// An encoded leaf: logical bytes, the locators of its blobs, and the range of record ids.
pub(super) struct EncodedLeaf {
    pub(super) logical: Vec<u8>,
    pub(super) locators: Vec<Option<Locator>>,
    pub(super) ids: (FileId, FileId),
}

/// The parts of an ordinary row.
struct Ordinary<'r> {
    form: u8,
    placement: Version,
    content: Option<&'r ContentVersion>,
    attributes: &'r AttributesVersion,
}

fn ordinary<'r>(key: &Key, row: &'r Row) -> Option<Ordinary<'r>> {
    let Row::Record(file) = row else { return None };
    let ([placement], [attributes]) = (&file.placements[..], &file.attributes[..]) else { return None };
    let is_at_key = |place: &Place| place.parent == key.directory && place.name == key.name;
    let plain = placement.slot == key.slot
        && is_at_key(&placement.place)
        && placement.was.is_none()
        && !placement.by_rule
        && !placement.removed
        && attributes.value.rdev == 0
        && attributes.value.xattrs.is_empty();
    if !plain {
        return None;
    }
    let (form, content) = match &file.contents[..] {
        [] => (CONTENT_NONE, None),
        [content] if is_at_key(&content.at) && !content.by_rule => match &content.value {
            Some(Content::Inline(_)) => (CONTENT_INLINE, Some(content)),
            Some(Content::Chunks(chunks)) if chunks.len() == 1 => (CONTENT_CHUNK, Some(content)),
            _ => return None,
        },
        _ => return None,
    };
    let times = if attributes.value.mtime_ns == attributes.value.ctime_ns { SAME_TIMES } else { 0 };
    let form = kind_code(file.kind) | form | times;
    Some(Ordinary { form, placement: placement.version, content, attributes })
}

/// Encodes sorted rows. `head` begins the logical bytes.
pub(super) fn encode_leaf(head: &[u8], rows: &[(Key, Row)]) -> EncodedLeaf {
    let mut to = Encoder::default();
    to.out.varint(rows.len() as u64);
    write_keys(&mut to.out, rows.iter().map(|(key, _)| key));
    let parts: Vec<Option<Ordinary<'_>>> = rows.iter().map(|(key, row)| ordinary(key, row)).collect();
    for part in &parts {
        to.out.u8(part.as_ref().map_or(SPECIAL, |part| part.form));
    }
    let plain = parts.iter().flatten();
    plain.clone().for_each(|part| to.out.varint(u64::from(part.attributes.value.mode)));
    write_times(&mut to.out, plain.clone().map(|part| part.attributes.value.mtime_ns));
    let changed = plain.clone().filter(|part| part.form & SAME_TIMES == 0);
    write_times(&mut to.out, changed.map(|part| part.attributes.value.ctime_ns));
    plain.clone().for_each(|part| to.version(part.placement));
    plain.clone().for_each(|part| to.version(part.attributes.version));
    plain.clone().filter_map(|part| part.content).for_each(|content| to.version(content.version));
    write_contents(&mut to, plain.filter_map(|part| part.content?.value.as_ref()));
    let mut ids = NO_IDS;
    for ((key, row), part) in rows.iter().zip(&parts) {
        if part.is_none() {
            write_row(&mut to, key, row);
        }
        if let Row::Record(file) = row {
            assert_eq!(file.id, key.file, "a record stands under its file's id");
            ids = with_id(ids, file.id);
        }
    }
    let (logical, locators) = to.logical(head);
    EncodedLeaf { logical, locators, ids }
}

fn with_id(ids: (FileId, FileId), id: FileId) -> (FileId, FileId) {
    if id.is_derived() { ids } else { join_ids(ids, (id, id)) }
}

/// The columns of contents: ids of chunks, their lengths, lengths of inline bytes, inline bytes.
fn write_contents<'r>(to: &mut Encoder, contents: impl Iterator<Item = &'r Content> + Clone) {
    let chunks = contents.clone().filter_map(|content| match content {
        Content::Chunks(chunks) => chunks.first(),
        _ => None,
    });
    let inline = contents.filter_map(|content| match content {
        Content::Inline(bytes) => Some(bytes),
        _ => None,
    });
    chunks.clone().for_each(|chunk| to.out.raw(&chunk.id.0));
    chunks.clone().for_each(|chunk| to.out.varint(u64::from(chunk.len)));
    to.locators.extend(chunks.map(|chunk| chunk.at));
    inline.clone().for_each(|bytes| to.out.varint(bytes.len() as u64));
    inline.for_each(|bytes| to.out.raw(bytes));
}

/// Decodes the rows of a leaf, from behind the head.
pub(super) fn decode_leaf(mut from: Decoder<'_>) -> Result<(Keys, Leaf), DecodeError> {
    let count = from.input.count(1)?;
    let keys = Keys::read(&mut from.input, count)?;
    let forms = from.input.raw(count)?;
    let mut rows = Vec::with_capacity(count);
    for &form in forms {
        let special = form & CONTENT == SPECIAL;
        if form > KIND | CONTENT | SAME_TIMES || (special && form != SPECIAL) {
            return Err(DecodeError::Invalid { what: "form of a row" });
        }
        if !special {
            kind_of(form & KIND)?;
        }
        rows.push(Cell { form, ..Cell::default() });
    }
    read_attributes(&mut from, &mut rows)?;
    read_versions(&mut from, &mut rows)?;
    let (chunks, inline) = read_contents(&mut from, &mut rows)?;
    let mut special = Vec::new();
    for (row, cell) in rows.iter_mut().enumerate().filter(|(_, cell)| cell.form == SPECIAL) {
        let key = keys.key(row);
        let value = read_row(&mut from, &key)?;
        if ordinary(&key, &value).is_some() {
            return Err(DecodeError::Invalid { what: "an ordinary row written in full" });
        }
        cell.at = special.len() as u16;
        special.push(value);
    }
    let objects = from.locators.objects().to_vec();
    let versions = from.finish()?;
    Ok((keys, Leaf { rows, versions, objects, chunks, inline, special }))
}

fn plain(rows: &mut [Cell]) -> impl Iterator<Item = &mut Cell> {
    rows.iter_mut().filter(|cell| cell.form != SPECIAL)
}

fn read_attributes(from: &mut Decoder<'_>, rows: &mut [Cell]) -> Result<(), DecodeError> {
    let mut count = 0;
    for cell in plain(rows) {
        cell.mode = u16::try_from(from.input.varint()?).map_err(|_| DecodeError::TooLarge { what: "mode" })?;
        count += 1;
    }
    let mut cells = plain(rows);
    read_times(&mut from.input, count, |_, time| {
        if let Some(cell) = cells.next() {
            (cell.mtime_ns, cell.ctime_ns) = (time, time);
        }
    })?;
    drop(cells);
    let count = plain(rows).filter(|cell| cell.form & SAME_TIMES == 0).count();
    let mut cells = plain(rows).filter(|cell| cell.form & SAME_TIMES == 0);
    let mut repeated = false;
    read_times(&mut from.input, count, |_, time| {
        if let Some(cell) = cells.next() {
            repeated |= cell.mtime_ns == time;
            cell.ctime_ns = time;
        }
    })?;
    if repeated { Err(DecodeError::Invalid { what: "ctime repeats mtime" }) } else { Ok(()) }
}

fn read_versions(from: &mut Decoder<'_>, rows: &mut [Cell]) -> Result<(), DecodeError> {
    // Columns are read before special rows, so their indices stay below three times the rows of a node and fit 16 bits.
    let mut index = || -> Result<u16, DecodeError> {
        let index = from.input.varint()?;
        from.versions.get(index)?;
        u16::try_from(index).map_err(|_| DecodeError::TooLarge { what: "versions of a node" })
    };
    for cell in plain(rows) {
        cell.versions[0] = index()?;
    }
    for cell in plain(rows) {
        cell.versions[2] = index()?;
    }
    for cell in plain(rows).filter(|cell| cell.form & CONTENT != CONTENT_NONE) {
        cell.versions[1] = index()?;
    }
    Ok(())
}

type Contents = (Vec<Chunk>, Vec<Box<[u8]>>);

fn read_contents(from: &mut Decoder<'_>, rows: &mut [Cell]) -> Result<Contents, DecodeError> {
    let chunks_count = rows.iter().filter(|cell| cell.form & CONTENT == CONTENT_CHUNK).count();
    let ids = from.input.raw(chunks_count * 32)?;
    let mut chunks = Vec::with_capacity(chunks_count);
    for id in ids.as_chunks::<32>().0 {
        let len = from.input.varint32("length of a blob")?;
        let (object, offset, stored) = match from.locators.next_indexed()? {
            None => (0, 0, 0),
            Some((object, offset, stored)) => (object as u32 + 1, offset, stored),
        };
        chunks.push(Chunk { id: BlobId(*id), len, object, offset, stored });
    }
    let mut inline = Vec::new();
    let mut lengths = Vec::new();
    let mut next_chunk = 0;
    for cell in rows.iter_mut() {
        match cell.form & CONTENT {
            CONTENT_CHUNK => {
                cell.at = next_chunk;
                next_chunk += 1;
            }
            CONTENT_INLINE => {
                cell.at = lengths.len() as u16;
                lengths.push(from.input.varint()?);
            }
            _ => {}
        }
    }
    for len in lengths {
        let len = usize::try_from(len).map_err(|_| DecodeError::Truncated)?;
        inline.push(from.input.raw(len)?.into());
    }
    Ok((chunks, inline))
}

impl Leaf {
    /// The row at an index, whose key is `key`.
    pub(super) fn row(&self, row: usize, key: &Key) -> Row {
        let cell = &self.rows[row];
        if cell.form == SPECIAL {
            return self.special[usize::from(cell.at)].clone();
        }
        let version = |of: usize| self.versions[usize::from(cell.versions[of])];
        let place = Place { parent: key.directory, name: key.name.clone() };
        let mut file =
            File::new(key.file, kind_of(cell.form & KIND).expect("forms were checked when the node was read"));
        if let Some(value) = self.content(cell) {
            let content = ContentVersion { version: version(1), value: Some(value), at: place.clone(), by_rule: false };
            file.contents = alloc::vec![content];
        }
        file.placements = alloc::vec![Placement {
            slot: key.slot,
            version: version(0),
            place,
            was: None,
            by_rule: false,
            removed: false,
        }];
        let (mode, mtime_ns, ctime_ns) = (cell.mode, cell.mtime_ns, cell.ctime_ns);
        let value = Attributes { mode, mtime_ns, ctime_ns, rdev: 0, xattrs: Vec::new() };
        file.attributes = alloc::vec![AttributesVersion { version: version(2), value }];
        Row::Record(Arc::new(file))
    }

    fn content(&self, cell: &Cell) -> Option<Content> {
        let at = usize::from(cell.at);
        match cell.form & CONTENT {
            CONTENT_CHUNK => Some(Content::Chunks(Arc::from([self.blob(&self.chunks[at])]))),
            CONTENT_INLINE => Some(Content::Inline(Arc::from(&self.inline[at][..]))),
            _ => None,
        }
    }

    fn blob(&self, chunk: &Chunk) -> BlobRef {
        let object = chunk.object.checked_sub(1).map(|object| self.objects[object as usize]);
        let at = object.map(|object| Locator { object, offset: chunk.offset, len: chunk.stored });
        BlobRef { id: chunk.id, len: chunk.len, at }
    }

    /// Whether the row is a file's record.
    pub(super) fn is_record(&self, row: usize) -> bool {
        let cell = &self.rows[row];
        cell.form != SPECIAL || matches!(self.special[usize::from(cell.at)], Row::Record(_))
    }

    /// Whether two rows under one key are equal.
    pub(super) fn same(&self, row: usize, other: &Leaf, other_row: usize) -> bool {
        let (a, b) = (&self.rows[row], &other.rows[other_row]);
        if a.form != b.form {
            return false;
        }
        if a.form == SPECIAL {
            return self.special[usize::from(a.at)] == other.special[usize::from(b.at)];
        }
        let with_content = a.form & CONTENT != CONTENT_NONE;
        let same_version =
            |of: usize| self.versions[usize::from(a.versions[of])] == other.versions[usize::from(b.versions[of])];
        (a.mode, a.mtime_ns, a.ctime_ns) == (b.mode, b.mtime_ns, b.ctime_ns)
            && same_version(0)
            && same_version(2)
            && (!with_content || (same_version(1) && self.same_content(a, other, b)))
    }

    fn same_content(&self, a: &Cell, other: &Leaf, b: &Cell) -> bool {
        let (at, other_at) = (usize::from(a.at), usize::from(b.at));
        if a.form & CONTENT == CONTENT_INLINE {
            return self.inline[at] == other.inline[other_at];
        }
        let (a, b) = (&self.chunks[at], &other.chunks[other_at]);
        (a.id, a.len) == (b.id, b.len)
    }

    /// Visits all blobs that rows name, in the order of the locator section.
    pub(super) fn blobs(&self, visit: &mut dyn FnMut(&BlobRef)) {
        self.chunks.iter().for_each(|chunk| visit(&self.blob(chunk)));
        for row in &self.special {
            let Row::Record(file) = row else { continue };
            for content in file.contents.iter().flat_map(|content| &content.value) {
                match content {
                    Content::Chunks(chunks) => chunks.iter().for_each(&mut *visit),
                    Content::BlockList { list, .. } => visit(list),
                    Content::Inline(_) | Content::Pending { .. } => {}
                }
            }
        }
    }

    /// Rows with a block list are kept in full.
    pub(super) fn lists(&self, visit: &mut dyn FnMut(&BlobRef)) {
        for row in &self.special {
            let Row::Record(file) = row else { continue };
            for content in file.contents.iter().flat_map(|content| &content.value) {
                if let Content::BlockList { list, .. } = content {
                    visit(list);
                }
            }
        }
    }

    /// Bytes held, about.
    pub(super) fn weight(&self) -> usize {
        self.rows.capacity() * size_of::<Cell>()
            + self.versions.capacity() * size_of::<Version>()
            + self.objects.capacity() * size_of::<ObjectId>()
            + self.chunks.capacity() * size_of::<Chunk>()
            + self.inline.iter().map(|bytes| bytes.len() + size_of::<Box<[u8]>>()).sum::<usize>()
            + self.special.iter().map(weight_of).sum::<usize>()
    }
}

/// Bytes held by a row kept in full, about.
fn weight_of(row: &Row) -> usize {
    let Row::Record(file) = row else { return size_of::<Row>() + 16 };
    let contents = file.contents.iter().map(|content| match &content.value {
        Some(Content::Inline(bytes)) => bytes.len(),
        Some(Content::Chunks(chunks)) => chunks.len() * size_of::<BlobRef>(),
        _ => 0,
    });
    let xattrs =
        file.attributes.iter().flat_map(|a| &a.value.xattrs).map(|(name, value)| name.len() + value.len() + 32);
    size_of::<Row>()
        + size_of::<File>()
        + file.placements.len() * (size_of::<Placement>() + 32)
        + file.contents.len() * (size_of::<ContentVersion>() + 32)
        + file.attributes.len() * size_of::<AttributesVersion>()
        + contents.sum::<usize>()
        + xattrs.sum::<usize>()
}
