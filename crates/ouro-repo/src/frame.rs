//! Compression: what stands inside a seal.
//!
//! A frame is a method byte (0 stored, 1 zstd), the plain length (u32, little-endian) and the data.

use crate::crypto::TAG_BYTES;
use crate::wire::{DecodeError, Reader, invalid, read_rest, read_u32};
use std::cell::RefCell;
use std::io;

/// Most plain bytes that one blob, node or record may have; a decoder never allocates more for one.
pub const PLAIN_BYTES_MAX: usize = 64 << 20;
/// This much of the beginning decides whether the whole is worth compressing.
const SAMPLE_BYTES: usize = 64 << 10;
const STORED: u8 = 0;
const ZSTD: u8 = 1;

/// How much work compression may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Effort {
    /// zstd level 1: for data on ordinary links.
    #[default]
    Quick,
    /// zstd level 3: for slow links, tree nodes and records.
    Thorough,
}

/// Makes frames; keeps its tables between them.
pub(crate) struct Compressor {
    /// `None` if zstd had no memory for its tables: then everything is stored.
    zstd: Option<zstd::bulk::Compressor<'static>>,
    scratch: Vec<u8>,
}

impl Compressor {
    pub(crate) fn new(effort: Effort) -> Compressor {
        let level = match effort {
            Effort::Quick => 1,
            Effort::Thorough => 3,
        };
        Compressor { zstd: zstd::bulk::Compressor::new(level).ok(), scratch: Vec::new() }
    }

    /// Puts plain bytes into a frame: compressed if that saves at least 5 % (of the beginning, if they are long).
    pub(crate) fn frame(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        self.frame_onto(plain, &mut frame);
        frame
    }

    /// Like [`Compressor::frame`], behind what is in `out`.
    pub(crate) fn frame_onto(&mut self, plain: &[u8], out: &mut Vec<u8>) {
        debug_assert!(plain.len() <= PLAIN_BYTES_MAX, "checked by the callers");
        let worth = plain.len() <= SAMPLE_BYTES || self.shrinks(&plain[..SAMPLE_BYTES]);
        let (method, data) =
            if worth && self.shrinks(plain) { (ZSTD, self.scratch.as_slice()) } else { (STORED, plain) };
        // With room for what a seal puts behind it.
        out.reserve_exact(5 + data.len() + TAG_BYTES);
        out.push(method);
        out.extend_from_slice(&(plain.len() as u32).to_le_bytes());
        out.extend_from_slice(data);
    }

    /// Compresses into the scratch buffer; whether that saved at least 5 %.
    fn shrinks(&mut self, plain: &[u8]) -> bool {
        let Some(zstd) = &mut self.zstd else {
            return false;
        };
        self.scratch.clear();
        self.scratch.reserve(zstd::compress_bound(plain.len()));
        match zstd.compress_to_buffer(plain, &mut self.scratch) {
            Ok(len) => len <= plain.len() - plain.len() / 20 && len < plain.len(),
            Err(_) => false,
        }
    }
}

thread_local! {
    /// Its tables are kept: made anew for each node of an index, they cost as much as the decompression itself.
    static DECOMPRESSOR: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

fn decompress(data: &[u8], plain_len: usize) -> io::Result<Vec<u8>> {
    DECOMPRESSOR.with_borrow_mut(|kept| {
        let decompressor = match kept {
            Some(decompressor) => decompressor,
            None => kept.insert(zstd::bulk::Decompressor::new()?),
        };
        decompressor.decompress(data, plain_len)
    })
}

/// Takes the plain bytes out of a frame; allocates what the frame declares, at most [`PLAIN_BYTES_MAX`].
pub(crate) fn expand(frame: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut reader = Reader::new(frame);
    let method = reader.u8()?;
    let len = read_u32(&mut reader)? as usize;
    let data = read_rest(&mut reader);
    if len > PLAIN_BYTES_MAX {
        return Err(invalid("declares too many bytes"));
    }
    match method {
        STORED if data.len() == len => Ok(data.to_vec()),
        STORED => Err(invalid("length differs from the declared one")),
        ZSTD => {
            let plain = decompress(data, len).map_err(|_| invalid("does not decompress"))?;
            if plain.len() == len { Ok(plain) } else { Err(invalid("length differs from the declared one")) }
        }
        _ => Err(invalid("unknown compression")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_shrinks_and_noise_is_stored() {
        let mut compressor = Compressor::new(Effort::Quick);
        let text = b"all work and no play makes jack a dull boy. ".repeat(5000);
        let frame = compressor.frame(&text);
        assert!(frame.len() < text.len() / 10);
        assert_eq!(expand(&frame).unwrap(), text);
        let mut noise = vec![0; 200_000];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        let frame = compressor.frame(&noise);
        assert_eq!(frame.len(), noise.len() + 5);
        assert_eq!(expand(&frame).unwrap(), noise);
        assert_eq!(expand(&compressor.frame(b"")).unwrap(), b"");
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        let bomb = zstd::bulk::compress(&vec![0; PLAIN_BYTES_MAX + 1], 1).unwrap();
        let declared = |len: u32| [&[ZSTD][..], &len.to_le_bytes(), &bomb].concat();
        assert_eq!(expand(&declared(PLAIN_BYTES_MAX as u32 + 1)), Err(invalid("declares too many bytes")));
        assert_eq!(expand(&declared(1000)), Err(invalid("does not decompress")));
        let small = zstd::bulk::compress(b"seven b", 1).unwrap();
        let frame = [&[ZSTD][..], &8u32.to_le_bytes(), &small].concat();
        assert_eq!(expand(&frame), Err(invalid("length differs from the declared one")));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            // The declared length is kept small here so that the test does not allocate 64 MiB a thousand times.
            let mut bytes = bytes;
            if bytes.len() > 4 { bytes[3] = 0; bytes[4] = 0; bytes[0] %= 3; }
            let _ = expand(&bytes);
        }
    }
}
