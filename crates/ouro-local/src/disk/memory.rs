//! A disk in memory that forgets what was not synced: for tests and the simulator.

use super::{Disk, DiskFile};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// Longest file it holds, in bytes: files are plain vectors.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// A cache directory in memory. Bytes survive [`MemoryDisk::crash`] for sure only after `sync_data`, names only after `sync_dir`;
/// what was not synced may survive, each write by itself, names in their order.
#[derive(Clone, Default)]
pub struct MemoryDisk {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    names: BTreeMap<String, Node>,
    durable_names: BTreeMap<String, Node>,
    /// Changes of names since the last sync, oldest first: the name and what is there then.
    name_changes: Vec<(String, Option<Node>)>,
    used: u64,
    capacity: Option<u64>,
    /// Writes to go until one fails, and how.
    fault: Option<(u64, io::ErrorKind)>,
    writes: u64,
}

type Node = Arc<Mutex<Bytes>>;

#[derive(Default)]
struct Bytes {
    now: Vec<u8>,
    durable: Vec<u8>,
    since: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write(u64, Vec<u8>),
    Len(u64),
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write(offset, data) => {
            let start = *offset as usize;
            if bytes.len() < start + data.len() {
                bytes.resize(start + data.len(), 0);
            }
            bytes[start..start + data.len()].copy_from_slice(data);
        }
        Change::Len(len) => bytes.resize(*len as usize, 0),
    }
}

impl MemoryDisk {
    /// An empty disk without limits.
    pub fn new() -> MemoryDisk {
        MemoryDisk::default()
    }

    /// Lets the `n`-th write from now (1: the next one) and all after it fail with `kind`; reading goes on.
    pub fn fail_at_write(&self, n: u64, kind: io::ErrorKind) {
        let mut shared = self.shared.lock();
        shared.fault = Some((shared.writes + n, kind));
    }

    /// Ends [`MemoryDisk::fail_at_write`].
    pub fn heal(&self) {
        self.shared.lock().fault = None;
    }

    /// Limits the bytes in files; writes beyond fail as on a full disk.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.shared.lock().capacity = bytes;
    }

    /// Power cut: `keep` decides for each change that was not synced whether it survived. Names survive in order, up to the first
    /// that did not. Files opened before must not be used any more.
    pub fn crash(&self, keep: &mut dyn FnMut() -> bool) {
        let mut shared = self.shared.lock();
        let changes = std::mem::take(&mut shared.name_changes);
        let mut names = shared.durable_names.clone();
        for (name, node) in changes {
            if !keep() {
                break;
            }
            match node {
                Some(node) => names.insert(name, node),
                None => names.remove(&name),
            };
        }
        shared.used = 0;
        for node in names.values_mut() {
            let mut survived = node.lock().durable.clone();
            for change in &node.lock().since {
                if keep() {
                    apply(&mut survived, change);
                }
            }
            shared.used += survived.len() as u64;
            // A fresh node: handles from before the crash write into the void.
            *node = Arc::new(Mutex::new(Bytes { now: survived.clone(), durable: survived, since: Vec::new() }));
        }
        shared.durable_names = names.clone();
        shared.names = names;
    }

    /// A disk that holds what this one shows now, as durable, and goes its own way from here: the image of a backup.
    #[must_use]
    pub fn fork(&self) -> MemoryDisk {
        let shared = self.shared.lock();
        let copy = |node: &Node| {
            let now = node.lock().now.clone();
            Arc::new(Mutex::new(Bytes { durable: now.clone(), now, since: Vec::new() }))
        };
        let names: BTreeMap<String, Node> =
            shared.names.iter().map(|(name, node)| (name.clone(), copy(node))).collect();
        let forked = Shared { durable_names: names.clone(), names, used: shared.used, ..Shared::default() };
        MemoryDisk { shared: Arc::new(Mutex::new(forked)) }
    }

    /// Overwrites bytes of a file behind everybody's back, as a failing disk does.
    ///
    /// # Errors
    /// `NotFound` if there is no such file.
    pub fn corrupt(&self, path: &str, offset: u64, data: &[u8]) -> io::Result<()> {
        let node = self.node(path)?;
        let mut bytes = node.lock();
        let change = Change::Write(offset, data.to_vec());
        apply(&mut bytes.now, &change);
        apply(&mut bytes.durable, &change);
        Ok(())
    }

    fn node(&self, path: &str) -> io::Result<Node> {
        self.shared
            .lock()
            .names
            .get(path)
            .cloned()
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, path.to_owned()))
    }

    fn file(&self, node: Node) -> Arc<dyn DiskFile> {
        Arc::new(MemoryFile { disk: self.clone(), node })
    }
}

