//! How the volume's own facts stand in the ledger.

use super::identity::Identity;
use super::learn::{Announced, Commit};
use super::lines::Lines;
use super::state::Head;
use crate::error::LocalError;
use crate::ledger::Write;
use ouro_core::codec::{
    DecodeError, Reader, Writer, count_delta_files, decode_delta, decode_file_delta, encode_delta, encode_file_delta,
};
use ouro_core::content::Content;
use ouro_core::delta::{AddedContent, FileDelta};
use ouro_core::digest::Digest;
use ouro_core::id::{DeviceId, DeviceNo, FileId, Hlc, Line, RecordHash, Seq, Version};
use ouro_core::name::Name;
use ouro_core::state::{Kind, Place};
use ouro_core::tree::{NodeRef, read_node_ref, write_node_ref};
use std::collections::BTreeMap;

pub(crate) const META_COUNTER: &str = "counter";
pub(crate) const META_SEALED: &str = "sealed";
pub(crate) const META_RECORD: &str = "record";
pub(crate) const META_CHECKPOINT: &str = "checkpoint";
/// The key is from when only checkpoints were announced so.
pub(crate) const META_OUTRIGHT: &str = "announcing";
pub(crate) const META_GENERATION: &str = "generation";
pub(crate) const META_CLOCK: &str = "clock";
pub(crate) const META_DEVICES: &str = "devices";
pub(crate) const META_COLLECTED: &str = "collected";
pub(crate) const META_LINES: &str = "lines";
pub(crate) const META_IDENTITY: &str = "identity";
pub(crate) const META_INTENDED: &str = "intended";
pub(crate) const META_RULES: &str = "rules";
pub(crate) const META_HINTED: &str = "hinted";

/// A damaged row of the ledger: never repaired by forgetting.
pub(crate) fn damaged(what: &str, error: DecodeError) -> LocalError {
    LocalError::Damaged { name: format!("box.db ({what})"), reason: error.to_string() }
}

pub(crate) fn meta(key: &'static str, value: Vec<u8>) -> Write {
    Write::Meta { key, value: Some(value) }
}

pub(crate) fn number(value: u64) -> Vec<u8> {
    value.to_le_bytes().to_vec()
}

pub(crate) fn read_number(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

pub(crate) fn counter(reserved: u32) -> Write {
    meta(META_COUNTER, number(u64::from(reserved)))
}

/// What this device alone knows of a file: its owner, what lies under its layers, and which of these were begun for another file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LocalRow {
    pub(crate) owner: Option<(u32, u32)>,
    pub(crate) bases: Vec<(u64, Content)>,
    pub(crate) borne: Vec<(u64, FileId)>,
}

pub(crate) fn local_row(file: FileId, row: &LocalRow) -> Write {
    if *row == LocalRow::default() {
        return Write::LocalOnly { file, row: None };
    }
    let mut out = Writer::new();
    match row.owner {
        None => out.u8(0),
        Some((uid, gid)) => {
            out.u8(1);
            out.varint(u64::from(uid));
            out.varint(u64::from(gid));
        }
    }
    out.varint(row.bases.len() as u64);
    for (generation, content) in &row.bases {
        out.varint(*generation);
        out.bytes(&content_bytes(content));
    }
    // Rows without any end here.
    if !row.borne.is_empty() {
        out.varint(row.borne.len() as u64);
        for (generation, born) in &row.borne {
            out.varint(*generation);
            out.varint(born.0);
        }
    }
    Write::LocalOnly { file, row: Some(out.into_vec()) }
}

pub(crate) fn read_local_row(bytes: &[u8]) -> Result<LocalRow, DecodeError> {
    let mut input = Reader::new(bytes);
    let owner = match input.u8()? {
        0 => None,
        _ => Some((input.varint32("uid")?, input.varint32("gid")?)),
    };
    let count = input.count(2)?;
    let mut bases = Vec::with_capacity(count);
    for _ in 0..count {
        let generation = input.varint()?;
        bases.push((generation, read_content(input.bytes()?)?));
    }
    let mut borne = Vec::new();
    if input.remaining() > 0 {
        for _ in 0..input.count(2)? {
            borne.push((input.varint()?, FileId(input.varint()?)));
        }
    }
    input.finish()?;
    Ok(LocalRow { owner, bases, borne })
}

/// A content by itself travels as the content of a file delta.
fn content_bytes(content: &Content) -> Vec<u8> {
    let mut delta = FileDelta::new(FileId::ROOT, Kind::File, None);
    let at = Place { parent: FileId::ROOT, name: Name::empty() };
    delta.content = Some(AddedContent { value: Some(content.clone()), at, by_rule: false });
    encode_file_delta(&delta)
}

fn read_content(bytes: &[u8]) -> Result<Content, DecodeError> {
    let delta = decode_file_delta(bytes)?;
    delta.content.and_then(|c| c.value).ok_or(DecodeError::Invalid { what: "a base without content" })
}

