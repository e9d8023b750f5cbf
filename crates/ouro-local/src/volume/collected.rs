//! What a collection left of the past: the state in which all that was thinned is contained, and the states before it that stay.

use super::encode;
use super::history::{CommitInfo, Snapshot};
use super::learn::Announced;
use super::{Cut, Volume, VolumeError};
use ouro_core::codec::{DecodeError, Reader, Writer};
use ouro_core::id::{DeviceNo, Hlc, NodeId, Seq};
use ouro_core::row::RowChanges;
use ouro_core::tree::NodeRef;
use ouro_core::when::snapshot_name;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A state of the past with a tree of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptState {
    /// Whose commit it is the state of.
    pub device: DeviceNo,
    /// Which.
    pub seq: Seq,
    /// What the user said about that commit.
    pub message: String,
    /// The root of the tree; `None` for the empty one.
    pub root: Option<NodeRef>,
    /// The commits in it, that one among them.
    pub cut: Cut,
}

impl KeptState {
    fn hlc(&self) -> Hlc {
        self.cut.get(&self.device).map_or(Hlc(0), |head| head.hlc)
    }
}

/// A collection as this device keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Its number.
    pub number: u64,
    /// The state below which there are no records, and only the kept states of the past.
    pub checkpoint: Announced,
    /// These, by time.
    pub kept: Vec<KeptState>,
    /// Whether it has ended: before that, what it takes is still there.
    pub ended: bool,
    /// The checkpoint of the collection before, as long as this one has not ended: commits that were made without knowing all of this
    /// one's checkpoint lie on it.
    pub before: Announced,
    /// The number of the one that this one ended; 0 if it has not ended. Two devices may end one at the same moment.
    pub ends: u64,
    /// Whether this one, or any before it, did not wait for this device: what it had changed in part then may have lost the rest.
    pub missed: bool,
}

impl Collected {
    /// Whether a commit has no record any more.
    pub(super) fn covers(&self, device: DeviceNo, seq: Seq) -> bool {
        self.checkpoint.covers.get(&device).is_some_and(|head| head.seq >= seq)
    }

    pub(super) fn find(&self, device: DeviceNo, seq: Seq) -> Option<&KeptState> {
        self.kept.iter().find(|kept| (kept.device, kept.seq) == (device, seq))
    }

    /// The newest state kept of a time, if that lies before the checkpoint: the checkpoint's own commits are in no state of their own.
    pub(super) fn at(&self, at: Hlc) -> Option<Option<&KeptState>> {
        let newest = self.checkpoint.covers.values().map(|head| head.hlc).max()?;
        let kept = || self.kept.iter().filter(|kept| kept.hlc() <= at).max_by_key(|kept| kept.hlc());
        (at < newest).then(kept)
    }
}

pub(super) fn encode(collected: &Collected) -> Vec<u8> {
    let mut out = Writer::new();
    out.varint(collected.number);
    encode::announced(&mut out, &collected.checkpoint);
    out.varint(collected.kept.len() as u64);
    for kept in &collected.kept {
        out.varint(u64::from(kept.device.0));
        out.varint(kept.seq.0);
        out.bytes(kept.message.as_bytes());
        encode::node_ref(&mut out, kept.root.as_ref());
        encode::heads(&mut out, &kept.cut);
    }
    out.u8(u8::from(collected.ended));
    encode::announced(&mut out, &collected.before);
    out.varint(collected.ends);
    out.u8(u8::from(collected.missed));
    out.into_vec()
}

pub(super) fn decode(bytes: &[u8]) -> Result<Collected, DecodeError> {
    let mut input = Reader::new(bytes);
    let number = input.varint()?;
    let checkpoint = encode::read_announced(&mut input)?;
    let count = input.count(5)?;
    let mut kept = Vec::with_capacity(count);
    for _ in 0..count {
        kept.push(KeptState {
            device: DeviceNo(input.varint32("device")?),
            seq: Seq(input.varint()?),
            message: String::from_utf8_lossy(input.bytes()?).into_owned(),
            root: encode::read_root(&mut input)?,
            cut: encode::read_heads(&mut input)?,
        });
    }
    // An older version did not write these.
    let told = input.remaining() > 0;
    let ended = !told || input.u8()? != 0;
    let before = if told { encode::read_announced(&mut input)? } else { Announced::default() };
    let told = input.remaining() > 0;
    let ends = if told { input.varint()? } else { 0 };
    let missed = told && input.u8()? != 0;
    input.finish()?;
    Ok(Collected { number, checkpoint, kept, ended, before, ends, missed })
}

