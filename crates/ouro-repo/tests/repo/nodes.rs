//! Tree nodes: written, fetched one by one, together, and from the top.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::executor::block_on;
use ouro_core::content::ObjectId;
use ouro_core::id::{FileId, Hlc, NodeId, Seq, Version};
use ouro_core::name::Name;
use ouro_core::row::{Key, Missing, Row};
use ouro_core::state::{Attributes, AttributesVersion, File, Kind, Place, Placement};
use ouro_core::tree::{Builder, NewNode, Node, NodeRef};
use ouro_remote::Store;
use ouro_repo::{OpenNode, RepoError, Repository};

use crate::support::{NUMBER, new_repo};

/// A tree over `count` empty files: its nodes as a builder gives them, and its root.
pub(crate) fn tree(repo: &Repository, count: u32) -> (Vec<NewNode>, NodeRef) {
    let params = repo.tree_params();
    let mut nodes = Vec::new();
    let mut sink = |node| nodes.push(node);
    let mut builder = Builder::new(&params, &mut sink);
    let version = Version { hlc: Hlc(1), device: NUMBER, seq: Seq(1) };
    for n in 0..count {
        let mut file = File::new(FileId::new(NUMBER, 16 + n), Kind::File);
        let name = Name::new(format!("photo {n:08}.jpg").as_bytes()).unwrap();
        let place = Place { parent: FileId::ROOT, name };
        let key = Key::at(&place, file.id, 0);
        file.placements.push(Placement { slot: 0, version, place, was: None, by_rule: false, removed: false });
        let value = Attributes { mode: 0o644, mtime_ns: i64::from(n), ctime_ns: 0, rdev: 0, xattrs: Vec::new() };
        file.attributes.push(AttributesVersion { version, value });
        builder.push(key, Row::Record(Arc::new(file)));
    }
    let root = builder.finish().unwrap();
    (nodes, root)
}

fn missing(node: &NodeRef) -> Missing {
    Missing { node: node.id, at: node.at }
}

/// Everything below a root, fetched level by level.
fn fetch_all(repo: &Repository, root: NodeRef) -> BTreeMap<NodeId, Bytes> {
    let mut found = BTreeMap::new();
    let mut level = vec![missing(&root)];
    while !level.is_empty() {
        let mut next = Vec::new();
        let mut each = |id, opened: OpenNode| {
            next.extend(opened.node.children().iter().map(missing));
            found.insert(id, opened.bytes);
        };
        block_on(repo.fetch_nodes(&level, &mut each)).unwrap();
        level = next;
    }
    found
}

#[test]
fn a_tree_is_found_from_its_root_alone() {
    for encrypted in [true, false] {
        let (_, repo) = new_repo(encrypted);
        let (nodes, root) = tree(&repo, 20_000);
        assert!(root.level > 0);
        let ids: Vec<NodeId> = nodes.iter().map(|node| node.reference.id).collect();
        let written = block_on(repo.write_nodes(nodes)).unwrap();
        let found = fetch_all(&repo, written.locate(root));
        assert_eq!(found.len(), ids.len());
        assert!(ids.iter().all(|id| found.contains_key(id)));
        let rows: u64 =
            found.values().map(|b| Node::decode(b).unwrap()).filter(|n| n.level() == 0).map(|n| n.rows()).sum();
        assert_eq!(rows, 20_000);
    }
}

#[test]
fn the_whole_index_is_a_few_requests_and_its_top_is_one() {
    let (store, repo) = new_repo(true);
    let (nodes, root) = tree(&repo, 60_000);
    let inner: Vec<NodeId> =
        nodes.iter().filter(|node| node.reference.level > 0).map(|node| node.reference.id).collect();
    let count = nodes.len() as u64;
    let root = block_on(repo.write_nodes(nodes)).unwrap().locate(root);
    let before = store.usage().gets;
    let top = block_on(repo.fetch_top(&root)).unwrap();
    assert_eq!(store.usage().gets - before, 1);
    assert_eq!(top[0].0, root.id);
    let mut top: Vec<NodeId> = top.into_iter().map(|(id, _)| id).collect();
    let mut expected = inner.clone();
    top.sort();
    expected.sort();
    assert_eq!(top, expected);
    let before = store.usage().gets;
    fetch_all(&repo, root);
    let gets = store.usage().gets - before;
    assert!(gets <= u64::from(root.level) + 1, "{gets} requests for {count} nodes");
}

#[test]
fn inner_nodes_lie_together_at_the_end_with_the_root_last() {
    let (_, repo) = new_repo(true);
    let (nodes, root) = tree(&repo, 60_000);
    let levels: BTreeMap<NodeId, u8> = nodes.iter().map(|node| (node.reference.id, node.reference.level)).collect();
    let root = block_on(repo.write_nodes(nodes)).unwrap().locate(root);
    let Some(ObjectId::Nodes(pack)) = root.at.map(|at| at.object) else { panic!("{root:?}") };
    let directory = block_on(repo.nodes_directory(pack)).unwrap().unwrap();
    let order: Vec<u8> = directory.iter().map(|(id, _)| levels[id]).collect();
    assert!(order.is_sorted(), "{order:?}");
    assert_eq!(directory.last().unwrap().0, root.id);
}

#[test]
fn a_single_node_is_one_request_and_is_verified() {
    let (store, repo) = new_repo(true);
    let (nodes, root) = tree(&repo, 10);
    let root = block_on(repo.write_nodes(nodes)).unwrap().locate(root);
    let before = store.usage().gets;
    let opened = block_on(repo.fetch_node(&missing(&root))).unwrap();
    assert_eq!(store.usage().gets - before, 1);
    assert_eq!(opened.node.rows(), 10);
    assert_eq!(Node::decode(&opened.bytes).unwrap().rows(), 10);
    let other = Missing { node: NodeId([1; 32]), at: root.at };
    assert!(matches!(block_on(repo.fetch_node(&other)), Err(RepoError::Corrupt { .. })));
    let nowhere = Missing { node: root.id, at: None };
    assert!(matches!(block_on(repo.fetch_node(&nowhere)), Err(RepoError::Unlocated { .. })));
    let name = repo.object_name(root.at.unwrap().object).unwrap();
    block_on(store.delete(&name)).unwrap();
    assert!(matches!(block_on(repo.fetch_node(&missing(&root))), Err(RepoError::NodeGone { .. })));
    assert!(matches!(block_on(repo.fetch_top(&root)), Err(RepoError::NodeGone { .. })));
}

#[test]
fn writing_nothing_writes_nothing() {
    let (store, repo) = new_repo(true);
    let before = store.snapshot().len();
    assert!(block_on(repo.write_nodes(Vec::new())).unwrap().located.is_empty());
    assert_eq!(store.snapshot().len(), before);
}