fn head(out: &mut Writer, head: &Head) {
    out.varint(head.seq.0);
    out.raw(&head.hash.0);
    out.varint(head.hlc.0);
}

fn read_head(input: &mut Reader<'_>) -> Result<Head, DecodeError> {
    Ok(Head { seq: Seq(input.varint()?), hash: RecordHash(input.array()?), hlc: Hlc(input.varint()?) })
}

pub(crate) fn heads(out: &mut Writer, heads: &BTreeMap<DeviceNo, Head>) {
    out.varint(heads.len() as u64);
    for (device, h) in heads {
        out.varint(u64::from(device.0));
        head(out, h);
    }
}

pub(crate) fn read_heads(input: &mut Reader<'_>) -> Result<BTreeMap<DeviceNo, Head>, DecodeError> {
    let count = input.count(35)?;
    (0..count).map(|_| Ok((DeviceNo(input.varint32("device")?), read_head(input)?))).collect()
}

/// How devices are called: names derived from them must not change because the remote is away at the next start.
pub(crate) fn devices(names: &BTreeMap<DeviceNo, String>) -> Write {
    let mut out = Writer::new();
    out.varint(names.len() as u64);
    for (device, name) in names {
        out.varint(u64::from(device.0));
        out.bytes(name.as_bytes());
    }
    meta(META_DEVICES, out.into_vec())
}

pub(crate) fn read_devices(bytes: &[u8]) -> Result<BTreeMap<DeviceNo, String>, DecodeError> {
    let mut input = Reader::new(bytes);
    let count = input.count(2)?;
    let mut names = BTreeMap::new();
    for _ in 0..count {
        let device = DeviceNo(input.varint32("device")?);
        names.insert(device, String::from_utf8_lossy(input.bytes()?).into_owned());
    }
    input.finish()?;
    Ok(names)
}

/// Which lines there are, and where the box's own began.
pub(crate) fn lines(lines: &Lines) -> Write {
    let mut out = Writer::new();
    out.varint(lines.of.len() as u64);
    for (device, line) in &lines.of {
        out.varint(u64::from(device.0));
        out.varint(u64::from(line.0));
    }
    heads(&mut out, &lines.fork);
    meta(META_LINES, out.into_vec())
}

pub(crate) fn read_lines(bytes: &[u8]) -> Result<Lines, DecodeError> {
    let mut input = Reader::new(bytes);
    let mut lines = Lines::default();
    for _ in 0..input.count(2)? {
        lines.of.insert(DeviceNo(input.varint32("device")?), Line(input.varint32("line")?));
    }
    lines.fork = read_heads(&mut input)?;
    input.finish()?;
    Ok(lines)
}

pub(crate) fn identity(key: &'static str, identity: &Identity) -> Write {
    let mut out = Writer::new();
    out.raw(&identity.id.0);
    out.varint(u64::from(identity.number.0));
    out.bytes(identity.name.as_bytes());
    out.varint(identity.drawn_ms);
    meta(key, out.into_vec())
}

pub(crate) fn read_identity(bytes: &[u8]) -> Result<Identity, DecodeError> {
    let mut input = Reader::new(bytes);
    let (id, number) = (DeviceId(input.array()?), DeviceNo(input.varint32("device")?));
    let name = String::from_utf8_lossy(input.bytes()?).into_owned();
    let drawn_ms = input.varint()?;
    input.finish()?;
    Ok(Identity { id, number, name, drawn_ms })
}

pub(crate) fn node_ref(out: &mut Writer, root: Option<&NodeRef>) {
    out.u8(u8::from(root.is_some()));
    if let Some(root) = root {
        write_node_ref(out, root);
    }
}

pub(crate) fn read_root(input: &mut Reader<'_>) -> Result<Option<NodeRef>, DecodeError> {
    Ok(if input.u8()? == 0 { None } else { Some(read_node_ref(input)?) })
}

pub(crate) fn announced(out: &mut Writer, a: &Announced) {
    node_ref(out, a.root.as_ref());
    heads(out, &a.covers);
    out.raw(&a.digest.0.to_le_bytes());
}

pub(crate) fn read_announced(input: &mut Reader<'_>) -> Result<Announced, DecodeError> {
    let root = read_root(input)?;
    let covers = read_heads(input)?;
    Ok(Announced { root, covers, digest: Digest(u128::from_le_bytes(input.array()?)) })
}

pub(crate) fn checkpoint(a: &Announced) -> Write {
    let mut out = Writer::new();
    announced(&mut out, a);
    meta(META_CHECKPOINT, out.into_vec())
}

pub(crate) fn read_checkpoint(bytes: &[u8]) -> Result<Announced, DecodeError> {
    let mut input = Reader::new(bytes);
    let found = read_announced(&mut input)?;
    input.finish()?;
    Ok(found)
}

pub(crate) fn commit(c: &Commit) -> Write {
    Write::Record { device: c.device, seq: c.seq, hlc: c.hlc, bytes: Some(commit_bytes(c)) }
}

