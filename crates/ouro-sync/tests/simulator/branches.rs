//! Branches: lines beside the main one, on several devices, and what merging them gives.

use crate::device::{End, Work};
use crate::history::{History, Seen};
use crate::regressions::{create, remove, write};
use ouro_core::id::{Hlc, Line};
use ouro_local::volume::{Commit, Cut};
use ouro_sync::Sync;
use ouro_testkit::{Faults, FaultyStore};
use std::sync::Arc;

const ADA: usize = 0;
const BOB: usize = 1;
const CLEO: usize = 2;

/// Ada, Bob and Cleo, who all know `/f` and `/g`.
fn three() -> History {
    let mut history = History::calm(3);
    create(&history.volume(ADA), "f", b"one");
    create(&history.volume(ADA), "g", b"g");
    history.finish(ADA, Work::Push);
    everybody_pulls(&mut history, &[BOB, CLEO]);
    history
}

fn everybody_pulls(history: &mut History, whom: &[usize]) {
    for at in whom {
        history.finish(*at, Work::LearnDevices);
        history.finish(*at, Work::Pull);
    }
}

fn sync(history: &History, at: usize) -> Arc<Sync> {
    Arc::clone(&history.device(at).process().sync)
}

/// The machine of `at` as a writer of a branch, running and written down on the remote; it knows nothing yet.
fn machine(history: &mut History, at: usize, branch: &str) -> usize {
    let opened = history.devices.len();
    let no = opened as u32 + 1;
    let store = FaultyStore::sharing(Arc::clone(&history.remote), u64::from(no), Faults::none());
    let name = history.device(at).info.name.clone();
    let device = history.device(at).beside(no, &name, Some(branch), store);
    history.add(device);
    history.boot(opened);
    history.finish(opened, Work::Register);
    opened
}

/// Makes a branch at a state of a device's box.
fn branch(history: &mut History, at: usize, name: &str, fork: &Cut) -> usize {
    let opened = machine(history, at, name);
    let (line, parent, fork) = (sync(history, opened), sync(history, at), fork.clone());
    let begun = history.bring(opened, async move { line.begin_branch(&parent, &fork, "\nbegun".to_owned()).await });
    assert!(begun.expect("all is there").expect("a commit says that it is there").published.is_ok());
    opened
}

/// Opens a branch that is there on another device.
fn join(history: &mut History, at: usize, name: &'static str) -> usize {
    let opened = machine(history, at, name);
    let (line, parent) = (sync(history, opened), sync(history, at));
    let joined = history.bring(opened, async move {
        let firsts = parent.first_commits(parent.repo().line_named(name)).await?;
        line.join_branch(&parent, &parent.began_on(&firsts)).await
    });
    joined.expect("all is there");
    opened
}

fn look(history: &History, at: usize, line: Line) -> Vec<Arc<Commit>> {
    let looking = sync(history, at);
    history.bring(at, async move { looking.read_line(line).await }).expect("all is there")
}

/// Merges a line on a device; how many commits came in, and whether a commit was made on them.
fn merge(history: &History, at: usize, line: Line) -> (usize, bool) {
    let commits = look(history, at, line);
    let (count, merging) = (commits.len(), sync(history, at));
    let taken = history.bring(at, async move {
        let turn = merging.turn().await;
        merging.merge(&turn, commits, "\nmerge".to_owned()).await
    });
    (count, taken.expect("all is there").is_some())
}

fn draft(history: &History) -> Line {
    history.device(ADA).process().sync.repo().line_named("draft")
}

fn paths(seen: &Seen) -> Vec<&str> {
    seen.keys().map(String::as_str).filter(|path| !path.is_empty()).collect()
}

fn content<'a>(seen: &'a Seen, path: &str) -> &'a [u8] {
    seen.get(path).and_then(Option::as_deref).unwrap_or_else(|| panic!("no {path} in {:?}", paths(seen)))
}

/// These devices know the same commits, have the same digest, and show the same.
fn agree(history: &mut History, whom: &[usize]) -> Seen {
    history.audit();
    let first = history.volume(whom[0]);
    let seen = history.seen(whom[0]);
    for at in whom {
        let volume = history.volume(*at);
        assert_eq!(volume.heads(), first.heads());
        assert_eq!(volume.digest(), first.digest());
        assert_eq!(history.seen(*at), seen);
    }
    seen
}

