//! Measures the index: builds a tree over a million made-up entries and prints what it costs to store, read and change.
//!
//! `cargo run --release -p ouro-core --example index_sizes [entries]`. Times are of one run on whatever machine this is; compare only
//! numbers of one run.

use ouro_core::codec::{decode_delta, encode_delta};
use ouro_core::content::{BlobRef, Content, Locator, ObjectId};
use ouro_core::delta::{AddedContent, Delta, FileDelta, Register};
use ouro_core::id::{BlobId, DeviceNo, FileId, Hlc, NodeId, PackId, Seq, Version};
use ouro_core::name::Name;
use ouro_core::row::{Header, Key, Missing, Row, RowChanges};
use ouro_core::state::{Attributes, AttributesVersion, ContentVersion, File, Kind, Place, Placement};
use ouro_core::tree::{Builder, NewNode, Node, NodeRef, Nodes, TreeParams, diff, find, get, scan, update};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

const PARAMS: TreeParams = TreeParams { node_key: [7; 32], salt: [9; 32] };
const DEVICE: DeviceNo = DeviceNo(0x3ead_beef);
const VERSION: Version = Version { hlc: Hlc(1_700_000_000_000 << 16), device: DEVICE, seq: Seq(3) };
const SECOND: i64 = 1_000_000_000;
const ZSTD_LEVEL: i32 = 3;

#[expect(clippy::disallowed_methods, reason = "an example that measures has a clock of its own")]
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed())
}

struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// What grows while entries are made: file ids and places in packs, in the order of an import.
struct Import {
    dice: Dice,
    counter: u32,
    pack: u64,
    offset: u32,
    rows: Vec<(Key, Row)>,
}

impl Import {
    fn id(&mut self) -> FileId {
        self.counter += 1;
        FileId::new(DEVICE, self.counter)
    }

    fn chunk(&mut self) -> BlobRef {
        let len = 200 + (1u64 << self.dice.below(17)) as u32 + self.dice.below(3000) as u32;
        let stored = len * 2 / 3;
        if self.offset > 16 << 20 {
            (self.offset, self.pack) = (0, self.pack + 1);
        }
        let object = ObjectId::Pack(PackId(core::array::from_fn(|n| Dice(self.pack * 16 + n as u64).next() as u8)));
        let at = Some(Locator { object, offset: self.offset, len: stored });
        self.offset += stored;
        BlobRef { id: BlobId(core::array::from_fn(|_| self.dice.next() as u8)), len, at }
    }

    fn name(&mut self, extensions: &[&str]) -> Name {
        const WORDS: [&str; 16] = [
            "report", "image", "index", "test", "main", "util", "draft", "photo", "config", "module", "notes", "data",
            "view", "letter", "final", "copy",
        ];
        let (a, b) = (self.dice.below(16) as usize, self.dice.below(16) as usize);
        let extension = extensions[self.dice.below(extensions.len() as u64) as usize];
        let name = format!("{}-{}{}{extension}", WORDS[a], WORDS[b], self.dice.below(100_000));
        Name::new(name.as_bytes()).expect("a name")
    }

    fn add(&mut self, parent: FileId, name: Name, kind: Kind) -> FileId {
        let id = self.id();
        let place = Place { parent, name };
        let mut file = File::new(id, kind);
        let (was, by_rule, removed) = (None, false, false);
        file.placements.push(Placement { slot: 0, version: VERSION, place: place.clone(), was, by_rule, removed });
        if kind == Kind::File {
            let value = Some(Content::Chunks(Arc::from([self.chunk()])));
            file.contents.push(ContentVersion { version: VERSION, value, at: place.clone(), by_rule });
        }
        let mtime_ns =
            (1_600_000_000 + self.dice.below(100_000_000) as i64) * SECOND + self.dice.below(1 << 30) as i64 % SECOND;
        let mode = if kind == Kind::File { 0o644 } else { 0o755 };
        let value = Attributes { mode, mtime_ns, ctime_ns: mtime_ns, rdev: 0, xattrs: Vec::new() };
        file.attributes.push(AttributesVersion { version: VERSION, value });
        self.rows.push((Key::at(&place, id, 0), Row::Record(Arc::new(file))));
        if kind == Kind::Directory {
            self.rows.push((Key::header(id), Row::Header(Header { shown: place, removed: false, cut: false })));
        }
        id
    }
}

