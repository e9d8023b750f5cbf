//! Blobs: how plain bytes become what is stored, and back.

use bytes::Bytes;
use ouro_core::codec::{decode_block_list, encode_block_list};
use ouro_core::content::BlobRef;
use ouro_core::id::BlobId;

use crate::crypto::Sealed;
use crate::error::RepoError;
use crate::frame::{self, Compressor, Effort, PLAIN_BYTES_MAX};
use crate::repository::Repository;

/// A blob, compressed and encrypted, that has no place yet.
#[derive(Clone, Debug)]
pub struct SealedBlob {
    /// What it is.
    pub id: BlobId,
    /// Plain length in bytes. For a block list: of the list without locators, so that equal lists are equal references.
    pub len: u32,
    /// What is stored.
    pub bytes: Vec<u8>,
}

/// Seals one blob after the other, keeping the compressor's tables.
pub(crate) struct Sealer {
    repo: Repository,
    compressor: Compressor,
}

impl Sealer {
    pub(crate) fn new(repo: Repository, effort: Effort) -> Sealer {
        Sealer { repo, compressor: Compressor::new(effort) }
    }

    /// Seals plain bytes whose id is known already.
    pub(crate) fn seal(&mut self, id: BlobId, plain: &[u8]) -> Result<SealedBlob, RepoError> {
        check_size(plain.len())?;
        let mut bytes = Vec::new();
        let compressor = &mut self.compressor;
        self.repo.keys().seal_in_place(Sealed::Blob, &id.0, &mut bytes, |out| compressor.frame_onto(plain, out));
        Ok(SealedBlob { id, len: plain.len() as u32, bytes })
    }

    /// Seals a block list: its id and length are those of the list without locators.
    pub(crate) fn seal_list(&mut self, chunks: &[BlobRef]) -> Result<SealedBlob, RepoError> {
        let logical = logical_list(chunks);
        check_size(logical.len())?;
        let sealed = self.seal(self.repo.keys().list_id(&logical), &encode_block_list(chunks))?;
        Ok(SealedBlob { len: logical.len() as u32, ..sealed })
    }
}

fn check_size(bytes: usize) -> Result<(), RepoError> {
    if bytes > PLAIN_BYTES_MAX {
        let (bytes, limit) = (bytes as u64, PLAIN_BYTES_MAX as u64);
        return Err(RepoError::TooLarge { what: "a blob", bytes, limit });
    }
    Ok(())
}

fn logical_list(chunks: &[BlobRef]) -> Vec<u8> {
    let bare: Vec<BlobRef> = chunks.iter().map(|chunk| BlobRef { at: None, ..*chunk }).collect();
    encode_block_list(&bare)
}

impl Repository {
    /// The id of plain bytes.
    pub fn blob_id(&self, plain: &[u8]) -> BlobId {
        self.keys().blob_id(plain)
    }

    /// The id of a block list: of the chunks' ids and lengths; where they lie does not matter.
    pub fn block_list_id(&self, chunks: &[BlobRef]) -> BlobId {
        self.keys().list_id(&logical_list(chunks))
    }

    /// Whether plain bytes are those of a blob: by their hash, or, if they are a block list, by that of the list without locators.
    pub fn verify_blob(&self, id: &BlobId, plain: &[u8]) -> bool {
        self.blob_id(plain) == *id || decode_block_list(plain).is_ok_and(|chunks| self.block_list_id(&chunks) == *id)
    }

    /// Compresses and encrypts plain bytes; takes CPU time (compression: about 400 MB/s).
    ///
    /// # Errors
    ///
    /// [`RepoError::TooLarge`] for more than [`PLAIN_BYTES_MAX`] bytes.
    pub fn seal_blob(&self, plain: &[u8], effort: Effort) -> Result<SealedBlob, RepoError> {
        Sealer::new(self.clone(), effort).seal(self.blob_id(plain), plain)
    }

    /// Compresses and encrypts a block list.
    ///
    /// # Errors
    ///
    /// [`RepoError::TooLarge`] if the list has more than [`PLAIN_BYTES_MAX`] bytes (a file of more than about a terabyte).
    pub fn seal_block_list(&self, chunks: &[BlobRef]) -> Result<SealedBlob, RepoError> {
        Sealer::new(self.clone(), Effort::Quick).seal_list(chunks)
    }

    /// Decrypts, decompresses and verifies what is stored for a blob.
    ///
    /// # Errors
    ///
    /// [`RepoError::Corrupt`] if it is anything but that blob.
    pub fn open_blob(&self, id: &BlobId, sealed: &[u8]) -> Result<Bytes, RepoError> {
        let corrupt = |what| RepoError::Corrupt { name: format!("blob {id}"), what };
        let frame = self.keys().open(Sealed::Blob, &id.0, sealed).map_err(|_| corrupt("the seal is broken"))?;
        let plain = frame::expand(&frame).map_err(|error| RepoError::malformed(format!("blob {id}"), error))?;
        if !self.verify_blob(id, &plain) {
            return Err(corrupt("the bytes are another blob's"));
        }
        Ok(plain.into())
    }
}