#[test]
fn a_branch_begins_at_an_old_state_and_a_merge_gives_everybody_the_same() {
    let mut history = three();
    let fork = history.volume(ADA).heads();
    write(&history.volume(ADA), "/f", b"two");
    remove(&history.volume(ADA), "/g");
    history.finish(ADA, Work::Push);
    let x = branch(&mut history, ADA, "draft", &fork);
    let begun = history.seen(x);
    assert_eq!(paths(&begun), ["/f", "/g"]);
    assert_eq!(content(&begun, "/f"), b"one", "it begins where it was told to");

    create(&history.volume(x), "h", b"new");
    write(&history.volume(x), "/f", b"three");
    history.finish(x, Work::Push);
    everybody_pulls(&mut history, &[ADA, BOB, x]);
    let main = agree(&mut history, &[ADA, BOB]);
    assert_eq!(paths(&main), ["/f"], "nothing of the branch is on the main line");
    assert_eq!(content(&history.seen(x), "/f"), b"three", "nor the other way");

    let line = draft(&history);
    let commits = look(&history, ADA, line);
    let (volume, before) = (history.volume(ADA), history.volume(ADA).heads());
    volume.imagine(&commits).expect("all nodes are here");
    assert_eq!(volume.heads(), before, "a look changes nothing");
    assert_eq!(merge(&history, ADA, line), (2, true));
    // Bob has never heard of the branch until now.
    everybody_pulls(&mut history, &[BOB]);
    history.finish(BOB, Work::Checkpoint);
    everybody_pulls(&mut history, &[ADA, BOB, CLEO]);
    let seen = agree(&mut history, &[ADA, BOB, CLEO]);
    assert_eq!(content(&seen, "/h"), b"new");
    assert_eq!(content(&seen, "/f"), b"three", "the later one has the name");
    let copy = paths(&seen).into_iter().find(|path| path.contains("conflict")).expect("the other stands beside");
    assert!(copy.contains("from Ada "), "{copy}");
    assert_eq!(content(&seen, copy), b"two");
    assert!(!paths(&seen).contains(&"/g"), "what the main line deleted stays deleted");
    assert_eq!(history.volume(BOB).device_names()[&history.device(x).info.number], "Ada on draft");
}

#[test]
fn a_second_merge_brings_what_is_new_and_the_main_line_can_be_merged_into_the_branch() {
    let mut history = three();
    let fork = history.volume(ADA).heads();
    let x = branch(&mut history, ADA, "draft", &fork);
    let line = draft(&history);
    create(&history.volume(x), "a", b"a");
    history.finish(x, Work::Push);
    assert_eq!(merge(&history, ADA, line), (2, true));
    assert_eq!(merge(&history, ADA, line), (0, false), "there is nothing new");
    create(&history.volume(x), "b", b"b");
    history.finish(x, Work::Push);
    assert_eq!(merge(&history, BOB, line).0, 1 + 2, "Bob has not pulled: what the first merge knew comes too");
    everybody_pulls(&mut history, &[ADA, BOB, CLEO]);
    assert_eq!(paths(&agree(&mut history, &[ADA, BOB, CLEO])), ["/a", "/b", "/f", "/g"]);

    create(&history.volume(CLEO), "c", b"c");
    history.finish(CLEO, Work::Push);
    assert!(merge(&history, x, Line::MAIN).1);
    everybody_pulls(&mut history, &[x]);
    assert_eq!(paths(&history.seen(x)), ["/a", "/b", "/c", "/f", "/g"]);
    create(&history.volume(CLEO), "d", b"d");
    history.finish(CLEO, Work::Push);
    everybody_pulls(&mut history, &[x]);
    assert!(!paths(&history.seen(x)).contains(&"/d"), "only what was merged");
    let y = join(&mut history, BOB, "draft");
    agree(&mut history, &[x, y]);
}

#[test]
fn two_devices_work_on_one_branch_and_also_make_it_at_the_same_time() {
    let mut history = three();
    let fork = history.volume(ADA).heads();
    create(&history.volume(BOB), "later", b"later");
    history.finish(BOB, Work::Push);
    let x = branch(&mut history, ADA, "draft", &fork);
    let y = join(&mut history, BOB, "draft");
    assert!(!paths(&history.seen(y)).contains(&"/later"), "it is Ada's branch, from where she began it");
    write(&history.volume(x), "/f", b"Ada's");
    write(&history.volume(y), "/f", b"Bob's");
    for at in [x, y] {
        history.finish(at, Work::Push);
    }
    // Cleo makes a branch of that name from where she is, without having looked.
    let from = history.volume(CLEO).heads();
    let z = branch(&mut history, CLEO, "draft", &from);
    create(&history.volume(z), "cleo", b"c");
    history.finish(z, Work::Push);
    for _ in 0..2 {
        everybody_pulls(&mut history, &[x, y, z]);
    }
    let seen = agree(&mut history, &[x, y, z]);
    assert_eq!(paths(&seen).len(), 4, "{:?}", paths(&seen));
    let line = draft(&history);
    assert!(merge(&history, CLEO, line).1);
    everybody_pulls(&mut history, &[ADA, BOB, CLEO]);
    let seen = agree(&mut history, &[ADA, BOB, CLEO]);
    assert_eq!(content(&seen, "/later"), b"later");
    assert_eq!(content(&seen, "/cleo"), b"c");
}

