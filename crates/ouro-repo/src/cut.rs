//! Where a stream of bytes is cut into chunks: FastCDC 2020 over a table that is this repository's own.
//!
//! The table is keyed (256 random words from the repository's secret) instead of the published one combined with a seed, so that the places
//! where a known file would be cut cannot be computed without the key.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::Bytes;
use fastcdc::v2020::{Normalization, cut_gear, select_masks};

use crate::config::ChunkerParams;
use crate::repository::Repository;

/// Bytes asked of the reader at once.
const READ_BYTES: usize = 1 << 20;

/// The tables of one repository.
pub(crate) struct Tables {
    gear: [u64; 256],
    gear_shifted: [u64; 256],
    masks: (u64, u64),
    params: ChunkerParams,
}

impl Tables {
    pub(crate) fn new(key: &[u8; 32], params: ChunkerParams) -> Tables {
        let mut bytes = [0; 256 * 8];
        blake3::Hasher::new_keyed(key).update(b"gear").finalize_xof().fill(&mut bytes);
        let mut gear = [0; 256];
        for (word, bytes) in gear.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        let masks = select_masks(params.average as usize, Normalization::Level1);
        Tables { gear, gear_shifted: gear.map(|word| word << 1), masks, params }
    }

    /// Length of the first chunk of `bytes`, which are everything to the end or at least a chunk of the greatest size.
    fn first(&self, bytes: &[u8]) -> usize {
        let (min, average, max) = (self.params.min as usize, self.params.average as usize, self.params.max as usize);
        let (strict, loose) = self.masks;
        let (gear, shifted) = (&self.gear, &self.gear_shifted);
        cut_gear(bytes, min, average, max, strict, loose, strict << 1, loose << 1, gear, shifted).1
    }

    pub(crate) fn chunk_bytes_max(&self) -> usize {
        self.params.max as usize
    }
}

/// Cuts what a reader gives into chunks.
///
/// Holds at most one chunk of the greatest size and one read beyond it.
pub struct Cutter<R> {
    tables: Arc<Tables>,
    reader: R,
    buffer: Vec<u8>,
    start: usize,
    ended: bool,
}

impl<R: Read> Cutter<R> {
    pub(crate) fn new(tables: Arc<Tables>, reader: R, bytes_expected: u64) -> Cutter<R> {
        let most = tables.chunk_bytes_max() + READ_BYTES;
        let room = usize::try_from(bytes_expected).unwrap_or(most).saturating_add(1).min(most);
        Cutter { tables, reader, buffer: Vec::with_capacity(room), start: 0, ended: false }
    }

    /// The next chunk; `None` after the last.
    ///
    /// # Errors
    ///
    /// What the reader says.
    pub fn next_chunk(&mut self) -> io::Result<Option<&[u8]>> {
        let most = self.tables.chunk_bytes_max();
        if !self.ended && self.buffer.len() - self.start < most {
            self.buffer.drain(..self.start);
            self.start = 0;
            while !self.ended && self.buffer.len() < most {
                let before = self.buffer.len();
                let wanted = (self.buffer.capacity() - before).max(READ_BYTES).min(most + READ_BYTES - before);
                let read = self.reader.by_ref().take(wanted as u64).read_to_end(&mut self.buffer)?;
                self.ended = read < wanted;
            }
        }
        if self.start == self.buffer.len() {
            return Ok(None);
        }
        let len = self.tables.first(&self.buffer[self.start..]);
        let chunk = self.start..self.start + len;
        self.start += len;
        Ok(Some(&self.buffer[chunk]))
    }
}

impl Repository {
    /// Cuts what `reader` gives into chunks; `bytes_expected` only sizes the buffer.
    pub fn cutter<R: Read>(&self, reader: R, bytes_expected: u64) -> Cutter<R> {
        Cutter::new(self.tables().clone(), reader, bytes_expected)
    }

    /// Cuts bytes in memory into chunks.
    pub fn cut(&self, bytes: &Bytes) -> Vec<Bytes> {
        let mut chunks = Vec::new();
        let mut start = 0;
        while start < bytes.len() {
            let len = self.tables().first(&bytes[start..]);
            chunks.push(bytes.slice(start..start + len));
            start += len;
        }
        chunks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARAMS: ChunkerParams = ChunkerParams { min: 4 << 10, average: 16 << 10, max: 64 << 10 };

    fn noise(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        bytes
    }

    /// Gives what it has in small and uneven pieces.
    struct Trickle<'a>(&'a [u8]);

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let len = buffer.len().min(self.0.len()).min(1 + self.0.len() % 977);
            buffer[..len].copy_from_slice(&self.0[..len]);
            self.0 = &self.0[len..];
            Ok(len)
        }
    }

    fn chunks(key: u8, reader: impl Read, expected: u64) -> Vec<Vec<u8>> {
        let mut cutter = Cutter::new(Arc::new(Tables::new(&[key; 32], PARAMS)), reader, expected);
        let mut chunks = Vec::new();
        while let Some(chunk) = cutter.next_chunk().unwrap() {
            chunks.push(chunk.to_vec());
        }
        chunks
    }

    #[test]
    fn chunks_are_the_stream_within_their_limits() {
        let bytes = noise(3_000_000);
        let chunks = chunks(1, bytes.as_slice(), bytes.len() as u64);
        assert_eq!(chunks.concat(), bytes);
        let (last, others) = chunks.split_last().unwrap();
        assert!(last.len() <= PARAMS.max as usize);
        assert!(others.iter().all(|c| (PARAMS.min as usize..=PARAMS.max as usize).contains(&c.len())));
        let mean = bytes.len() / chunks.len();
        assert!((12 << 10..28 << 10).contains(&mean), "mean {mean}");
    }

    #[test]
    fn the_cuts_do_not_depend_on_how_the_bytes_arrive() {
        let bytes = noise(1_500_000);
        let whole = chunks(1, bytes.as_slice(), 0);
        assert_eq!(whole, chunks(1, Trickle(&bytes), 10));
        assert_eq!(whole, chunks(1, bytes.as_slice(), u64::MAX));
    }

    #[test]
    fn another_key_cuts_elsewhere() {
        let bytes = noise(1_500_000);
        let lengths = |key| chunks(key, bytes.as_slice(), 0).iter().map(Vec::len).collect::<Vec<_>>();
        assert_ne!(lengths(1), lengths(2));
    }

    #[test]
    fn an_inserted_byte_changes_few_chunks() {
        let bytes = noise(3_000_000);
        let mut edited = bytes.clone();
        edited.insert(1_000_000, 7);
        let before: std::collections::HashSet<_> = chunks(1, bytes.as_slice(), 0).into_iter().collect();
        let after = chunks(1, edited.as_slice(), 0);
        let new = after.iter().filter(|chunk| !before.contains(*chunk)).count();
        assert!(new <= 3, "{new} of {} chunks are new", after.len());
    }

    #[test]
    fn nothing_has_no_chunks() {
        assert!(chunks(1, io::empty(), 0).is_empty());
    }
}