impl Shared {
    fn may_write(&mut self, grows: u64) -> io::Result<()> {
        self.writes += 1;
        if let Some((at, kind)) = self.fault
            && self.writes >= at
        {
            return Err(io::Error::new(kind, "injected"));
        }
        match self.capacity {
            Some(capacity) if self.used + grows > capacity => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }

    fn set_name(&mut self, name: &str, node: Option<Node>) {
        self.name_changes.push((name.to_owned(), node.clone()));
        let old = match node {
            Some(node) => self.names.insert(name.to_owned(), node),
            None => self.names.remove(name),
        };
        if let Some(old) = old {
            self.used = self.used.saturating_sub(old.lock().now.len() as u64);
        }
    }
}

impl Disk for MemoryDisk {
    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.file(self.node(path)?))
    }

    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut shared = self.shared.lock();
        shared.may_write(0)?;
        let node = Node::default();
        shared.set_name(path, Some(node.clone()));
        Ok(self.file(node))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let node = self.node(from)?;
        let mut shared = self.shared.lock();
        shared.may_write(0)?;
        let len = node.lock().now.len() as u64;
        // The new name first: a crash in between leaves both, never none.
        shared.set_name(to, Some(node));
        shared.set_name(from, None);
        shared.used += len;
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut shared = self.shared.lock();
        if shared.names.contains_key(path) {
            shared.set_name(path, None);
        }
        Ok(())
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let prefix = format!("{dir}/");
        let shared = self.shared.lock();
        let mut names: Vec<String> = shared
            .names
            .range(prefix.clone()..)
            .map_while(|(name, _)| name.strip_prefix(&prefix))
            .map(|rest| rest.split('/').next().unwrap_or(rest).to_owned())
            .collect();
        names.dedup();
        Ok(names)
    }

    fn sync_dir(&self, _dir: &str) -> io::Result<()> {
        let mut shared = self.shared.lock();
        shared.may_write(0)?;
        shared.name_changes.clear();
        shared.durable_names = shared.names.clone();
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_dir("")?;
        for node in self.shared.lock().names.values() {
            node.lock().sync();
        }
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let shared = self.shared.lock();
        Ok(shared.capacity.unwrap_or(1 << 50).saturating_sub(shared.used))
    }
}

impl Bytes {
    fn sync(&mut self) {
        self.durable = self.now.clone();
        self.since.clear();
    }
}

struct MemoryFile {
    disk: MemoryDisk,
    node: Node,
}

impl MemoryFile {
    fn change(&self, change: Change, len: u64) -> io::Result<()> {
        if len > FILE_BYTES_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let mut shared = self.disk.shared.lock();
        let mut bytes = self.node.lock();
        let before = bytes.now.len() as u64;
        shared.may_write(len.saturating_sub(before))?;
        apply(&mut bytes.now, &change);
        shared.used = (shared.used + bytes.now.len() as u64).saturating_sub(before);
        bytes.since.push(change);
        Ok(())
    }
}

impl DiskFile for MemoryFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let bytes = self.node.lock();
        let start = bytes.now.len().min(usize::try_from(offset).unwrap_or(usize::MAX));
        let len = buf.len().min(bytes.now.len() - start);
        buf[..len].copy_from_slice(&bytes.now[start..start + len]);
        Ok(len)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.change(Change::Write(offset, data.to_vec()), offset.saturating_add(data.len() as u64))
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        let end = offset.saturating_add(len).min(self.len()?);
        if offset >= end {
            return Ok(());
        }
        self.change(Change::Write(offset, vec![0; (end - offset) as usize]), end)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Change::Len(len), len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.node.lock().now.len() as u64)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.shared.lock().may_write(0)?;
        self.node.lock().sync();
        Ok(())
    }
}
