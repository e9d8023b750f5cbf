//! A sealed file as a byte stream for the pipeline.

use ouro_core::content::{BlobRef, Content};
use ouro_core::id::FileId;
use ouro_local::volume::{Volume, VolumeError};
use parking_lot::Mutex;
use std::io::{self, Read};
use std::sync::Arc;

/// Bytes asked of the volume at a time.
const READ_BYTES: usize = 1 << 20;

/// Reads one sealed file. Blobs that lie under a partly rewritten file and are not on this device end the stream with an error, and stand
/// in `needs` afterwards: fetch them and read again from the start.
pub(crate) struct LayerReader {
    volume: Arc<Volume>,
    file: FileId,
    content: Content,
    offset: u64,
    needs: Arc<Mutex<Vec<BlobRef>>>,
    ahead: Vec<u8>,
    taken: usize,
}

impl LayerReader {
    pub(crate) fn new(
        volume: Arc<Volume>,
        file: FileId,
        content: Content,
        needs: Arc<Mutex<Vec<BlobRef>>>,
    ) -> LayerReader {
        LayerReader { volume, file, content, offset: 0, needs, ahead: Vec::new(), taken: 0 }
    }

    fn fill(&mut self) -> io::Result<()> {
        let left = self.content.size().saturating_sub(self.offset).min(READ_BYTES as u64) as usize;
        self.ahead.clear();
        self.ahead.resize(left, 0);
        self.taken = 0;
        match self.volume.read_layer(self.file, &self.content, self.offset, &mut self.ahead) {
            Ok(()) => {
                self.offset += left as u64;
                Ok(())
            }
            Err(VolumeError::Need(blobs)) => {
                self.ahead.clear();
                self.needs.lock().extend(blobs);
                Err(io::Error::other("blobs are missing"))
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
