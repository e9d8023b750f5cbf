//! What the kernel holds: which node is which file, and where it was found last.
//!
//! A node is noted only while the kernel holds lookups of it: after `find` over a million files that is all of them. So they lie packed,
//! without pointers and free room: nodes that differ only in the last bits of their numbers, as those of one directory mostly do, are one
//! block, and a block is one allocation. Measured: 1,000,000 files with names of 16 bytes take 24 MB if they were looked up in the order
//! they were made, 29 MB in random order; a map from each node to an allocation of its own took 78 and 99 MB.

use crate::renumber::{told, told_place};
use crate::types::NodeNo;
use ouro_core::codec::{Reader, Writer};
use ouro_core::id::FileId;
use ouro_core::name::Name;
use ouro_core::state::Place;
use std::collections::BTreeMap;
use std::ops::Range;

/// Which view a node belongs to; see [`crate::realm`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct ViewNo(pub(crate) u32);

/// What is noted of a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Note {
    pub(crate) view: ViewNo,
    pub(crate) file: FileId,
    /// Where it was found last; it may stand elsewhere by now.
    pub(crate) place: Option<Place>,
}

/// Bits of a node's number that tell it from the others of its block: 32 nodes are about a kilobyte, which is quickly looked through.
const BLOCK_BITS: u32 = 5;
/// In an entry's first byte: the file is not the node's number and is written down.
const OTHER: u8 = 0x80;
/// An entry's first byte and its length.
const HEAD_BYTES: usize = 3;

/// Entries one after another, in no order: first byte (the last bits of the node's number, and [`OTHER`]), length of what follows (2), lookups,
/// view, file if it is another one; if a place is noted, its parent as a difference and its name.
#[derive(Default)]
struct Block(Box<[u8]>);

/// An entry unpacked.
struct Entry {
    lookups: u32,
    note: Note,
}

/// The nodes that the kernel knows.
#[derive(Default)]
pub(crate) struct Table {
    blocks: BTreeMap<u64, Block>,
    len: usize,
}

/// The block of a node, and which one in it the node is.
fn split(node: NodeNo) -> (u64, u8) {
    (node.0 >> BLOCK_BITS, (node.0 & ((1 << BLOCK_BITS) - 1)) as u8)
}

fn pack(node: NodeNo, lookups: u32, view: ViewNo, file: FileId, place: Option<&Place>) -> Vec<u8> {
    let other = file.0 != node.0;
    let mut out = Writer::new();
    out.raw(&[split(node).1 | if other { OTHER } else { 0 }, 0, 0]);
    out.varint(u64::from(lookups));
    out.varint(u64::from(view.0));
    if other {
        out.raw(&file.0.to_le_bytes());
    }
    if let Some(place) = place {
        out.zigzag(place.parent.0.wrapping_sub(file.0) as i64);
        out.raw(place.name.as_bytes());
    }
    let mut bytes = out.into_vec();
    // At most 255 bytes of name and 28 of numbers.
    let body_bytes = (bytes.len() - HEAD_BYTES) as u16;
    bytes[1..HEAD_BYTES].copy_from_slice(&body_bytes.to_le_bytes());
    bytes
}

/// Which nodes a block's entries are of, and where they lie.
fn entries(block: &[u8]) -> impl Iterator<Item = (u8, Range<usize>)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let &[first, low_len, high_len] = block.get(at..at + HEAD_BYTES)? else { return None };
        let start = at;
        at += HEAD_BYTES + usize::from(u16::from_le_bytes([low_len, high_len]));
        Some((first & !OTHER, start..at))
    })
}

/// Where a node's entry lies in a block.
fn find(block: &[u8], low: u8) -> Option<Range<usize>> {
    entries(block).find(|(found, _)| *found == low).map(|(_, range)| range)
}

/// How many lookups an entry counts.
fn lookups(entry: &[u8]) -> u32 {
    entry.get(HEAD_BYTES..).and_then(|body| Reader::new(body).varint32("lookups").ok()).unwrap_or(0)
}

impl Entry {
    fn pack(&self, node: NodeNo) -> Vec<u8> {
        pack(node, self.lookups, self.note.view, self.note.file, self.note.place.as_ref())
    }

