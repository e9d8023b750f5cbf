//! One layer: the bytes written over a content in one generation.

use super::extents::Extents;
use super::{Held, LayerState, SMALL_BYTES_MAX};
use crate::disk::{Disk, DiskFile, Handles};
use crate::ledger::Ticket;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Where dirty files are made.
pub(super) const DIRTY: &str = "dirty";

/// What a layer needs of its surroundings.
pub(super) struct Files {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) handles: Handles,
    /// A dirty file was made since the directory was last synced.
    pub(super) made: AtomicBool,
}

#[derive(Debug)]
enum Store {
    /// Pieces by offset; together exactly the extents.
    Memory(BTreeMap<u64, Vec<u8>>),
    /// A sparse file; its bytes outside the extents mean nothing.
    File,
}

#[derive(Debug)]
pub(super) struct Layer {
    pub(super) size: u64,
    pub(super) base_limit: u64,
    pub(super) extents: Extents,
    store: Store,
    path: String,
    /// Grows with every change.
    revision: u64,
    /// The revision that the last unit described.
    pub(super) described: u64,
    /// The revision that was submitted, and its ticket.
    pub(super) submitted: Option<(u64, Ticket)>,
    /// Rows that an earlier unit of this layer may have left.
    pub(super) small_row: bool,
    pub(super) layer_row: bool,
}

impl Layer {
    pub(super) fn new(path: String, base_size: u64) -> Layer {
        Layer {
            size: base_size,
            base_limit: base_size,
            extents: Extents::default(),
            store: Store::Memory(BTreeMap::new()),
            path,
            revision: 1,
            described: 0,
            submitted: None,
            small_row: false,
            layer_row: false,
        }
    }

    /// A layer whose data is in its file.
    pub(super) fn from_state(path: String, state: LayerState) -> Option<Layer> {
        let extents = Extents::new(state.extents)?;
        let mut layer = Layer::new(path, state.base_limit);
        layer.size = state.size;
        layer.extents = extents;
        layer.store = Store::File;
        layer.layer_row = true;
        layer.submitted = Some((layer.revision, Ticket::default()));
        Some(layer)
    }

    /// A layer from the ledger's bytes; `None` if these were not made by [`Layer::encode`].
    pub(super) fn decode(path: String, bytes: &[u8]) -> Option<Layer> {
        let number = |at: usize| bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
        let count = usize::try_from(number(16)?).ok().filter(|count| *count <= bytes.len() / 16)?;
        let ranges =
            (0..count).map(|i| Some((number(24 + 16 * i)?, number(32 + 16 * i)?))).collect::<Option<Vec<_>>>()?;
        let mut layer = Layer::new(path, number(8)?);
        layer.size = number(0)?;
        layer.extents = Extents::new(ranges)?;
        let mut rest = &bytes[24 + 16 * count..];
        let mut pieces = BTreeMap::new();
        for &(start, end) in layer.extents.as_slice() {
            let (piece, after) = rest.split_at_checked(usize::try_from(end - start).ok()?)?;
            pieces.insert(start, piece.to_vec());
            rest = after;
        }
        layer.store = Store::Memory(pieces);
        layer.small_row = true;
        layer.submitted = Some((layer.revision, Ticket::default()));
        rest.is_empty().then_some(layer)
    }