fn entries(count: usize) -> BTreeMap<Key, Row> {
    let mut import = Import { dice: Dice(1), counter: 16, pack: 0, offset: 0, rows: Vec::new() };
    let mut directories = vec![FileId::ROOT];
    let mut made = 0;
    let extensions = [".txt", ".jpg", ".rs", ".html", ".json"];
    while made < count {
        let parent = directories[import.dice.below(directories.len() as u64) as usize];
        let name = import.name(&[""]);
        let directory = import.add(parent, name, Kind::Directory);
        directories.push(directory);
        // One directory in many is huge.
        let files = if directories.len() == 1000 { count / 10 } else { import.dice.below(33) as usize };
        // An import goes through a directory by name.
        let names: BTreeSet<Name> = (0..files).map(|_| import.name(&extensions)).collect();
        for name in names {
            import.add(directory, name, Kind::File);
        }
        made += files + 1;
    }
    import.rows.into_iter().collect()
}

#[derive(Default)]
struct Stored {
    bytes: HashMap<NodeId, Vec<u8>>,
    decoded: HashMap<NodeId, Arc<Node>>,
}

impl Nodes for Stored {
    fn node(&self, at: &NodeRef) -> Result<Arc<Node>, Missing> {
        self.decoded.get(&at.id).cloned().ok_or(Missing { node: at.id, at: at.at })
    }
}

impl Stored {
    fn insert(&mut self, node: &NewNode, locate: &dyn Fn(NodeId) -> Option<Locator>) {
        let bytes = node.encode(locate);
        self.decoded.insert(node.reference.id, Arc::new(Node::decode(&bytes).expect("just encoded")));
        self.bytes.insert(node.reference.id, bytes);
    }
}

fn squeezed(bytes: &[u8]) -> usize {
    zstd::bulk::compress(bytes, ZSTD_LEVEL).expect("zstd takes any bytes").len()
}

fn somewhere(id: NodeId) -> Option<Locator> {
    let offset = u32::from_le_bytes([id.0[0], id.0[1], id.0[2], 0]);
    Some(Locator { object: ObjectId::Nodes(PackId([id.0[3] % 3; 16])), offset, len: 10_000 + u32::from(id.0[4]) })
}

/// A file's content changed, as an editor does it.
fn edited(row: &Row, n: u64) -> Row {
    let Row::Record(file) = row else { return row.clone() };
    let mut file = File::clone(file);
    let version = Version { hlc: Hlc::from_millis(1_700_000_500_000 + n), device: DEVICE, seq: Seq(4) };
    let id = BlobId(core::array::from_fn(|at| Dice(n * 32 + at as u64).next() as u8));
    for content in &mut file.contents {
        content.version = version;
        content.value = Some(Content::Chunks(Arc::from([BlobRef { id, len: 1234, at: None }])));
    }
    for attributes in &mut file.attributes {
        attributes.version = version;
        (attributes.value.mtime_ns, attributes.value.ctime_ns) = (n as i64 * SECOND, n as i64 * SECOND);
    }
    Row::Record(Arc::new(file))
}

fn sizes(stored: &Stored, root: &NodeRef) {
    let (mut raw_all, mut packed_all) = (0, 0);
    for level in (0..=root.level).rev() {
        let of_level = stored.bytes.iter().filter(|(id, _)| stored.decoded[*id].level() == level);
        let (mut count, mut raw, mut packed, mut greatest) = (0, 0, 0, 0);
        for (_, bytes) in of_level {
            (count, raw, packed) = (count + 1, raw + bytes.len(), packed + squeezed(bytes));
            greatest = greatest.max(bytes.len());
        }
        println!("level {level}: {count} nodes, raw {raw}, zstd {packed}, greatest {greatest}, mean {}", raw / count);
        (raw_all, packed_all) = (raw_all + raw, packed_all + packed);
    }
    let per = |bytes: usize| bytes as f64 / root.rows as f64;
    println!("all: raw {raw_all} ({:.1} B/row), zstd {packed_all} ({:.1} B/row)", per(raw_all), per(packed_all));
    let weight: usize = stored.decoded.values().map(|node| node.weight()).sum();
    println!("decoded: {weight} B in memory ({:.1} B/row)", per(weight));
}

fn rate(rows: u64, time: Duration) -> String {
    format!("{:.2?} ({:.2} M rows/s)", time, rows as f64 / time.as_secs_f64() / 1e6)
}

fn reading(stored: &Stored, root: &NodeRef, keys: &[Key]) {
    let leaves: Vec<&Vec<u8>> = stored.bytes.values().collect();
    let (_, time) = timed(|| leaves.iter().for_each(|bytes| drop(Node::decode(bytes))));
    println!("decode all nodes: {}", rate(root.rows, time));
    let mut rows = 0;
    let (_, time) = timed(|| {
        scan(stored, Some(root), &Key::homeless(FileId(0)), &mut |_, _| {
            rows += 1;
            ControlFlow::Continue(())
        })
    });
    println!("scan all rows: {}", rate(rows, time));
    let some: Vec<&Key> = keys.iter().step_by(97).collect();
    let (_, time) = timed(|| some.iter().for_each(|key| drop(get(stored, Some(root), key))));
    println!("get: {:.2?} each", time / some.len() as u32);
    let (_, time) = timed(|| some.iter().take(100).for_each(|key| drop(find(stored, Some(root), key.file))));
    println!("find by id: {:.2?} each", time / 100);
}

