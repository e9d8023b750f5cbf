//! Listings against the truth while names come and go, and commits and checkpoints go by as fast as they can.

use crate::support::{ROOT, World};
use ouro_core::state::Kind;
use ouro_vfs::{NodeNo, RenameHow};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Files in a directory of a round.
const FILES: u32 = 300;
/// Files that stay, among others that come and go.
const STAYING: u32 = 400;
const WRITERS: u32 = 3;

fn rounds() -> u32 {
    let long = std::env::var_os("OUROBOX_LONG").is_some_and(|value| value == "1");
    if long { 2_000 } else { 12 }
}

/// The names of a directory as a door takes them: a few of each page, the rest asked for again.
fn listed(world: &World, directory: NodeNo, step: usize) -> Vec<String> {
    let (mut names, mut cookie) = (Vec::new(), 0);
    loop {
        let entries = world.vfs.readdir(&ROOT, directory, cookie, step).unwrap().entries;
        let taken = entries.len().min(step - step / 5);
        let Some(last) = entries[..taken].last() else { break };
        cookie = last.cookie;
        names.extend(entries[..taken].iter().map(|e| String::from_utf8_lossy(&e.name).into_owned()));
        for entry in entries.iter().filter(|e| e.looked_up) {
            world.vfs.forget(entry.stat.node, 1);
        }
    }
    names.retain(|name| name != "." && name != "..");
    names
}

fn assert_lists(what: &str, world: &World, directory: NodeNo, expected: &BTreeSet<String>) {
    for step in [32, 97] {
        let names = listed(world, directory, step);
        let found: BTreeSet<String> = names.iter().cloned().collect();
        let (missing, extra) = (expected.difference(&found).count(), found.difference(expected).count());
        let twice = names.len() - found.len();
        assert!(missing + extra + twice == 0, "{what}: {missing} names missing, {extra} too much, {twice} twice");
    }
}

/// Makes a directory, takes half of its files away, moves it, and removes it.
fn round(world: &World, writer: u32, round: u32) {
    let (name, moved) = (format!("w{writer} {round}"), format!("w{writer} {round} moved"));
    let directory = world.vfs.mkdir(&ROOT, NodeNo::ROOT, name.as_bytes(), 0o755).unwrap().node;
    for i in 0..FILES {
        let text = format!("{i:04}");
        if i % 16 == 0 {
            world.write_file(directory, &text, text.as_bytes());
        } else {
            world.vfs.mknod(&ROOT, directory, text.as_bytes(), Kind::File, 0o644, 0).unwrap();
        }
    }
    for i in (0..FILES).step_by(2) {
        world.vfs.unlink(&ROOT, directory, format!("{i:04}").as_bytes()).unwrap();
    }
    world.vfs.rename(&ROOT, NodeNo::ROOT, name.as_bytes(), NodeNo::ROOT, moved.as_bytes(), RenameHow::Replace).unwrap();
    let expected: BTreeSet<String> = (1..FILES).step_by(2).map(|i| format!("{i:04}")).collect();
    assert_lists(&moved, world, directory, &expected);
    let again = world.vfs.lookup(&ROOT, NodeNo::ROOT, moved.as_bytes()).unwrap().node;
    assert_eq!(again, directory);
    for name in &expected {
        world.vfs.unlink(&ROOT, directory, name.as_bytes()).unwrap();
    }
    assert_lists("emptied", world, directory, &BTreeSet::new());
    world.vfs.rmdir(&ROOT, NodeNo::ROOT, moved.as_bytes()).unwrap();
}

/// Files come and go between those that stay.
fn stir(world: &World, directory: NodeNo, ends: &AtomicBool) {
    for i in (0..STAYING).cycle() {
        if ends.load(Ordering::Relaxed) {
            return;
        }
        let name = format!("{i:04} passing");
        // Some of the last cycle are there still.
        let _there_already = world.vfs.mknod(&ROOT, directory, name.as_bytes(), Kind::File, 0o644, 0);
        if let Some(before) = i.checked_sub(20) {
            let _gone_already = world.vfs.unlink(&ROOT, directory, format!("{before:04} passing").as_bytes());
        }
    }
}