    /// `None` if the bytes are no entry, which never is.
    fn unpack(node: NodeNo, bytes: &[u8]) -> Option<Entry> {
        let (head, body) = bytes.split_at_checked(HEAD_BYTES)?;
        let mut body = Reader::new(body);
        let lookups = body.varint32("lookups").ok()?;
        let view = ViewNo(body.varint32("view").ok()?);
        let file = match head[0] & OTHER {
            0 => FileId(node.0),
            _ => FileId(u64::from_le_bytes(body.array().ok()?)),
        };
        let place = match body.remaining() {
            0 => None,
            _ => {
                let parent = FileId(file.0.wrapping_add(body.zigzag().ok()? as u64));
                Name::new(body.raw(body.remaining()).ok()?).ok().map(|name| Place { parent, name })
            }
        };
        Some(Entry { lookups, note: Note { view, file, place } })
    }
}

impl Block {
    fn entries(&self) -> impl Iterator<Item = (u8, Range<usize>)> {
        entries(&self.0)
    }

    /// Where an entry lies.
    fn find(&self, low: u8) -> Option<Range<usize>> {
        find(&self.0, low)
    }

    /// Puts bytes in the place of others.
    fn replace(&mut self, range: Range<usize>, bytes: Vec<u8>) {
        if range.len() == bytes.len() {
            self.0[range].copy_from_slice(&bytes);
            return;
        }
        let mut all = std::mem::take(&mut self.0).into_vec();
        all.reserve_exact(bytes.len());
        all.splice(range, bytes);
        self.0 = all.into_boxed_slice();
    }
}

impl Table {
    fn entry(&self, node: NodeNo) -> Option<Entry> {
        let (block, low) = split(node);
        let block = self.blocks.get(&block)?;
        Entry::unpack(node, &block.0[block.find(low)?])
    }

    /// Writes down what is noted of a node, known or not.
    fn put(&mut self, node: NodeNo, entry: &Entry) {
        let (block, low) = split(node);
        let block = self.blocks.entry(block).or_default();
        let found = block.find(low);
        self.len += usize::from(found.is_none());
        let end = block.0.len();
        block.replace(found.unwrap_or(end..end), entry.pack(node));
    }

    fn remove(&mut self, node: NodeNo) {
        let (number, low) = split(node);
        let Some(block) = self.blocks.get_mut(&number) else { return };
        if let Some(range) = block.find(low) {
            block.replace(range, Vec::new());
            self.len -= 1;
        }
        if block.0.is_empty() {
            self.blocks.remove(&number);
        }
    }

    /// What is noted of a node.
    pub(crate) fn get(&self, node: NodeNo) -> Option<Note> {
        Some(self.entry(node)?.note)
    }

    /// Whether the kernel knows a node.
    pub(crate) fn knows(&self, node: NodeNo) -> bool {
        let (block, low) = split(node);
        self.blocks.get(&block).is_some_and(|block| block.find(low).is_some())
    }

    /// Counts one lookup and notes where the file was found.
    pub(crate) fn count(&mut self, node: NodeNo, view: ViewNo, file: FileId, place: Option<&Place>) {
        let before = self.entry(node).map_or(0, |entry| entry.lookups);
        let note = Note { view, file, place: place.cloned() };
        self.put(node, &Entry { lookups: before.saturating_add(1), note });
    }

    /// Counts one lookup of each node of a listing, like [`Table::count`], but takes up each block once: entry by entry this was a tenth of
    /// what a listing cost.
    pub(crate) fn count_all(&mut self, view: ViewNo, mut listed: Vec<(NodeNo, FileId, Place)>) {
        listed.sort_unstable_by_key(|(node, ..)| node.0);
        for run in listed.chunk_by(|(a, ..), (b, ..)| split(*a).0 == split(*b).0) {
            let block = self.blocks.entry(split(run[0].0).0).or_default();
            let mut all = std::mem::take(&mut block.0).into_vec();
            for (node, file, place) in run {
                let found = find(&all, split(*node).1);
                self.len += usize::from(found.is_none());
                let range = found.unwrap_or(all.len()..all.len());
                let count = lookups(&all[range.clone()]).saturating_add(1);
                all.splice(range, pack(*node, count, view, *file, Some(place)));
            }
            block.0 = all.into_boxed_slice();
        }
    }

