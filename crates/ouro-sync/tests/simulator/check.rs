//! What must be true in the end.

use crate::contents::name as shown;
use crate::device::{Device, End, Work};
use crate::history::{History, Seen};
use crate::ignored::is_ignored;
use crate::trash::is_in_trash;
use crate::tree;
use ouro_testkit::sim::Chance;
use std::collections::{BTreeMap, BTreeSet};

impl History {
    pub(crate) fn check(&mut self) {
        self.truth.forget();
        let first = self.seen(0);
        self.agree(&first);
        self.nothing_is_lost(&first);
        self.nothing_comes_back();
        self.what_is_ignored_stays();
        self.what_is_in_the_trash_stays();
        self.idle_devices_write_nothing();
        self.a_restart_changes_nothing(&first);
        self.checkpoints_agree(&first);
        self.collections_take_nothing_that_is_seen(&first);
        self.a_newcomer_sees_the_same(&first);
        self.what_is_ignored_stays();
        self.what_is_in_the_trash_stays();
    }

    pub(crate) fn agree(&mut self, first: &Seen) {
        let heads = self.devices[0].process().volume.heads();
        let digest = self.devices[0].process().volume.digest();
        for at in 1..self.devices.len() {
            let volume = &self.devices[at].process().volume;
            let seqs = |heads: &BTreeMap<_, ouro_local::volume::Head>| {
                heads.iter().map(|(no, head)| (*no, head.seq, head.hash)).collect::<Vec<_>>()
            };
            assert_eq!(seqs(&volume.heads()), seqs(&heads), "the same heads after all have met");
            assert_eq!(volume.digest(), digest, "the same heads, the same digest");
            let seen = self.seen(at);
            self.same(first, &seen, "the same heads, the same tree");
        }
    }

    pub(crate) fn same(&self, one: &Seen, other: &Seen, why: &str) {
        let differ = |path: &&String| one.get(*path) != other.get(*path);
        let paths: BTreeSet<&String> = one.keys().chain(other.keys()).filter(differ).collect();
        let told = |seen: &Seen, path: &String| match seen.get(path) {
            None => "nothing".to_owned(),
            Some(None) => "a directory".to_owned(),
            Some(Some(content)) => shown(content),
        };
        let lines: Vec<String> =
            paths.iter().map(|path| format!("{path}: {} / {}", told(one, path), told(other, path))).collect();
        assert!(lines.is_empty(), "{why}, but: {lines:#?}");
    }

    fn nothing_is_lost(&mut self, first: &Seen) {
        for at in 0..self.devices.len() {
            self.is_safe(at);
        }
        let shown_all: BTreeSet<Vec<u8>> = first.values().flatten().cloned().collect();
        // A collection waits for one machine of each name: a copy that nobody has heard of finds collected what it changed in part or referred to, and says so.
        let told = self.manner.copies && self.devices.iter().any(Device::said_zeros);
        let lost = self.contents.lost(&shown_all).find(|lost| !told || !self.contents.is_left_of(lost, &shown_all));
        if let Some(content) = lost {
            panic!("{} is lost", shown(content));
        }
        let invented = self.contents.invented(&shown_all).find(|content| !told || !self.contents.is_left(content));
        if !self.crashed
            && let Some(content) = invented
        {
            panic!("{} was never written", shown(content));
        }
    }

    /// A content that somebody who saw it replaced or deleted is not shown again; but one that two devices made a file of, each for itself,
    /// when it was a conflict copy, is, if somebody who knew only one of these files deleted it.
    fn nothing_comes_back(&self) {
        let volume = self.volume(0);
        for (path, spot) in tree::spots(&volume).expect("everything was read before") {
            if spot.is_directory() || spot.seen.id.is_derived() || is_ignored(&spot) || is_in_trash(&path) {
                continue;
            }
            let content = self.truth.bytes_at(&volume, &spot);
            assert!(!self.contents.is_back(&content), "{} is back at {path}", shown(&content));
        }
    }

    fn idle_devices_write_nothing(&mut self) {
        let before = self.remote.snapshot();
        for at in 0..self.devices.len() {
            assert_eq!(self.finish(at, Work::Push) + self.finish(at, Work::Pull), 0, "there is nothing to do");
        }
        assert!(self.remote.snapshot() == before, "an idle device writes something");
    }

    fn a_restart_changes_nothing(&mut self, first: &Seen) {
        for at in 0..self.devices.len() {
            let (heads, digest) =
                (self.devices[at].process().volume.heads(), self.devices[at].process().volume.digest());
            self.devices[at].process().volume.flush(true).expect("the journal is written");
            self.tell(at, "restarts");
            let mut chance = Chance::new(0);
            self.devices[at].crash(&self.world, End::PowerCut, &mut chance);
            self.devices[at].boot(&self.world);
            assert_eq!(self.devices[at].process().volume.heads(), heads, "a restart forgets no commit");
            assert_eq!(self.devices[at].process().volume.digest(), digest, "a restart changes no digest");
            let seen = self.seen(at);
            self.same(first, &seen, "a restart changes nothing");
        }
    }

    /// Whoever writes a checkpoint of a state, it is the same tree.
    fn checkpoints_agree(&mut self, first: &Seen) {
        let mut roots = BTreeSet::new();
        for at in 0..self.devices.len() {
            self.finish(at, Work::Begin);
            self.finish(at, Work::LearnDevices);
            self.finish(at, Work::Pull);
            self.finish(at, Work::Checkpoint);
            roots.insert(self.devices[at].process().volume.checkpoint_root().map(|root| root.id));
            let seen = self.seen(at);
            self.same(first, &seen, "a checkpoint changes nothing");
        }
        assert_eq!(roots.len(), 1, "one state, one tree: {roots:?}");
    }

    fn a_newcomer_sees_the_same(&mut self, first: &Seen) {
        let digest = self.devices.last().map(|last| last.process().volume.digest());
        let at = self.come_in(self.newcomer(77, "Eve"));
        self.devices[at].boot(&self.world);
        for work in [Work::Register, Work::Begin, Work::LearnDevices, Work::Pull, Work::FetchIndex] {
            self.finish(at, work);
        }
        let seen = self.seen(at);
        self.same(first, &seen, "a newcomer sees the same");
        assert_eq!(Some(self.devices[at].process().volume.digest()), digest, "a newcomer has the same digest");
    }
}