    /// State and bytes of a layer in memory: size, base limit, number of extents, the extents, then their bytes; numbers are 64 bit,
    /// little endian. `None` if it is in a file.
    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        let Store::Memory(pieces) = &self.store else { return None };
        let extents = self.extents.as_slice();
        let mut bytes = Vec::with_capacity(24 + 16 * extents.len() + self.extents.total() as usize);
        let head = [self.size, self.base_limit, extents.len() as u64];
        for number in head.into_iter().chain(extents.iter().flat_map(|&(start, end)| [start, end])) {
            bytes.extend(number.to_le_bytes());
        }
        pieces.values().for_each(|piece| bytes.extend_from_slice(piece));
        Some(bytes)
    }

    pub(super) fn state(&self) -> LayerState {
        LayerState { size: self.size, base_limit: self.base_limit, extents: self.extents.as_slice().to_vec() }
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// Bytes of memory that the data takes.
    pub(super) fn memory(&self) -> u64 {
        match self.store {
            Store::Memory(_) => self.extents.total(),
            Store::File => 0,
        }
    }

    fn file(&self, files: &Files) -> io::Result<Arc<dyn DiskFile>> {
        files.handles.get(&self.path)
    }

    /// Moves the bytes to a file unless they and `more` stay small.
    fn spill(&mut self, files: &Files, more: u64) -> io::Result<()> {
        let Store::Memory(pieces) = &self.store else { return Ok(()) };
        if self.extents.total().saturating_add(more) <= SMALL_BYTES_MAX as u64 {
            return Ok(());
        }
        let file = files.disk.create(&self.path)?;
        let written = pieces.iter().try_for_each(|(at, piece)| file.write_at(piece, *at));
        if let Err(e) = written {
            // The bytes stay in memory; what is left of the file is swept at the next start if it cannot go now.
            let _ = files.disk.remove(&self.path);
            return Err(e);
        }
        files.made.store(true, Ordering::Release);
        files.handles.put(&self.path, file);
        self.store = Store::File;
        self.revision += 1;
        Ok(())
    }

    pub(super) fn write(&mut self, files: &Files, offset: u64, data: &[u8]) -> io::Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        let end = offset.checked_add(data.len() as u64).filter(|end| i64::try_from(*end).is_ok());
        let end = end.ok_or(io::ErrorKind::FileTooLarge)?;
        let held: u64 =
            self.extents.parts(offset..end).iter().filter(|(_, inside)| *inside).map(|(r, _)| r.end - r.start).sum();
        self.spill(files, data.len() as u64 - held)?;
        self.revision += 1;
        match &mut self.store {
            Store::Memory(pieces) => put_piece(pieces, offset, data),
            Store::File => self.file(files)?.write_at(data, offset)?,
        }
        self.extents.insert(offset..end);
        self.size = self.size.max(end);
        self.join_pieces(offset);
        Ok(())
    }

    /// Keeps the pieces equal to the extents: a write that touches its neighbours joins them.
    fn join_pieces(&mut self, start: u64) {
        let Store::Memory(pieces) = &mut self.store else { return };
        let extent = self.extents.as_slice().partition_point(|&(_, e)| e <= start);
        let Some(&(from, to)) = self.extents.as_slice().get(extent) else { return };
        let inside: Vec<u64> = pieces.range(from..to).map(|(at, _)| *at).collect();
        let Some((first, rest)) = inside.split_first() else { return };
        for at in rest {
            let Some(tail) = pieces.remove(at) else { continue };
            if let Some(head) = pieces.get_mut(first) {
                head.extend_from_slice(&tail);
            }
        }
    }

    pub(super) fn truncate(&mut self, size: u64) -> io::Result<()> {
        if i64::try_from(size).is_err() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.revision += 1;
        if size < self.size {
            self.forget(size..u64::MAX);
            self.base_limit = self.base_limit.min(size);
        }
        self.size = size;
        Ok(())
    }

    fn forget(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        self.extents.remove(range.clone());
        if let Store::Memory(pieces) = &mut self.store {
            cut_pieces(pieces, range);
        }
    }

    pub(super) fn punch(&mut self, files: &Files, range: Range<u64>) -> io::Result<()> {
        let range = range.start.min(self.size)..range.end.min(self.size);
        if range.is_empty() {
            return Ok(());
        }
        // Past the base nothing shines through: not holding it is reading zeros.
        let border = self.base_limit.clamp(range.start, range.end);
        let covered = range.start..border;
        if !covered.is_empty() {
            let len = covered.end - covered.start;
            self.spill(files, len)?;
            match self.store {
                Store::Memory(_) => self.write(files, covered.start, &vec![0; len as usize])?,
                Store::File => {
                    self.file(files)?.punch(covered.start, len)?;
                    self.extents.insert(covered);
                }
            }
        }
        self.revision += 1;
        self.forget(border..range.end);
        Ok(())
    }

    /// Fills the parts of `buf` that this layer knows and says of each part of `offset..` up to the size what it is.
    pub(super) fn read(&self, files: &Files, offset: u64, buf: &mut [u8]) -> io::Result<Vec<(Range<u64>, Held)>> {
        let end = offset.saturating_add(buf.len() as u64).min(self.size);
        if offset >= end {
            return Ok(Vec::new());
        }
        let mut parts = Vec::new();
        for (range, inside) in self.extents.parts(offset..end) {
            if inside {
                let target = &mut buf[(range.start - offset) as usize..(range.end - offset) as usize];
                self.read_data(files, range.start, target)?;
                parts.push((range, Held::Data));
                continue;
            }
            let border = self.base_limit.clamp(range.start, range.end);
            if range.start < border {
                parts.push((range.start..border, Held::Below));
            }
            if border < range.end {
                buf[(border - offset) as usize..(range.end - offset) as usize].fill(0);
                parts.push((border..range.end, Held::Zeros));
            }
        }
        Ok(parts)
    }

    fn read_data(&self, files: &Files, offset: u64, target: &mut [u8]) -> io::Result<()> {
        match &self.store {
            Store::Memory(pieces) => {
                // One extent is one piece.
                if let Some((at, piece)) = pieces.range(..=offset).next_back() {
                    let skip = (offset - at) as usize;
                    target.copy_from_slice(&piece[skip..skip + target.len()]);
                }
            }
            Store::File => {
                // Punched past the end of the file: zeros that need no bytes.
                let read = self.file(files)?.read_at(target, offset)?;
                target[read..].fill(0);
            }
        }
        Ok(())
    }

    /// What this layer says of a range, without reading data.
    pub(super) fn parts(&self, range: Range<u64>) -> Vec<(Range<u64>, Held)> {
        let end = range.end.min(self.size);
        let mut parts = Vec::new();
        for (range, inside) in self.extents.parts(range.start.min(end)..end) {
            let border = if inside { range.start } else { self.base_limit.clamp(range.start, range.end) };
            if range.start < border {
                parts.push((range.start..border, Held::Below));
            }
            if border < range.end {
                parts.push((border..range.end, if inside { Held::Data } else { Held::Zeros }));
            }
        }
        parts
    }

    /// Gives back the space of bytes in the file that mean nothing any more.
    pub(super) fn trim(&self, files: &Files) -> io::Result<()> {
        let Store::File = self.store else { return Ok(()) };
        let file = self.file(files)?;
        let len = file.len()?;
        for (range, inside) in self.extents.parts(0..len) {
            if !inside && range.end < len {
                file.punch(range.start, range.end - range.start)?;
            }
        }
        let used = self.extents.as_slice().last().map_or(0, |&(_, end)| end);
        if used < len { file.set_len(used) } else { Ok(()) }
    }
}

/// Puts a piece over what is there.
fn put_piece(pieces: &mut BTreeMap<u64, Vec<u8>>, offset: u64, data: &[u8]) {
    let end = offset + data.len() as u64;
    if let Some((at, piece)) = pieces.range_mut(..=offset).next_back() {
        let skip = (offset - at) as usize;
        if end <= at + piece.len() as u64 {
            piece[skip..skip + data.len()].copy_from_slice(data);
            return;
        }
    }
    cut_pieces(pieces, offset..end);
    pieces.insert(offset, data.to_vec());
}

/// Takes a range out of the pieces.
fn cut_pieces(pieces: &mut BTreeMap<u64, Vec<u8>>, range: Range<u64>) {
    let touched: Vec<u64> = pieces
        .range(..range.end)
        .rev()
        .take_while(|(at, piece)| **at + piece.len() as u64 > range.start)
        .map(|(at, _)| *at)
        .collect();
    for at in touched {
        let Some(mut piece) = pieces.remove(&at) else { continue };
        if at + piece.len() as u64 > range.end {
            pieces.insert(range.end, piece.split_off((range.end - at) as usize));
        }
        if at < range.start {
            piece.truncate((range.start - at) as usize);
            pieces.insert(at, piece);
        }
    }
}