    /// Notes where a file stands now, if the kernel knows it.
    pub(crate) fn note(&mut self, node: NodeNo, file: FileId, place: &Place) {
        if let Some(mut entry) = self.entry(node) {
            (entry.note.file, entry.note.place) = (file, Some(place.clone()));
            self.put(node, &entry);
        }
    }

    fn nodes(&self) -> impl Iterator<Item = NodeNo> {
        self.blocks.iter().flat_map(|(block, entries)| {
            let first = block << BLOCK_BITS;
            entries.entries().map(move |(low, _)| NodeNo(first | u64::from(low)))
        })
    }

    /// The files of a view that the kernel knows, and where they were found last.
    pub(crate) fn of(&self, view: ViewNo) -> Vec<(FileId, Option<Place>)> {
        let notes = self.nodes().filter_map(|node| self.get(node));
        notes.filter(|note| note.view == view).map(|note| (note.file, note.place)).collect()
    }

    /// Files of a view have other ids now, and keep their nodes.
    pub(crate) fn renumber(&mut self, view: ViewNo, files: &BTreeMap<FileId, FileId>) {
        let nodes: Vec<NodeNo> = self.nodes().collect();
        for node in nodes {
            let Some(mut entry) = self.entry(node).filter(|entry| entry.note.view == view) else { continue };
            let note = Note {
                view,
                file: told(files, entry.note.file),
                place: entry.note.place.as_ref().map(|place| told_place(files, place)),
            };
            if note != entry.note {
                entry.note = note;
                self.put(node, &entry);
            }
        }
    }

    /// Takes back `count` lookups.
    pub(crate) fn forget(&mut self, node: NodeNo, count: u64) {
        let Some(mut entry) = self.entry(node) else { return };
        entry.lookups = entry.lookups.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
        match entry.lookups {
            0 => self.remove(node),
            _ => self.put(node, &entry),
        }
    }

