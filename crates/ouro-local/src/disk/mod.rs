//! The cache directory of a box as this crate sees it: few operations, so that a simulator can stand in for it.
//!
//! Paths are relative, with `/`, made by this crate. Making a name durable takes [`Disk::sync_dir`], making bytes durable
//! [`DiskFile::sync_data`]; before these a crash may lose either.

mod memory;
mod real;

#[cfg(test)]
mod tests;

pub use memory::MemoryDisk;
pub use real::RealDisk;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

/// An open file. All offsets are bytes from its beginning.
pub trait DiskFile: Send + Sync + 'static {
    /// Fills `buf` from `offset` on; shorter only at the end of the file.
    ///
    /// # Errors
    /// What the system says.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `data` at `offset`; the file grows as needed, gaps read as zeros.
    ///
    /// # Errors
    /// What the system says; then any part of the range may have been written.
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()>;

    /// Makes a range read as zeros without changing the length, giving its space back where the file system can.
    ///
    /// # Errors
    /// What the system says.
    fn punch(&self, offset: u64, len: u64) -> io::Result<()>;

    /// Cuts or extends with zeros.
    ///
    /// # Errors
    /// What the system says.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Length in bytes.
    ///
    /// # Errors
    /// What the system says.
    fn len(&self) -> io::Result<u64>;

    /// Whether it has no bytes.
    ///
    /// # Errors
    /// What the system says.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Makes the bytes and the length durable.
    ///
    /// # Errors
    /// What the system says.
    fn sync_data(&self) -> io::Result<()>;
}

/// The cache directory.
pub trait Disk: Send + Sync + 'static {
    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    /// `NotFound` if there is none; else what the system says.
    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Makes an empty file, its directories too; what was at this name is emptied.
    ///
    /// # Errors
    /// What the system says.
    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Renames over whatever is at `to`, making its directory.
    ///
    /// # Errors
    /// `NotFound` if there is no `from`; else what the system says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file. That there is none is no error.
    ///
    /// # Errors
    /// What the system says.
    fn remove(&self, path: &str) -> io::Result<()>;

    /// Names in a directory, sorted; none if it does not exist.
    ///
    /// # Errors
    /// What the system says.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;

    /// Makes the names in a directory durable, and that directory's own.
    ///
    /// # Errors
    /// What the system says.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;

    /// Makes everything durable at once, cheaper than many single files.
    ///
    /// # Errors
    /// What the system says.
    fn sync_all(&self) -> io::Result<()>;

    /// Bytes an unprivileged writer may still use.
    ///
    /// # Errors
    /// What the system says.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// Open files by path, at most `max`; the one unused longest is closed first.
pub(crate) struct Handles {
    disk: Arc<dyn Disk>,
    max: usize,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    /// The last use stamp given.
    clock: u64,
    /// With the stamp of the last use.
    files: HashMap<String, (u64, Arc<dyn DiskFile>)>,
}

impl Handles {
    pub(crate) fn new(disk: Arc<dyn Disk>, max: usize) -> Handles {
        Handles { disk, max, open: Mutex::default() }
    }

    /// Opens an existing file, or gives the open one.
    pub(crate) fn get(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut open = self.open.lock();
        open.clock += 1;
        let now = open.clock;
        if let Some((used, file)) = open.files.get_mut(path) {
            *used = now;
            return Ok(file.clone());
        }
        drop(open);
        let file = self.disk.open(path)?;
        self.put(path, file.clone());
        Ok(file)
    }

    /// Remembers a file that was just made.
    pub(crate) fn put(&self, path: &str, file: Arc<dyn DiskFile>) {
        let mut open = self.open.lock();
        open.clock += 1;
        let now = open.clock;
        open.files.insert(path.to_owned(), (now, file));
        while open.files.len() > self.max {
            // Use stamps are unique, so the order of the map decides nothing.
            let Some(oldest) = open.files.iter().min_by_key(|(_, (used, _))| *used).map(|(path, _)| path.clone())
            else {
                break;
            };
            open.files.remove(&oldest);
        }
    }

    pub(crate) fn forget(&self, path: &str) {
        self.open.lock().files.remove(path);
    }
}
