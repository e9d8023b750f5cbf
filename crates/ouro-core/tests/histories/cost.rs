//! What operations read: a handful of rows, however many there are.

use crate::device::{Device, Names, attributes, bytes};
use crate::oracle::name;
use ouro_core::apply::apply;
use ouro_core::delta::{AddedContent, AddedPlacement, Delta, FileDelta};
use ouro_core::edit::{Edit, EditError, Edited, Pending};
use ouro_core::id::{DeviceNo, FileId, Hlc, Seq, Version};
use ouro_core::render;
use ouro_core::row::{Key, Missing, Row, Rows};
use ouro_core::state::{File, Kind, Place};
use ouro_core::tree::MapRows;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Rows that count what is read of them, and refuse to be searched.
struct Counted<'a> {
    rows: &'a MapRows,
    read: Cell<usize>,
}

impl Rows for Counted<'_> {
    fn get(&self, key: &Key) -> Result<Option<Row>, Missing> {
        self.read.set(self.read.get() + 1);
        self.rows.get(key)
    }

    fn scan(&self, from: &Key, visit: &mut dyn FnMut(&Key, &Row) -> ControlFlow<()>) -> Result<(), Missing> {
        self.read.set(self.read.get() + 1);
        self.rows.scan(from, &mut |key, row| {
            self.read.set(self.read.get() + 1);
            visit(key, row)
        })
    }

    fn find(&self, file: FileId) -> Result<Option<(Key, Arc<File>)>, Missing> {
        panic!("a search for {file:?}");
    }
}

const FILES: u32 = 10_000;

fn many() -> Delta {
    let file = |n: u32| {
        let id = FileId::new(DeviceNo(9), n + 100);
        let place = Place { parent: FileId::ROOT, name: name(&format!("file {n:05}")) };
        let content = AddedContent { value: Some(bytes(&format!("{n}"))), at: place.clone(), by_rule: false };
        let placement = AddedPlacement { slot: 0, place, was: None, by_rule: false, removed: false };
        FileDelta {
            placements: vec![placement],
            content: Some(content),
            attributes: Some(attributes(0o600)),
            ..FileDelta::new(id, Kind::File, None)
        }
    };
    Delta { files: (0..FILES).map(file).collect() }
}

fn version(seq: u64) -> Version {
    Version { hlc: Hlc::from_millis(seq), device: DeviceNo(9), seq: Seq(seq) }
}

fn big() -> MapRows {
    let applied = apply(&MapRows::default(), &many(), version(1)).expect("all rows are there");
    let rows = applied.changes.into_iter().filter_map(|(key, row)| row.map(|row| (key, row)));
    MapRows(rows.collect())
}

#[test]
fn applying_a_delta_reads_a_few_rows_for_each_file() {
    let empty = MapRows::default();
    let rows = Counted { rows: &empty, read: Cell::new(0) };
    apply(&rows, &many(), version(1)).expect("all rows are there");
    assert!(rows.read.get() < 10 * FILES as usize, "read {}", rows.read.get());
}

fn reads<T>(rows: &MapRows, act: impl FnOnce(Edit<'_>) -> Result<T, EditError>) -> usize {
    let rows = Counted { rows, read: Cell::new(0) };
    let pending = Pending::default();
    let mut fresh = || FileId::new(DeviceNo(1), 77);
    let edit = Edit { rows: &rows, pending: &pending, devices: &Names(1), fresh: &mut fresh, now_ns: 0, generation: 0 };
    act(edit).map(|_| ()).expect("it can be done");
    rows.read.get()
}

#[test]
fn an_operation_reads_a_few_rows_of_a_directory_of_many() {
    const FEW: usize = 40;
    let rows = big();
    let root = [FileId::ROOT];
    let seen = |at: &str| {
        render::lookup(&rows, &Names(1), &root, &name(at)).expect("all rows are there").expect("it is there")
    };
    let (one, other) = (seen("file 00500"), seen("file 07000"));
    let done: [(&str, usize); 5] = [
        ("create", reads(&rows, |e| e.create(&root, &name("new"), Kind::File, attributes(0), None))),
        ("write", reads(&rows, |e| e.write(&one, &root, bytes("new"), attributes(0)))),
        ("rename", reads(&rows, |e| e.rename(&one, &root, &root, &name("new"), None))),
        ("rename over", reads(&rows, |e| e.rename(&one, &root, &root, &other.name, Some(&other)))),
        ("remove", reads(&rows, |e| e.remove(&one, &root).map(|edited: Edited| edited))),
    ];
    for (what, read) in done {
        assert!(read <= FEW, "{what} read {read} rows");
    }
}

#[test]
fn a_page_reads_in_proportion_to_its_entries() {
    let rows = big();
    let counted = Counted { rows: &rows, read: Cell::new(0) };
    let page = render::list(&counted, &Names(1), &[FileId::ROOT], None, 10).expect("all rows are there");
    assert_eq!(page.entries.len(), 10);
    assert!(counted.read.get() <= 30, "read {}", counted.read.get());
    counted.read.set(0);
    let missed = render::lookup(&counted, &Names(1), &[FileId::ROOT], &name("not there")).expect("all rows are there");
    assert_eq!(missed, None);
    assert!(counted.read.get() <= 2, "read {}", counted.read.get());
}

#[test]
fn every_entry_that_stays_is_listed_once_while_others_come_and_go() {
    let (mut a, mut b) = (Device::new(1), Device::new(2));
    for n in 0..20 {
        a.make(&format!("/{n:02}"), Some("of a"));
        b.make(&format!("/{n:02}"), Some("of b"));
    }
    let (from_a, from_b) = (a.seal(1).expect("a made files"), b.seal(2).expect("b made files"));
    a.learn(&from_b);
    b.learn(&from_a);
    let stay: BTreeSet<String> =
        a.spots().into_keys().filter(|p| p.len() > 1 && !p.contains('5') && !p.contains("/1")).collect();
    let mut listed = Vec::new();
    let mut after = None;
    for n in 10..20 {
        let page = render::list(&a.live, &a.names, &[FileId::ROOT], after.as_ref(), 3).expect("all rows are there");
        listed.extend(page.entries.iter().map(|s| format!("/{}", s.name.display())));
        after = page.next;
        a.remove(&format!("/{n:02}"));
        a.make(&format!("/{n:02}5 new"), Some("new"));
        if after.is_none() {
            break;
        }
    }
    while after.is_some() {
        let page = render::list(&a.live, &a.names, &[FileId::ROOT], after.as_ref(), 3).expect("all rows are there");
        listed.extend(page.entries.iter().map(|s| format!("/{}", s.name.display())));
        after = page.next;
    }
    for path in stay {
        assert_eq!(listed.iter().filter(|p| **p == path).count(), 1, "{path} in {listed:?}");
    }
}

#[test]
fn a_listing_goes_on_behind_a_natural_name_that_is_a_derived_one_by_now() {
    let (mut a, mut b) = (Device::new(1), Device::new(2));
    a.make("/f", Some("of a"));
    a.make("/f (between", Some("listed before"));
    b.make("/f", Some("of b"));
    let (from_a, from_b) = (a.seal(1).expect("a made files"), b.seal(2).expect("b made files"));
    a.learn(&from_b);
    b.learn(&from_a);
    let derived = a.spots().into_keys().find(|path| path.contains("(conflict from")).expect("one has lost its name");
    let after = name(&derived[1..]);
    let page = render::list(&a.live, &a.names, &[FileId::ROOT], Some(&after), 8).expect("all rows are there");
    assert_eq!(page.entries, [], "nothing stands behind {derived}");
}