#[test]
fn a_crash_leaves_all_of_a_merge_or_nothing() {
    for end in [End::Killed, End::PowerCut, End::PowerCutLosingAll] {
        for seed in 1..=8 {
            let mut history = three();
            history.chance = ouro_testkit::sim::Chance::new(seed);
            let fork = history.volume(ADA).heads();
            let x = branch(&mut history, ADA, "draft", &fork);
            for name in ["a", "b", "c"] {
                create(&history.volume(x), name, name.as_bytes());
                history.finish(x, Work::Push);
            }
            let line = draft(&history);
            let commits = look(&history, ADA, line);
            history.volume(ADA).flush(true).expect("the journal is written");
            history.volume(ADA).merge(&commits, "\nmerge").expect("all is here").expect("it is sealed");
            history.restart(ADA, end);
            history.audit();
            let after = history.seen(ADA);
            let there = ["/a", "/b", "/c"].map(|path| paths(&after).contains(&path));
            assert!(there.iter().all(|is| *is == there[0]), "{there:?}");
            assert_eq!(history.volume(ADA).sealed().is_some(), there[0], "what is taken in is in a commit");
            history.finish(ADA, Work::LearnDevices);
            history.finish(ADA, Work::Push);
            merge(&history, ADA, line);
            everybody_pulls(&mut history, &[BOB, CLEO, ADA]);
            assert_eq!(paths(&agree(&mut history, &[ADA, BOB, CLEO])), ["/a", "/b", "/c", "/f", "/g"]);
        }
    }
}

#[test]
fn what_a_merge_brought_in_belongs_to_the_moment_when_it_was_merged() {
    let mut history = three();
    let fork = history.volume(ADA).heads();
    history.pass(60_000);
    let x = branch(&mut history, ADA, "draft", &fork);
    create(&history.volume(x), "h", b"new");
    history.finish(x, Work::Push);
    history.pass(60_000);
    let between = history.volume(ADA).now_ns() / 1_000_000;
    history.pass(60_000);
    let line = draft(&history);
    assert!(merge(&history, ADA, line).1);
    let at = Hlc::from_millis(between as u64);
    let volume = history.volume(ADA);
    assert_eq!(volume.cut_at(at).expect("all records are here"), fork, "the branch was there, but not merged");
    let now = Hlc::from_millis((volume.now_ns() / 1_000_000) as u64 + 1_000);
    assert_eq!(volume.cut_at(now).expect("all records are here"), volume.heads());
    let long_before = Hlc::from_millis(between as u64 - 100_000);
    let line = history.volume(x);
    assert_eq!(line.cut_at(long_before).expect("all records are here"), fork, "a branch has the past that it began on");
    assert_eq!(line.cut_at(at).expect("all records are here"), line.heads());
}

#[test]
fn nobody_begins_on_the_checkpoint_of_another_line() {
    let mut history = three();
    let fork = history.volume(ADA).heads();
    let x = branch(&mut history, ADA, "draft", &fork);
    create(&history.volume(x), "h", b"new");
    history.finish(x, Work::Push);
    history.finish(x, Work::Checkpoint);
    let fresh = history.devices.len();
    let store = FaultyStore::sharing(Arc::clone(&history.remote), 9, Faults::none());
    let device = history.device(ADA).beside(fresh as u32 + 1, "Dan", None, store);
    history.add(device);
    history.boot(fresh);
    history.finish(fresh, Work::Register);
    history.finish(fresh, Work::Begin);
    history.finish(fresh, Work::Pull);
    assert_eq!(paths(&agree(&mut history, &[ADA, fresh])), ["/f", "/g"]);
    // Whoever opens the branch begins on it.
    let y = join(&mut history, BOB, "draft");
    assert_eq!(paths(&agree(&mut history, &[x, y])), ["/f", "/g", "/h"]);
}

#[test]
fn a_branch_above_a_checkpoint_of_its_own_device_has_the_digest_of_its_state() {
    let mut history = three();
    history.finish(ADA, Work::Checkpoint);
    create(&history.volume(ADA), "h", b"after the checkpoint");
    history.finish(ADA, Work::Push);
    let fork = history.volume(ADA).heads();
    let x = branch(&mut history, ADA, "draft", &fork);
    assert_eq!(history.volume(x).digest(), history.volume(ADA).digest(), "nothing is different yet");
    history.finish(x, Work::FetchIndex);
    create(&history.volume(x), "i", b"on the branch");
    history.finish(x, Work::Push);
    let y = join(&mut history, BOB, "draft");
    assert_eq!(paths(&agree(&mut history, &[x, y])), ["/f", "/g", "/h", "/i"]);
}
