//! The keys of a node as columns: runs of directories, names without the prefix they share with the one before, file ids as differences.

use super::split::{NODE_BYTES_MAX, ROW_BYTES};
use crate::codec::{DecodeError, Reader, Writer};
use crate::id::FileId;
use crate::name::{NAME_BYTES_MAX, Name};
use crate::row::Key;
use alloc::vec::Vec;
use core::cmp::Ordering;

/// Most rows of a node: the splitter ends it before there are more.
const ROWS_MAX: usize = (NODE_BYTES_MAX / ROW_BYTES) as usize + 1;
/// Most bytes of all names of a node.
const NAMES_BYTES_MAX: usize = NODE_BYTES_MAX as usize + NAME_BYTES_MAX;
/// Fewest bytes of a key: two lengths and a file id.
const KEY_BYTES_MIN: usize = 3;

/// Sorted keys, compact in memory.
#[derive(Debug)]
pub(super) struct Keys {
    /// Each directory with its first row.
    runs: Vec<(FileId, u32)>,
    /// All names, one after another.
    names: Vec<u8>,
    /// Where each name ends in `names`.
    ends: Vec<u32>,
    files: Vec<FileId>,
    /// Rows whose slot is not 0.
    slots: Vec<(u32, u64)>,
}

/// Writes the columns of sorted keys.
pub(super) fn write_keys<'k>(out: &mut Writer, keys: impl Iterator<Item = &'k Key> + Clone) {
    write_directories(out, keys.clone());
    let mut suffixes = Writer::new();
    let (mut shared, mut lengths) = (Writer::new(), Writer::new());
    let mut before: &[u8] = &[];
    for key in keys.clone() {
        let name = key.name.as_bytes();
        let common = before.iter().zip(name).take_while(|(a, b)| a == b).count();
        shared.u8(common as u8);
        lengths.u8((name.len() - common) as u8);
        suffixes.raw(&name[common..]);
        before = name;
    }
    out.raw(shared.as_bytes());
    out.raw(lengths.as_bytes());
    out.raw(suffixes.as_bytes());
    let mut file = 0u64;
    for key in keys.clone() {
        out.zigzag(key.file.0.wrapping_sub(file) as i64);
        file = key.file.0;
    }
    let slots = keys.enumerate().filter(|(_, key)| key.slot != 0);
    out.varint(slots.clone().count() as u64);
    let mut next = 0;
    for (row, key) in slots {
        out.varint((row - next) as u64);
        out.varint(key.slot);
        next = row + 1;
    }
}

fn write_directories<'k>(out: &mut Writer, keys: impl Iterator<Item = &'k Key>) {
    let mut runs: Vec<(FileId, u64)> = Vec::new();
    for key in keys {
        match runs.last_mut() {
            Some((directory, count)) if *directory == key.directory => *count += 1,
            _ => runs.push((key.directory, 1)),
        }
    }
    out.varint(runs.len() as u64);
    let mut next = 0u64;
    for (directory, count) in runs {
        out.varint(directory.0 - next);
        out.varint(count);
        next = directory.0.wrapping_add(1);
    }
}

fn invalid<T>(what: &'static str) -> Result<T, DecodeError> {
    Err(DecodeError::Invalid { what })
}

impl Keys {
    /// Reads `count` keys and checks that they are sorted.
    pub(super) fn read(input: &mut Reader<'_>, count: usize) -> Result<Keys, DecodeError> {
        if count > ROWS_MAX {
            return Err(DecodeError::TooLarge { what: "rows of a node" });
        }
        if count > input.remaining() / KEY_BYTES_MIN {
            return Err(DecodeError::Truncated);
        }
        let runs = read_directories(input, count)?;
        let (names, ends) = read_names(input, count)?;
        let mut files = Vec::with_capacity(count);
        let mut file = 0u64;
        for _ in 0..count {
            file = file.wrapping_add(input.zigzag()? as u64);
            files.push(FileId(file));
        }
        let slots = read_slots(input, count)?;
        let keys = Keys { runs, names, ends, files, slots };
        keys.check_order()?;
        Ok(keys)
    }

    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    pub(super) fn directory(&self, row: usize) -> FileId {
        let run = self.runs.partition_point(|(_, first)| *first as usize <= row);
        self.runs[run - 1].0
    }

    pub(super) fn name(&self, row: usize) -> &[u8] {
        let start = if row == 0 { 0 } else { self.ends[row - 1] as usize };
        &self.names[start..self.ends[row] as usize]
    }

    pub(super) fn file(&self, row: usize) -> FileId {
        self.files[row]
    }

    pub(super) fn files(&self) -> &[FileId] {
        &self.files
    }

    pub(super) fn slot(&self, row: usize) -> u64 {
        self.slots.binary_search_by_key(&(row as u32), |(row, _)| *row).map_or(0, |at| self.slots[at].1)
    }