impl Volume {
    /// The newest collection this device has taken note of.
    pub fn collected(&self) -> Option<Arc<Collected>> {
        self.state.read().collected.clone()
    }

    /// The checkpoint that this device stands on. Its digest means nothing.
    pub fn standing(&self) -> Option<Announced> {
        let state = self.state.read();
        let standing = Announced { root: state.root, covers: state.covers.clone(), digest: state.digest };
        Some(standing).filter(|standing| !standing.covers.is_empty())
    }

    /// Takes note of a collection: from now on states before its checkpoint are those that it keeps. Durable when it returns.
    ///
    /// # Errors
    /// A failing journal.
    pub fn note_collection(&self, mut collected: Collected) -> Result<(), VolumeError> {
        let ticket = {
            let mut state = self.state.write();
            // The list that showed this one may not have shown the one before it.
            if let Some(known) = state.collected.as_ref().filter(|_| !collected.ended)
                && collected.before.covers.is_empty()
            {
                collected.before = if known.ended { known.checkpoint.clone() } else { known.before.clone() };
            }
            let ticket = self.ledger.submit(vec![encode::meta(encode::META_COLLECTED, encode(&collected))]);
            state.collected = Some(Arc::new(collected));
            ticket
        };
        Ok(self.ledger.flush(ticket, true)?)
    }

    /// Begins anew on the checkpoint of a collection, although that may lack commits that this device's own checkpoint holds: these are laid
    /// on top again. Of the tree that it stood on, some nodes may be `gone`.
    ///
    /// # Errors
    /// [`VolumeError::Record`] for one of them that is not on this device, [`VolumeError::Missing`]: fetch and call again.
    pub fn rejoin(&self, checkpoint: &Announced, gone: &BTreeSet<NodeId>) -> Result<(), VolumeError> {
        self.rebuild(checkpoint, gone)
    }

    /// A state that has a tree of its own.
    pub(super) fn kept_snapshot(self: &Arc<Self>, kept: &KeptState) -> Arc<Snapshot> {
        Snapshot::of_tree(self, kept.root, kept.cut.clone())
    }

    /// The kept states of a span of time, as commits that this device may have no records of.
    pub(super) fn kept_between(&self, from: Hlc, to: Hlc) -> Vec<CommitInfo> {
        let collected = self.collected();
        let all = collected.iter().flat_map(|collected| &collected.kept);
        all.filter(|kept| (from..=to).contains(&kept.hlc())).map(info).collect()
    }

    /// The newest kept state of that name.
    pub fn kept_named(&self, name: &str) -> Option<CommitInfo> {
        let collected = self.collected()?;
        let named = collected.kept.iter().filter(|kept| snapshot_name(&kept.message).as_deref() == Some(name));
        named.max_by_key(|kept| kept.hlc()).map(info)
    }
}

fn info(kept: &KeptState) -> CommitInfo {
    CommitInfo { device: kept.device, seq: kept.seq, hlc: kept.hlc(), files: 0, message: kept.message.clone() }
}

impl Snapshot {
    fn of_tree(volume: &Arc<Volume>, root: Option<NodeRef>, cut: Cut) -> Arc<Snapshot> {
        Arc::new(Snapshot { volume: Arc::clone(volume), root, changes: RowChanges::new(), cut: Some(cut) })
    }

    /// The tree that this state lies on.
    pub fn root(&self) -> Option<NodeRef> {
        self.root
    }

    /// The commits in it; `None` if it holds what is in none.
    pub fn cut(&self) -> Option<&Cut> {
        self.cut.as_ref()
    }
}