fn changing(stored: &mut Stored, root: &NodeRef, keys: &[Key], what: &str, changes: &RowChanges) {
    let mut new = Vec::new();
    let (changed, time) = timed(|| update(stored, &PARAMS, Some(root), changes, &mut |node| new.push(node)));
    let changed = changed.expect("all nodes are here").expect("rows are left");
    let packed: usize = new.iter().map(|node| squeezed(&node.encode(&somewhere))).sum();
    new.iter().for_each(|node| stored.insert(node, &somewhere));
    let mut differ = 0;
    let (_, diff_time) = timed(|| diff(stored, Some(root), Some(&changed), &mut |_, _, _| differ += 1));
    let count = new.len();
    println!(
        "{what}: {count} nodes, zstd {packed}, update {time:.2?}, diff {diff_time:.2?} ({differ} of {} rows)",
        keys.len()
    );
}

fn deltas(rows: &BTreeMap<Key, Row>, keys: &[Key]) {
    for count in [1usize, 100, 1000, 10_000] {
        let mut files = Vec::new();
        for (n, key) in keys.iter().step_by(keys.len() / count).enumerate() {
            let Row::Record(file) = edited(&rows[key], n as u64) else { continue };
            let hint = Place { parent: key.directory, name: key.name.clone() };
            let mut delta = FileDelta::new(file.id, file.kind, Some(hint.clone()));
            if let Some(content) = file.contents.first() {
                delta.content = Some(AddedContent { value: content.value.clone(), at: hint, by_rule: false });
                delta.replaced.push((Register::Content, VERSION));
            }
            delta.attributes = file.seen_attributes().cloned();
            delta.replaced.push((Register::Attributes, VERSION));
            files.push(delta);
        }
        files.sort_by_key(|file| file.id);
        let delta = Delta { files };
        let (bytes, time) = timed(|| encode_delta(&delta));
        let (_, back) = timed(|| decode_delta(&bytes));
        println!(
            "delta of {} edits: raw {}, zstd {}, encode {time:.2?}, decode {back:.2?}",
            delta.files.len(),
            bytes.len(),
            squeezed(&bytes)
        );
    }
}

fn main() {
    let count = std::env::args().nth(1).and_then(|arg| arg.parse().ok()).unwrap_or(1_000_000);
    let rows = entries(count);
    let keys: Vec<Key> =
        rows.iter().filter(|(_, row)| matches!(row, Row::Record(_))).map(|(key, _)| key.clone()).collect();
    println!("{} rows, {} of them records", rows.len(), keys.len());
    let mut made = Vec::new();
    let pushed: Vec<(Key, Row)> = rows.iter().map(|(key, row)| (key.clone(), row.clone())).collect();
    let (root, time) = timed(|| {
        let mut sink = |node: NewNode| made.push(node);
        let mut builder = Builder::new(&PARAMS, &mut sink);
        pushed.into_iter().for_each(|(key, row)| builder.push(key, row));
        builder.finish()
    });
    let root = root.expect("there are rows");
    println!("build: {}", rate(root.rows, time));
    let mut stored = Stored::default();
    made.iter().for_each(|node| stored.insert(node, &somewhere));
    sizes(&stored, &root);
    reading(&stored, &root, &keys);

    let mut dice = Dice(2);
    let mut pick = |count: usize| -> RowChanges {
        let keys = (0..count).map(|_| &keys[dice.below(keys.len() as u64) as usize]);
        keys.enumerate().map(|(n, key)| (key.clone(), Some(edited(&rows[key], n as u64)))).collect()
    };
    for count in [1, 1, 100, 1000, 10_000] {
        let changes = pick(count);
        changing(&mut stored, &root, &keys, &format!("{count} random edits"), &changes);
    }
    let adjacent = keys.iter().skip(keys.len() / 2).take(1000);
    let adjacent = adjacent.map(|key| (key.clone(), Some(edited(&rows[key], 1)))).collect();
    changing(&mut stored, &root, &keys, "1000 adjacent edits", &adjacent);
    let removed = RowChanges::from([(keys[keys.len() / 3].clone(), None)]);
    changing(&mut stored, &root, &keys, "1 removed", &removed);
    deltas(&rows, &keys);
}
