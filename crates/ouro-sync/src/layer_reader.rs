//! A sealed file as a byte stream for the pipeline.

use ouro_core::content::{BlobRef, Content};
use ouro_core::id::{BlobId, FileId};
use ouro_local::volume::{Volume, VolumeError};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::io::{self, Read};
use std::sync::Arc;

/// Bytes asked of the volume at a time.
const READ_BYTES: usize = 1 << 20;

/// Why sealed files could not be read to their ends.
#[derive(Default)]
pub(crate) struct Lacks {
    /// Blobs to be fetched: then read again from the start.
    pub(crate) blobs: Vec<BlobRef>,
    /// Files whose bytes are on no disk any more.
    pub(crate) lost: Vec<FileId>,
}

/// Reads one sealed file. Blobs that lie under a partly rewritten file and are not on this device, and bytes that are lost, end the stream
/// with an error and stand in `lacks` afterwards.
pub(crate) struct LayerReader {
    volume: Arc<Volume>,
    file: FileId,
    content: Content,
    /// Blobs below it that are gone: zeros.
    gone: Arc<BTreeSet<BlobId>>,
    offset: u64,
    lacks: Arc<Mutex<Lacks>>,
    ahead: Vec<u8>,
    taken: usize,
}

impl LayerReader {
    pub(crate) fn new(
        volume: Arc<Volume>,
        (file, content): (FileId, Content),
        gone: Arc<BTreeSet<BlobId>>,
        lacks: Arc<Mutex<Lacks>>,
    ) -> LayerReader {
        LayerReader { volume, file, content, gone, offset: 0, lacks, ahead: Vec::new(), taken: 0 }
    }

    fn fill(&mut self) -> io::Result<()> {
        let left = self.content.size().saturating_sub(self.offset).min(READ_BYTES as u64) as usize;
        self.ahead.clear();
        self.ahead.resize(left, 0);
        self.taken = 0;
        match self.volume.read_layer(self.file, &self.content, self.offset, &mut self.ahead, &self.gone) {
            Ok(()) => {
                self.offset += left as u64;
                Ok(())
            }
            Err(VolumeError::Need(blobs)) => {
                self.ahead.clear();
                self.lacks.lock().blobs.extend(blobs);
                Err(io::Error::other("blobs are missing"))
            }
            Err(error @ VolumeError::Lost { file }) => {
                self.ahead.clear();
                self.lacks.lock().lost.push(file);
                Err(io::Error::other(error.to_string()))
            }
            Err(error) => {
                self.ahead.clear();
                Err(io::Error::other(error.to_string()))
            }
        }
    }
}

impl Read for LayerReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.ahead.len() {
            self.fill()?;
        }
        let len = buffer.len().min(self.ahead.len() - self.taken);
        buffer[..len].copy_from_slice(&self.ahead[self.taken..self.taken + len]);
        self.taken += len;
        Ok(len)
    }
}