    pub(super) fn key(&self, row: usize) -> Key {
        let name = match self.name(row) {
            [] => Name::empty(),
            bytes => Name::new(bytes).expect("names were checked when the node was read"),
        };
        Key { directory: self.directory(row), name, file: self.file(row), slot: self.slot(row) }
    }

    pub(super) fn compare(&self, row: usize, key: &Key) -> Ordering {
        self.directory(row)
            .cmp(&key.directory)
            .then_with(|| self.name(row).cmp(key.name.as_bytes()))
            .then_with(|| self.file(row).cmp(&key.file))
            .then_with(|| self.slot(row).cmp(&key.slot))
    }

    /// Compares keys of two nodes.
    pub(super) fn compare_with(&self, row: usize, other: &Keys, other_row: usize) -> Ordering {
        self.directory(row)
            .cmp(&other.directory(other_row))
            .then_with(|| self.name(row).cmp(other.name(other_row)))
            .then_with(|| self.file(row).cmp(&other.file(other_row)))
            .then_with(|| self.slot(row).cmp(&other.slot(other_row)))
    }

    /// The first row whose key is not below `key`.
    pub(super) fn lower_bound(&self, key: &Key) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = (low + high) / 2;
            if self.compare(middle, key) == Ordering::Less {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// Bytes held.
    pub(super) fn weight(&self) -> usize {
        self.runs.capacity() * 16
            + self.names.capacity()
            + self.ends.capacity() * 4
            + self.files.capacity() * 8
            + self.slots.capacity() * 16
    }

    fn check_order(&self) -> Result<(), DecodeError> {
        let mut runs = self.runs.iter().map(|(_, first)| *first as usize).peekable();
        for row in 0..self.len() {
            if runs.next_if(|first| *first == row).is_some() {
                continue;
            }
            let order = self.name(row - 1).cmp(self.name(row));
            let order = order.then_with(|| self.files[row - 1].cmp(&self.files[row]));
            if order.then_with(|| self.slot(row - 1).cmp(&self.slot(row))) != Ordering::Less {
                return invalid("keys not sorted");
            }
        }
        Ok(())
    }
}

fn read_directories(input: &mut Reader<'_>, count: usize) -> Result<Vec<(FileId, u32)>, DecodeError> {
    let runs_count = input.count(2)?;
    if runs_count > count {
        return invalid("more directories than rows");
    }
    let mut runs = Vec::with_capacity(runs_count);
    let (mut next, mut first) = (Some(0u64), 0);
    for _ in 0..runs_count {
        let distance = input.varint()?;
        let directory =
            next.and_then(|n| n.checked_add(distance)).ok_or(DecodeError::TooLarge { what: "directory" })?;
        next = directory.checked_add(1);
        runs.push((FileId(directory), first as u32));
        let rows = input.varint()?;
        if rows == 0 || rows > (count - first) as u64 {
            return invalid("rows of a directory");
        }
        first += rows as usize;
    }
    if first == count { Ok(runs) } else { invalid("rows without a directory") }
}

fn read_names(input: &mut Reader<'_>, count: usize) -> Result<(Vec<u8>, Vec<u32>), DecodeError> {
    let shared = input.raw(count)?;
    let lengths = input.raw(count)?;
    let total: usize = shared.iter().chain(lengths).map(|&len| usize::from(len)).sum();
    if total > NAMES_BYTES_MAX {
        return Err(DecodeError::TooLarge { what: "names of a node" });
    }
    let mut names = Vec::with_capacity(total);
    let mut ends = Vec::with_capacity(count);
    let mut start = 0;
    for (&shared, &len) in shared.iter().zip(lengths) {
        let (shared, len, before) = (usize::from(shared), usize::from(len), names.len() - start);
        if shared > before || shared + len > NAME_BYTES_MAX {
            return invalid("length of a name");
        }
        let suffix = input.raw(len)?;
        if shared < before && suffix.first() == Some(&names[start + shared]) {
            return invalid("a shared prefix spelled out");
        }
        let end = names.len();
        names.extend_from_within(start..start + shared);
        names.extend_from_slice(suffix);
        if suffix.iter().any(|&b| b == b'/' || b == 0) || matches!(&names[end..], b"." | b"..") {
            return invalid("name");
        }
        start = end;
        ends.push(names.len() as u32);
    }
    Ok((names, ends))
}

fn read_slots(input: &mut Reader<'_>, count: usize) -> Result<Vec<(u32, u64)>, DecodeError> {
    let slots_count = input.count(2)?;
    let mut slots = Vec::with_capacity(slots_count.min(count));
    let mut next = 0u64;
    for _ in 0..slots_count {
        let row = next.saturating_add(input.varint()?);
        let slot = input.varint()?;
        if row >= count as u64 || slot == 0 {
            return invalid("slots");
        }
        slots.push((row as u32, slot));
        next = row + 1;
    }
    Ok(slots)
}
