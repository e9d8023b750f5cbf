//! Trees: the same rows make the same tree, and reading, changing and comparing agree with a plain map.

use crate::given::{self, Dice, PARAMS};
use ouro_core::id::FileId;
use ouro_core::name::Name;
use ouro_core::row::{Key, Row, RowChanges, Rows};
use ouro_core::state::File;
use ouro_core::tree::{
    Builder, MapNodes, MapRows, NewNode, Node, NodeRef, TreeRows, diff, find, get, relocate, scan, update, verify,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

type Map = BTreeMap<Key, Row>;

fn build(nodes: &mut MapNodes, rows: &Map) -> Option<NodeRef> {
    let mut sink = |node: NewNode| nodes.insert(&node);
    let mut builder = Builder::new(&PARAMS, &mut sink);
    rows.iter().for_each(|(key, row)| builder.push(key.clone(), row.clone()));
    builder.finish()
}

/// Changes a tree and the map beside it; says which nodes were new.
fn change(
    nodes: &mut MapNodes,
    root: Option<NodeRef>,
    map: &mut Map,
    changes: &RowChanges,
) -> (Option<NodeRef>, usize) {
    let mut new = Vec::new();
    let root = update(nodes, &PARAMS, root.as_ref(), changes, &mut |node| new.push(node)).expect("all nodes are here");
    new.iter().for_each(|node| nodes.insert(node));
    for (key, row) in changes {
        match row {
            Some(row) => map.insert(key.clone(), row.clone()),
            None => map.remove(key),
        };
    }
    (root, new.len())
}

/// Names that are long make nodes of few rows, and so trees of many levels.
fn some_key(dice: &mut Dice, long: bool) -> Key {
    let mut key = given::key(dice);
    if long && !key.name.is_empty() {
        let mut bytes = vec![b'n'; 255];
        let end = key.name.as_bytes();
        bytes[255 - end.len()..].copy_from_slice(end);
        key.name = Name::new(&bytes).expect("a name");
    }
    key
}

fn some_rows(dice: &mut Dice, count: u64, long: bool) -> Map {
    (0..count)
        .map(|_| {
            let key = some_key(dice, long);
            let row = given::row(dice, &key);
            (key, row)
        })
        .collect()
}

fn some_changes(dice: &mut Dice, map: &Map, count: u64, long: bool) -> RowChanges {
    let mut changes = RowChanges::new();
    // Sometimes a stretch, so that whole nodes go.
    if !map.is_empty() && dice.one_in(4) {
        let (start, len) = (dice.below(map.len() as u64), dice.below(map.len() as u64));
        changes.extend(map.keys().skip(start as usize).take(len as usize).map(|key| (key.clone(), None)));
    }
    for _ in 0..count {
        let old = (!map.is_empty() && dice.one_in(2)).then(|| map.keys().nth(dice.below(map.len() as u64) as usize));
        let key = old.flatten().cloned().unwrap_or_else(|| some_key(dice, long));
        let row = (!dice.one_in(3)).then(|| given::row(dice, &key));
        changes.insert(key, row);
    }
    changes
}

fn rows_of(nodes: &MapNodes, root: Option<&NodeRef>) -> Map {
    let mut rows = Map::new();
    let from = Key::homeless(FileId(0));
    let mut visit = |key: &Key, row: &Row| {
        rows.insert(key.clone(), row.clone());
        ControlFlow::Continue(())
    };
    scan(nodes, root, &from, &mut visit).expect("all nodes are here");
    rows
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_order_of_edits_the_tree_is_the_one_built_from_scratch(seed: u64, steps in 1..8usize, long: bool) {
        let mut dice = Dice(seed);
        let mut nodes = MapNodes::default();
        let count = dice.below(4000);
        let mut map = some_rows(&mut dice, count, long);
        let mut root = build(&mut nodes, &map);
        for _ in 0..steps {
            let count = if dice.one_in(3) { dice.below(600) } else { dice.below(5) };
            let changes = some_changes(&mut dice, &map, count, long);
            (root, _) = change(&mut nodes, root, &mut map, &changes);
            let mut scratch = MapNodes::default();
            prop_assert_eq!(build(&mut scratch, &map), root);
            prop_assert!(scratch.0.keys().all(|id| nodes.0.contains_key(id)), "a node of the tree was not written");
        }
        prop_assert_eq!(rows_of(&nodes, root.as_ref()), map);
    }

    #[test]
    fn a_diff_names_what_a_comparison_of_all_rows_names(seed: u64, long: bool) {
        let mut dice = Dice(seed);
        let mut nodes = MapNodes::default();
        let count = dice.below(3000);
        let mut map = some_rows(&mut dice, count, long);
        let a = build(&mut nodes, &map);
        let before = map.clone();
        let count = dice.below(40);
        let changes = some_changes(&mut dice, &map, count, long);
        let (b, _) = change(&mut nodes, a, &mut map, &changes);
        let mut found = Vec::new();
        diff(&nodes, a.as_ref(), b.as_ref(), &mut |key, a, b| found.push((key.clone(), a.cloned(), b.cloned())))
            .expect("all nodes are here");
        let keys: BTreeSet<&Key> = before.keys().chain(map.keys()).collect();
        let differ = keys.into_iter().filter(|key| before.get(key) != map.get(key));
        let expected: Vec<_> = differ.map(|key| (key.clone(), before.get(key).cloned(), map.get(key).cloned())).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn a_tree_with_changes_on_top_reads_as_a_plain_map(seed: u64) {
        let mut dice = Dice(seed);
        let mut nodes = MapNodes::default();
        let count = dice.below(2000);
        let mut rows = some_rows(&mut dice, count, false);
        // A row about a file comes with the file's record in the same tree.
        let recorded = rows.iter().filter(|(_, row)| matches!(row, Row::Record(_))).map(|(key, _)| key.file);
        let recorded: BTreeSet<FileId> = recorded.collect();
        rows.retain(|key, _| recorded.contains(&key.file));
        let mut map = MapRows(rows);
        let root = build(&mut nodes, &map.0);
        let count = dice.below(100);
        let mut changes = some_changes(&mut dice, &map.0, count, false);
        // A file has one record: changes do not bring the record of a file that has another one.
        let ids: BTreeSet<FileId> = map.0.keys().map(|key| key.file).collect();
        changes.retain(|key, row| row.is_none() || map.0.contains_key(key) || !ids.contains(&key.file));
        let tree = TreeRows { nodes: &nodes, root: root.as_ref(), changes: &changes };
        map.change(&changes);
        for _ in 0..50 {
            let key = match map.0.keys().nth(dice.below(2000) as usize) {
                Some(key) if dice.one_in(2) => key.clone(),
                _ => given::key(&mut dice),
            };
            prop_assert_eq!(tree.get(&key), map.get(&key));
            let limit = dice.below(400) as usize;
            let page = |rows: &dyn Rows| {
                let mut page = Vec::new();
                rows.scan(&key, &mut |key, row| {
                    page.push((key.clone(), row.clone()));
                    if page.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
                }).expect("all nodes are here");
                page
            };
            prop_assert_eq!(page(&tree), page(&map));
        }
    }

    #[test]
    fn the_record_of_a_file_is_found_wherever_it_stands(seed: u64) {
        let mut dice = Dice(seed);
        let mut nodes = MapNodes::default();
        let count = dice.below(2000);
        let mut map = some_rows(&mut dice, count, false);
        let mut seen = BTreeSet::new();
        map.retain(|key, row| !matches!(row, Row::Record(_)) || seen.insert(key.file));
        let root = build(&mut nodes, &map);
        for (key, row) in &map {
            if let Row::Record(file) = row {
                let found = find(&nodes, root.as_ref(), key.file).expect("all nodes are here");
                prop_assert_eq!(found, Some((key.clone(), file.clone())));
            }
        }
        prop_assert_eq!(find(&nodes, root.as_ref(), FileId(12345)), Ok(None));
    }

    #[test]
    fn a_damaged_node_never_panics_and_is_never_taken_for_the_real_one(seed: u64) {
        let mut dice = Dice(seed);
        let count = 1 + dice.below(300);
        let map = some_rows(&mut dice, count, false);
        let mut made = Vec::new();
        let mut sink = |node: NewNode| made.push(node);
        let mut builder = Builder::new(&PARAMS, &mut sink);
        map.iter().for_each(|(key, row)| builder.push(key.clone(), row.clone()));
        builder.finish();
        for node in &made {
            let bytes = node.encode(&|_| None);
            prop_assert!(verify(&bytes, &PARAMS, node.reference.id).is_ok());
            for _ in 0..30 {
                let mut damaged = bytes.clone();
                let at = dice.below(bytes.len() as u64) as usize;
                match dice.below(4) {
                    0 => damaged[at] = dice.next() as u8,
                    1 => damaged[at] ^= 1 << dice.below(8),
                    2 => damaged.insert(at, dice.next() as u8),
                    _ => damaged.truncate(at),
                }
                if let Ok(node) = Node::decode(&damaged) {
                    // What is accepted can be read through to the end.
                    for index in 0..node.len() {
                        drop((node.key(index), node.row(index)));
                    }
                }
            }
        }
    }
}

/// Many plain files in few directories, as a real box has them.
fn plain_rows(count: u32) -> Map {
    let mut dice = Dice(5);
    (0..count)
        .map(|n| {
            let directory = FileId::new(ouro_core::id::DeviceNo(77), 16 + n / 300 * 301);
            let name = Name::new(format!("file-{n:06}.txt").as_bytes()).expect("a name");
            let file = FileId::new(ouro_core::id::DeviceNo(77), 17 + n / 300 * 301 + n % 300);
            let key = Key { directory, name, file, slot: 0 };
            let mut record = given::usual_file(&mut dice, &key);
            record.kind = ouro_core::state::Kind::File;
            (key.clone(), Row::Record(std::sync::Arc::<File>::new(record)))
        })
        .collect()
}

#[test]
fn a_changed_value_moves_no_boundary_and_writes_one_node_per_level() {
    let mut nodes = MapNodes::default();
    let mut map = plain_rows(60_000);
    let root = build(&mut nodes, &map);
    let levels = usize::from(root.expect("rows").level) + 1;
    assert!(levels >= 3, "{levels} levels are too few to show anything");
    let mut dice = Dice(6);
    for _ in 0..20 {
        let key = map.keys().nth(dice.below(60_000) as usize).cloned().expect("a row");
        let changes = RowChanges::from([(
            key.clone(),
            Some(Row::Record(std::sync::Arc::new(given::usual_file(&mut dice, &key)))),
        )]);
        let (_, new) = change(&mut nodes, root, &mut map.clone(), &changes);
        assert_eq!(new, levels);
    }
    // Setting a row to what it is writes nothing, and gives the same root.
    let key = map.keys().nth(777).cloned().expect("a row");
    let changes = RowChanges::from([(key.clone(), map.get(&key).cloned())]);
    assert_eq!(change(&mut nodes, root, &mut map, &changes), (root, 0));
}

#[test]
fn node_sizes_stay_near_the_target() {
    let mut nodes = MapNodes::default();
    build(&mut nodes, &plain_rows(60_000));
    let mut sizes: Vec<usize> =
        nodes.0.values().filter(|node| node.level() == 0).map(|node| node.len() * (64 + 15)).collect();
    sizes.sort_unstable();
    let mean = sizes.iter().sum::<usize>() / sizes.len();
    assert!((14_000..19_000).contains(&mean), "mean {mean}");
    assert!(sizes[sizes.len() - 1] < 40_000, "greatest {}", sizes[sizes.len() - 1]);
    assert!(sizes[sizes.len() / 100] > 3_000, "first percentile {}", sizes[sizes.len() / 100]);
}

#[test]
fn a_scan_reads_only_the_nodes_of_the_rows_it_visits() {
    use std::cell::Cell;
    struct Counted(MapNodes, Cell<usize>);
    impl ouro_core::tree::Nodes for Counted {
        fn node(&self, at: &NodeRef) -> Result<std::sync::Arc<Node>, ouro_core::row::Missing> {
            self.1.set(self.1.get() + 1);
            self.0.node(at)
        }
    }
    let mut nodes = MapNodes::default();
    let map = plain_rows(60_000);
    let root = build(&mut nodes, &map);
    let levels = usize::from(root.expect("rows").level) + 1;
    let nodes = Counted(nodes, Cell::new(0));
    let from = map.keys().nth(20_000).expect("a row");
    scan(&nodes, root.as_ref(), from, &mut |_, _| ControlFlow::Break(())).expect("all nodes are here");
    assert_eq!(nodes.1.replace(0), levels);
    assert_eq!(get(&nodes, root.as_ref(), from), Ok(map.get(from).cloned()));
    assert_eq!(nodes.1.replace(0), levels);
}

#[test]
fn a_missing_node_is_named_and_the_next_try_goes_on() {
    let mut nodes = MapNodes::default();
    let map = plain_rows(5_000);
    let root = build(&mut nodes, &map).expect("rows");
    let key = map.keys().nth(2_500).expect("a row");
    let mut here = MapNodes::default();
    let mut fetched = 0;
    let found = loop {
        match get(&here, Some(&root), key) {
            Ok(row) => break row,
            Err(missing) => {
                here.0.insert(missing.node, nodes.0[&missing.node].clone());
                fetched += 1;
            }
        }
    };
    assert_eq!(found.as_ref(), map.get(key));
    assert_eq!(fetched, usize::from(root.level) + 1);
}

#[test]
fn locators_change_no_id_and_reach_the_reader() {
    use ouro_core::content::{Locator, ObjectId};
    let mut made = Vec::new();
    let mut sink = |node: NewNode| made.push(node);
    let mut builder = Builder::new(&PARAMS, &mut sink);
    plain_rows(2_000).into_iter().for_each(|(key, row)| builder.push(key, row));
    let root = builder.finish().expect("rows");
    assert_eq!(root.level, 1);
    let top = made.last().expect("the root comes last");
    let at = |id: ouro_core::id::NodeId| {
        let offset = u32::from(id.0[0]) * 1000;
        Some(Locator { object: ObjectId::Nodes(ouro_core::id::PackId([5; 16])), offset, len: 999 })
    };
    let with = verify(&top.encode(&at), &PARAMS, root.id).expect("the root");
    let without = verify(&top.encode(&|_| None), &PARAMS, root.id).expect("the root");
    assert!(with.children().iter().all(|child| child.at == at(child.id)));
    assert!(without.children().iter().all(|child| child.at.is_none()));
    assert_eq!(with.children(), without.children());
    // Blobs of rows keep theirs too.
    let leaf = made.first().expect("leaves come first").node();
    let mut blobs = 0;
    leaf.blobs(&mut |blob| blobs += usize::from(blob.at.is_some()));
    assert!(blobs > leaf.len() / 4);
    // A repack moves blobs and children: ids stay, the new places are read.
    let moved = Some(Locator { object: ObjectId::Pack(ouro_core::id::PackId([6; 16])), offset: 5, len: 6 });
    for node in &made {
        let bytes = relocate(&node.encode(&|_| None), &|_| moved, &|_| moved).expect("a node");
        let back = verify(&bytes, &PARAMS, node.reference.id).expect("the same node");
        assert!(back.children().iter().all(|child| child.at == moved));
        back.blobs(&mut |blob| assert_eq!(blob.at, moved));
    }
}
