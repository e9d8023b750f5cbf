//! The clean cache: blobs that also lie on the remote (or are about to), kept here by what they are.
//!
//! Blobs up to [`SMALL_BYTES_MAX`] stand in `cache.db`, larger ones in files `blobs/<xx>/<id>`. Nothing here is synced: instead a blob is
//! verified by its hash when it is first read after a start, and dropped if it is torn. Rows are written in batches; what a crash loses of
//! them costs a download, and [`Blobs::adopt`] finds files without a row. What will be nowhere else is synced by [`Blobs::persist`]. Eviction takes
//! what was used longest ago.
//!
//! What must not go (pinned, or not yet on the remote) is the caller's to say: [`BlobsOptions::keep`].

mod rows;

#[cfg(test)]
mod tests;

use crate::database::DatabaseAt;
use crate::disk::{Disk, Handles};
use crate::error::LocalError;
use ouro_core::id::BlobId;
use parking_lot::Mutex;
use rows::Rows;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Blobs up to this many bytes are kept in the database.
pub const SMALL_BYTES_MAX: usize = 64 << 10;
/// Large blobs open at a time.
const FILES_OPEN_MAX: usize = 256;
/// Ids remembered as verified in this process; then forgotten and verified anew.
const VERIFIED_MAX: usize = 100_000;
/// Eviction for a full cache frees this part of the limit beyond what is needed, so that it is not run for each blob.
const EVICT_SLACK_DIVISOR: u64 = 32;
/// Room made at once when the disk is short, in bytes.
const EVICT_STEP_BYTES: u64 = 64 << 20;
/// The directory of large blobs.
const DIR: &str = "blobs";

/// Says whether bytes are the blob of this id.
pub type Verify = Arc<dyn Fn(&BlobId, &[u8]) -> bool + Send + Sync>;
/// Says whether a blob must stay.
pub type Keep = Arc<dyn Fn(&BlobId) -> bool + Send + Sync>;

/// Limits of the cache and what it asks the caller.
#[derive(Clone)]
pub struct BlobsOptions {
    /// Most bytes held.
    pub bytes_max: u64,
    /// Free bytes left to others on the disk.
    pub free_bytes_min: u64,
    /// The hash.
    pub verify: Verify,
    /// Asked when the cache makes room by itself; must not call back into it.
    pub keep: Keep,
}

/// The clean cache of one box. All calls may block on the disk.
pub struct Blobs {
    disk: Arc<dyn Disk>,
    handles: Handles,
    rows: Rows,
    options: BlobsOptions,
    verified: Mutex<BTreeSet<BlobId>>,
    temporary: AtomicU64,
}

fn path_of(id: &BlobId) -> String {
    format!("{DIR}/{:02x}/{id}", id.0[0])
}

impl Blobs {
    /// Opens the cache; a damaged database is emptied and the files are adopted anew.
    ///
    /// # Errors
    /// What the disk or SQLite says.
    pub fn open(disk: Arc<dyn Disk>, database: DatabaseAt, options: BlobsOptions) -> Result<Blobs, LocalError> {
        let (rows, rebuilt) = Rows::open(database)?;
        let blobs = Blobs {
            handles: Handles::new(disk.clone(), FILES_OPEN_MAX),
            disk,
            rows,
            options,
            verified: Mutex::new(BTreeSet::new()),
            temporary: AtomicU64::new(0),
        };
        // Half-written blobs of an earlier process.
        let temporary = format!("{DIR}/tmp");
        for name in blobs.disk.list(&temporary).map_err(|e| LocalError::io(&temporary, e))? {
            blobs.disk.remove(&format!("{temporary}/{name}")).map_err(|e| LocalError::io(&temporary, e))?;
        }
        if rebuilt {
            blobs.adopt()?;
        }
        Ok(blobs)
    }

    /// Takes in the files that no row names: after lost rows. Walks all files; run it in the background. Returns how many.
    ///
    /// # Errors
    /// What the disk or SQLite says.
    pub fn adopt(&self) -> Result<u64, LocalError> {
        let mut adopted = 0;
        for dir in self.disk.list(DIR).map_err(|e| LocalError::io(DIR, e))? {
            let dir = format!("{DIR}/{dir}");
            for name in self.disk.list(&dir).map_err(|e| LocalError::io(&dir, e))? {
                let Some(id) = parse_id(&name).filter(|id| path_of(id) == format!("{dir}/{name}")) else { continue };
                if self.rows.len_of(&id)?.is_some() {
                    continue;
                }
                let path = path_of(&id);
                // Gone in between: evicted.
                let Ok(file) = self.disk.open(&path) else { continue };
                let len = file.len().map_err(|e| LocalError::io(path, e))?;
                self.rows.insert_file(id, len)?;
                adopted += 1;
            }
        }
        Ok(adopted)
    }