    /// How many nodes the kernel knows.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(parent: u64, name: &str) -> Place {
        Place { parent: FileId(parent), name: Name::new(name.as_bytes()).unwrap() }
    }

    #[test]
    fn a_node_is_kept_until_as_many_lookups_are_forgotten_as_were_counted() {
        let mut table = Table::default();
        let node = NodeNo(77);
        table.count(node, ViewNo(0), FileId(77), Some(&place(1, "a")));
        table.count(node, ViewNo(0), FileId(77), Some(&place(1, "b")));
        table.forget(node, 1);
        let note = Note { view: ViewNo(0), file: FileId(77), place: Some(place(1, "b")) };
        assert_eq!(table.get(node), Some(note));
        table.forget(node, 5);
        assert_eq!(table.get(node), None);
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn a_node_stays_when_its_file_gets_another_id() {
        let mut table = Table::default();
        table.count(NodeNo(77), ViewNo(0), FileId(77), Some(&place(50, "a")));
        table.count(NodeNo(88), ViewNo(1), FileId(77), None);
        let files = BTreeMap::from([(FileId(77), FileId(900)), (FileId(50), FileId(901))]);
        table.renumber(ViewNo(0), &files);
        let note = Note { view: ViewNo(0), file: FileId(900), place: Some(place(901, "a")) };
        assert_eq!(table.get(NodeNo(77)), Some(note));
        table.count(NodeNo(77), ViewNo(0), FileId(900), Some(&place(901, "b")));
        assert_eq!(table.get(NodeNo(77)).map(|n| n.file), Some(FileId(900)));
        assert_eq!(table.get(NodeNo(88)).map(|n| n.file), Some(FileId(77)), "another box");
    }

    #[test]
    fn a_hashed_node_remembers_its_file() {
        let mut table = Table::default();
        let node = NodeNo(1 << 63 | 5);
        table.count(node, ViewNo(3), FileId(9), None);
        assert_eq!(table.get(node), Some(Note { view: ViewNo(3), file: FileId(9), place: None }));
        table.note(node, FileId(9), &place(2, "moved"));
        assert_eq!(table.get(node).and_then(|n| n.place), Some(place(2, "moved")));
        table.note(NodeNo(4), FileId(4), &place(2, "unknown"));
        assert!(!table.knows(NodeNo(4)));
    }

    #[test]
    fn whatever_is_counted_noted_and_forgotten_the_table_says_what_a_map_says() {
        let mut dice = 7_u64;
        let mut roll = |sides: u64| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (dice >> 33) % sides
        };
        let mut table = Table::default();
        let mut map: BTreeMap<u64, (u32, Note)> = BTreeMap::new();
        for _ in 0..50_000 {
            // Neighbours, and numbers that are hashes.
            let number = 16 + roll(100);
            let hashed = roll(3) == 0;
            let node = NodeNo(if hashed { 1 << 63 | number.wrapping_mul(0x9e37_79b9_7f4a_7c15) } else { number });
            let (view, file) = (ViewNo(if hashed { 1 << 20 } else { 0 }), FileId(number));
            let placed = (roll(8) > 0).then(|| place(1 + roll(200), &"n".repeat(1 + roll(255) as usize)));
            match (roll(5), &placed) {
                (0, Some(placed)) => {
                    table.note(node, file, placed);
                    map.entry(node.0).and_modify(|(_, note)| note.place = Some(placed.clone()));
                }
                (2, Some(placed)) if !hashed => {
                    let listed: Vec<_> = (number..number + roll(70)).rev().collect();
                    let of = |n: &u64| (NodeNo(*n), FileId(*n), placed.clone());
                    table.count_all(view, listed.iter().map(of).collect());
                    for n in listed {
                        let lookups = map.get(&n).map_or(0, |(lookups, _)| *lookups) + 1;
                        map.insert(n, (lookups, Note { view, file: FileId(n), place: Some(placed.clone()) }));
                    }
                }
                (1, _) => {
                    let count = 1 + roll(3) as u32;
                    table.forget(node, u64::from(count));
                    if let Some((lookups, _)) = map.get_mut(&node.0) {
                        *lookups = lookups.saturating_sub(count);
                    }
                    map.retain(|_, (lookups, _)| *lookups > 0);
                }
                _ => {
                    table.count(node, view, file, placed.as_ref());
                    let note = Note { view, file, place: placed };
                    let lookups = map.get(&node.0).map_or(0, |(lookups, _)| *lookups) + 1;
                    map.insert(node.0, (lookups, note));
                }
            }
            assert_eq!(table.get(node), map.get(&node.0).map(|(_, note)| note.clone()));
            assert_eq!((table.knows(node), table.len()), (map.contains_key(&node.0), map.len()));
        }
        let other: BTreeMap<FileId, FileId> = (16..60).map(|n| (FileId(n), FileId(5 << 32 | n))).collect();
        table.renumber(ViewNo(0), &other);
        for (node, (_, note)) in &mut map {
            if note.view == ViewNo(0) {
                note.file = told(&other, note.file);
                note.place = note.place.as_ref().map(|place| told_place(&other, place));
            }
            assert_eq!(table.get(NodeNo(*node)).as_ref(), Some(&*note));
        }
        for (node, (lookups, _)) in map {
            table.forget(NodeNo(node), u64::from(lookups));
        }
        assert!(table.len() == 0 && table.blocks.is_empty(), "nothing stays behind");
    }

    #[test]
    fn a_file_costs_little_more_than_its_name() {
        let mut table = Table::default();
        let (files, name) = (10_000, "holiday-photo-000000.jpg.txt");
        for number in 0..files {
            let file = FileId(7 << 32 | (100 + number));
            table.count(NodeNo(file.0), ViewNo(0), file, Some(&place(7 << 32 | 50, name)));
        }
        let bytes: usize = table.blocks.values().map(|block| block.0.len()).sum();
        assert!(bytes <= files as usize * (name.len() + 8), "{bytes}");
        assert!(table.blocks.len() <= files as usize / 31, "a block for each {} nodes", 1 << BLOCK_BITS);
    }
}