fn commit_bytes(c: &Commit) -> Vec<u8> {
    let mut out = Writer::new();
    out.raw(&c.hash.0);
    heads(&mut out, &c.parents);
    out.bytes(c.message.as_bytes());
    match &c.checkpoint {
        None => out.u8(0),
        Some(a) => {
            out.u8(1);
            announced(&mut out, a);
        }
    }
    out.bytes(&encode_delta(&c.delta));
    out.into_vec()
}

/// A commit made outright that is being published, then the exact bytes of its record.
pub(crate) fn outright(c: &Commit, bytes: &[u8]) -> Write {
    let mut out = Writer::new();
    out.varint(u64::from(c.device.0));
    out.varint(c.seq.0);
    out.varint(c.hlc.0);
    out.bytes(&commit_bytes(c));
    out.bytes(bytes);
    meta(META_OUTRIGHT, out.into_vec())
}

pub(crate) fn read_outright(value: &[u8]) -> Result<(Commit, Vec<u8>), DecodeError> {
    let mut input = Reader::new(value);
    let device = DeviceNo(input.varint32("device")?);
    let (seq, hlc) = (Seq(input.varint()?), Hlc(input.varint()?));
    let row = crate::ledger::RecordRow { device, seq, hlc, bytes: input.bytes()?.to_vec() };
    let bytes = input.bytes()?.to_vec();
    input.finish()?;
    Ok((read_commit(&row)?, bytes))
}

pub(crate) fn read_commit(row: &crate::ledger::RecordRow) -> Result<Commit, DecodeError> {
    let (head, delta) = read_commit_head(row)?;
    let CommitHead { hash, parents, message, checkpoint } = head;
    let delta = decode_delta(delta)?;
    Ok(Commit { device: row.device, seq: row.seq, hash, hlc: row.hlc, parents, message, delta, checkpoint })
}

/// A commit but for what it changes.
pub(crate) struct CommitHead {
    pub(crate) hash: RecordHash,
    pub(crate) parents: BTreeMap<DeviceNo, Head>,
    pub(crate) message: String,
    pub(crate) checkpoint: Option<Announced>,
}

/// The head of a commit, and its delta as it is encoded.
pub(crate) fn read_commit_head(row: &crate::ledger::RecordRow) -> Result<(CommitHead, &[u8]), DecodeError> {
    let mut input = Reader::new(&row.bytes);
    let hash = RecordHash(input.array()?);
    let parents = read_heads(&mut input)?;
    let message = String::from_utf8_lossy(input.bytes()?).into_owned();
    let checkpoint = match input.u8()? {
        0 => None,
        _ => Some(read_announced(&mut input)?),
    };
    let delta = input.bytes()?;
    input.finish()?;
    Ok((CommitHead { hash, parents, message, checkpoint }, delta))
}

pub(crate) fn count_commit_files(row: &crate::ledger::RecordRow) -> Result<usize, DecodeError> {
    count_delta_files(read_commit_head(row)?.1)
}

/// The head of a sealed generation: everything but its files.
pub(crate) struct SealedHead {
    pub(crate) generation: u64,
    pub(crate) version: Version,
    pub(crate) parents: BTreeMap<DeviceNo, Head>,
    pub(crate) digest: Digest,
    pub(crate) message: String,
}

pub(crate) fn sealed(s: &SealedHead) -> Write {
    let mut out = Writer::new();
    out.varint(s.generation);
    out.varint(s.version.hlc.0);
    out.varint(u64::from(s.version.device.0));
    out.varint(s.version.seq.0);
    heads(&mut out, &s.parents);
    out.raw(&s.digest.0.to_le_bytes());
    out.bytes(s.message.as_bytes());
    meta(META_SEALED, out.into_vec())
}

pub(crate) fn read_sealed(bytes: &[u8]) -> Result<SealedHead, DecodeError> {
    let mut input = Reader::new(bytes);
    let generation = input.varint()?;
    let version =
        Version { hlc: Hlc(input.varint()?), device: DeviceNo(input.varint32("device")?), seq: Seq(input.varint()?) };
    let parents = read_heads(&mut input)?;
    let digest = Digest(u128::from_le_bytes(input.array()?));
    // Earlier builds sealed without a message.
    let message =
        if input.remaining() == 0 { String::new() } else { String::from_utf8_lossy(input.bytes()?).into_owned() };
    input.finish()?;
    Ok(SealedHead { generation, version, parents, digest, message })
}

/// A fixed record: hash, then the exact bytes.
pub(crate) fn record(hash: &RecordHash, bytes: &[u8]) -> Write {
    let mut value = hash.0.to_vec();
    value.extend_from_slice(bytes);
    meta(META_RECORD, value)
}

pub(crate) fn read_record(value: &[u8]) -> Option<(RecordHash, &[u8])> {
    let (hash, bytes) = value.split_at_checked(32)?;
    Some((RecordHash(hash.try_into().ok()?), bytes))
}