    /// Keeps a blob; one that is there stays. Makes room by evicting what was used longest ago.
    ///
    /// # Errors
    /// [`LocalError::CacheFull`] if there is no room and nothing to evict; else what the disk or SQLite says. The blob is not held then.
    pub fn put(&self, id: BlobId, bytes: &[u8]) -> Result<(), LocalError> {
        if self.rows.len_of(&id)?.is_some() {
            return Ok(());
        }
        let len = bytes.len() as u64;
        self.make_room(len)?;
        match self.store(id, bytes) {
            Err(LocalError::Full { .. }) => {
                let held = self.rows.total();
                self.evict(held.saturating_sub(len + EVICT_STEP_BYTES), &*self.options.keep.clone())?;
                self.store(id, bytes)
            }
            done => done,
        }
        .map_err(|e| if e.is_full() { LocalError::CacheFull { needed: len } } else { e })?;
        self.note_verified(id);
        Ok(())
    }

    fn store(&self, id: BlobId, bytes: &[u8]) -> Result<(), LocalError> {
        if bytes.len() <= SMALL_BYTES_MAX {
            return self.rows.insert_small(id, bytes);
        }
        let path = path_of(&id);
        let temporary = format!("{DIR}/tmp/{:x}", self.temporary.fetch_add(1, Ordering::Relaxed));
        let written = self.disk.create(&temporary).and_then(|file| file.write_at(bytes, 0));
        if let Err(e) = written.and_then(|()| self.disk.rename(&temporary, &path)) {
            // If it cannot be removed now, the next start does.
            let _ = self.disk.remove(&temporary);
            return Err(LocalError::io(path, e));
        }
        self.handles.forget(&path);
        self.rows.insert_file(id, bytes.len() as u64)
    }

    fn make_room(&self, len: u64) -> Result<(), LocalError> {
        let options = &self.options;
        let held = self.rows.total();
        let free = self.disk.free_bytes().map_err(|e| LocalError::io(DIR, e))?;
        let over_limit = (held + len).saturating_sub(options.bytes_max);
        let over_disk = options.free_bytes_min.saturating_add(len).saturating_sub(free);
        if over_limit == 0 && over_disk == 0 {
            return Ok(());
        }
        let slack = if over_limit > 0 { options.bytes_max / EVICT_SLACK_DIVISOR } else { EVICT_STEP_BYTES };
        let target = held.saturating_sub(over_limit.max(over_disk) + slack);
        let freed = self.evict(target, &*options.keep.clone())?;
        if freed < over_limit.max(over_disk) {
            return Err(LocalError::CacheFull { needed: len });
        }
        Ok(())
    }

    /// The whole blob, verified on its first read; `None` if it is not here or was torn (then it is dropped).
    ///
    /// # Errors
    /// What the disk or SQLite says.
    pub fn get(&self, id: &BlobId) -> Result<Option<Arc<[u8]>>, LocalError> {
        let Some(len) = self.rows.len_of(id)? else { return Ok(None) };
        let bytes = if len <= SMALL_BYTES_MAX as u64 { self.rows.small(id)? } else { self.read_file(id, len)? };
        let Some(bytes) = bytes else {
            self.forget_torn(id)?;
            return Ok(None);
        };
        if !self.is_verified(id) {
            if !(self.options.verify)(id, &bytes) {
                self.forget_torn(id)?;
                return Ok(None);
            }
            self.note_verified(*id);
        }
        self.rows.touch(id)?;
        Ok(Some(bytes))
    }

    /// Reads a part into `buf`: the number of bytes, less than asked only at the end of the blob. Loads and verifies the whole blob only
    /// on its first read. `None` if it is not here.
    ///
    /// # Errors
    /// What the disk or SQLite says.
    pub fn read(&self, id: &BlobId, offset: u64, buf: &mut [u8]) -> Result<Option<usize>, LocalError> {
        let Some(len) = self.rows.len_of(id)? else { return Ok(None) };
        if len > SMALL_BYTES_MAX as u64 && self.is_verified(id) {
            let path = path_of(id);
            let wanted = buf.len().min(usize::try_from(len.saturating_sub(offset)).unwrap_or(usize::MAX));
            let read = self.handles.get(&path).and_then(|file| file.read_at(&mut buf[..wanted], offset));
            match read {
                Ok(read) if read == wanted => {
                    self.rows.touch(id)?;
                    return Ok(Some(read));
                }
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(LocalError::io(path, e)),
                // Shorter than it was, or gone: not what was verified.
                _ => {
                    self.forget_torn(id)?;
                    return Ok(None);
                }
            }
        }
        let Some(bytes) = self.get(id)? else { return Ok(None) };
        let start = bytes.len().min(usize::try_from(offset).unwrap_or(usize::MAX));
        let read = buf.len().min(bytes.len() - start);
        buf[..read].copy_from_slice(&bytes[start..start + read]);
        Ok(Some(read))
    }