#[test]
fn listings_are_what_is_there_while_commits_and_checkpoints_go_by() {
    let world = World::new();
    let staying = world.vfs.mkdir(&ROOT, NodeNo::ROOT, b"staying", 0o755).unwrap().node;
    for i in 0..STAYING {
        world.vfs.mknod(&ROOT, staying, format!("{i:04}").as_bytes(), Kind::File, 0o644, 0).unwrap();
    }
    let stays: BTreeSet<String> = (0..STAYING).map(|i| format!("{i:04}")).collect();
    let (ends, writing, published) = (AtomicBool::new(false), AtomicU32::new(WRITERS), AtomicU32::new(0));
    std::thread::scope(|scope| {
        let (world, ends, writing) = (&world, &ends, &writing);
        scope.spawn(|| {
            while !ends.load(Ordering::Relaxed) {
                if world.publish() {
                    published.fetch_add(1, Ordering::Relaxed);
                    world.volume.adopt(&world.checkpoint_in(world)).unwrap();
                }
            }
        });
        scope.spawn(|| stir(world, staying, ends));
        scope.spawn(|| {
            while !ends.load(Ordering::Relaxed) {
                let mut names = listed(world, staying, 50);
                names.retain(|name| !name.ends_with("passing"));
                let found: BTreeSet<String> = names.iter().cloned().collect();
                assert_eq!(names.len(), found.len(), "a name twice");
                assert_eq!(found, stays);
            }
        });
        for writer in 0..WRITERS {
            scope.spawn(move || {
                // Ends the others also when this one fails.
                let _last = Last { writing, ends };
                (0..rounds()).for_each(|number| round(world, writer, number));
            });
        }
    });
    assert!(published.into_inner() > 1, "commits went by");
    assert_eq!(world.volume.audit().unwrap().wrong, []);
    let world = world.restart();
    let staying = world.node("staying");
    let mut names = listed(&world, staying, 50);
    names.retain(|name| !name.ends_with("passing"));
    assert_eq!(names.into_iter().collect::<BTreeSet<_>>(), stays);
}

/// The last writer that ends lets the others end.
struct Last<'a> {
    writing: &'a AtomicU32,
    ends: &'a AtomicBool,
}

impl Drop for Last<'_> {
    fn drop(&mut self) {
        if self.writing.fetch_sub(1, Ordering::Relaxed) == 1 || std::thread::panicking() {
            self.ends.store(true, Ordering::Relaxed);
        }
    }
}

/// Seconds that the confirmation of a commit takes, of whose files some were removed and some moved since it was sealed.
#[expect(clippy::disallowed_methods, reason = "it is measured")]
fn confirmation(count: usize, change: bool) -> f64 {
    let world = World::new();
    for number in 0..count {
        world.write_file(NodeNo::ROOT, &format!("{number}"), b"x");
    }
    world.volume.seal().unwrap().expect("there are files");
    for number in (0..count).filter(|_| change) {
        let name = format!("{number}");
        if number % 2 == 0 {
            world.vfs.unlink(&ROOT, NodeNo::ROOT, name.as_bytes()).unwrap();
        } else {
            let to = format!("moved {number}");
            let how = RenameHow::Replace;
            world.vfs.rename(&ROOT, NodeNo::ROOT, name.as_bytes(), NodeNo::ROOT, to.as_bytes(), how).unwrap();
        }
    }
    let began = std::time::Instant::now();
    assert!(world.publish());
    let seconds = began.elapsed().as_secs_f64();
    assert_eq!(world.names(NodeNo::ROOT).len(), if change { count / 2 } else { count });
    seconds
}

#[test]
fn files_removed_and_moved_while_their_commit_is_on_its_way_are_not_searched_for() {
    let count = 20_000;
    let (still, changed) = (confirmation(count, false), confirmation(count, true));
    // A search for each would be 400 million rows.
    assert!(changed < 3.0 * still + 2.0, "{changed} s, {still} s if nothing changed");
}