    /// `None` if the file is gone or of another length.
    fn read_file(&self, id: &BlobId, len: u64) -> Result<Option<Arc<[u8]>>, LocalError> {
        let path = path_of(id);
        let file = match self.handles.get(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(|e| LocalError::io(&path, e))?,
        };
        let found = file.len().map_err(|e| LocalError::io(&path, e))?;
        if found != len {
            return Ok(None);
        }
        let mut bytes = vec![0; len as usize];
        let read = file.read_at(&mut bytes, 0).map_err(|e| LocalError::io(&path, e))?;
        Ok((read == bytes.len()).then(|| bytes.into()))
    }

    fn forget_torn(&self, id: &BlobId) -> Result<(), LocalError> {
        tracing::warn!(blob = ?id, "torn in the cache: dropped");
        self.remove(id)
    }

    /// Whether a blob is here (perhaps torn).
    ///
    /// # Errors
    /// What SQLite says.
    pub fn contains(&self, id: &BlobId) -> Result<bool, LocalError> {
        Ok(self.rows.len_of(id)?.is_some())
    }

    /// Whether all of these are here (perhaps torn).
    ///
    /// # Errors
    /// What SQLite says.
    pub fn contains_all(&self, ids: &[BlobId]) -> Result<bool, LocalError> {
        self.rows.contains_all(ids)
    }

    /// Drops a blob; one that is not here is no error.
    ///
    /// # Errors
    /// What the disk or SQLite says.
    pub fn remove(&self, id: &BlobId) -> Result<(), LocalError> {
        let Some(len) = self.rows.len_of(id)? else { return Ok(()) };
        self.verified.lock().remove(id);
        if len > SMALL_BYTES_MAX as u64 {
            self.remove_file(id)?;
        }
        self.rows.remove(&[*id])
    }

    fn remove_file(&self, id: &BlobId) -> Result<(), LocalError> {
        let path = path_of(id);
        self.handles.forget(&path);
        self.disk.remove(&path).map_err(|e| LocalError::io(path, e))
    }

    /// Bytes held.
    pub fn total_bytes(&self) -> u64 {
        self.rows.total()
    }

    /// Evicts until at most `target_bytes` are held: what was used longest ago first, nothing for which `keep` is true. Returns the
    /// bytes freed.
    ///
    /// # Errors
    /// What the disk or SQLite says.
    pub fn evict(&self, target_bytes: u64, keep: &dyn Fn(&BlobId) -> bool) -> Result<u64, LocalError> {
        let mut freed = 0;
        let mut after = None;
        while self.rows.total() > target_bytes {
            let page = self.rows.oldest(after)?;
            let Some(last) = page.last() else { break };
            after = Some(last.used);
            let mut excess = self.rows.total().saturating_sub(target_bytes);
            let mut gone = Vec::new();
            for row in &page {
                if excess == 0 {
                    break;
                }
                if keep(&row.id) {
                    continue;
                }
                excess = excess.saturating_sub(row.len);
                freed += row.len;
                gone.push(row);
            }
            // Files first: that frees room which the database may need for removing rows. A row without its file is dropped when read.
            for row in &gone {
                self.verified.lock().remove(&row.id);
                if row.len > SMALL_BYTES_MAX as u64 {
                    self.remove_file(&row.id)?;
                }
            }
            let ids: Vec<BlobId> = gone.iter().map(|row| row.id).collect();
            self.rows.remove(&ids)?;
        }
        Ok(freed)
    }

    /// Writes rows that wait for their batch. Before a planned end; a crash without it costs downloads only.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn flush(&self) -> Result<(), LocalError> {
        self.rows.flush()
    }

    /// Makes everything that is held durable: some of it is about to be nowhere else.
    ///
    /// # Errors
    /// What the disk or SQLite says; then nothing is promised.
    pub fn persist(&self) -> Result<(), LocalError> {
        self.rows.flush()?;
        self.disk.sync_all().map_err(|e| LocalError::io(DIR, e))
    }

    /// The database as bytes, for a simulated crash: [`DatabaseAt::Image`]. What no batch wrote yet is not in it.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn image(&self) -> Result<Vec<u8>, LocalError> {
        self.rows.image()
    }

    fn is_verified(&self, id: &BlobId) -> bool {
        self.verified.lock().contains(id)
    }

    fn note_verified(&self, id: BlobId) {
        let mut verified = self.verified.lock();
        if verified.len() >= VERIFIED_MAX {
            verified.clear();
        }
        verified.insert(id);
    }
}

fn parse_id(name: &str) -> Option<BlobId> {
    if name.len() != 64 || !name.is_ascii() {
        return None;
    }
    let mut id = [0; 32];
    for (byte, at) in id.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&name[at..at + 2], 16).ok()?;
    }
    Some(BlobId(id))
}
