//! Keys, ids and seals.
//!
//! Everything is derived from a master key and the repository's id. A seal binds bytes to the repository, to what they are and to their
//! id, so nothing that was sealed can be put in another thing's place. The nonce is a keyed hash of exactly what is encrypted, so sealing
//! the same bytes again gives the same bytes, and no counter can ever repeat.

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Key, Tag, XChaCha20Poly1305, XNonce};
use ouro_core::id::{BlobId, RecordHash};
use zeroize::Zeroizing;

use crate::config::RepositoryId;

const NONCE_BYTES: usize = 24;
pub(crate) const TAG_BYTES: usize = 16;

/// The key from which all others of an encrypted repository follow. Never printed, wiped from memory when dropped.
#[derive(Clone)]
pub struct MasterKey(Zeroizing<[u8; 32]>);

impl MasterKey {
    /// Takes 32 bytes that were stored before.
    pub fn from_bytes(bytes: [u8; 32]) -> MasterKey {
        MasterKey(Zeroizing::new(bytes))
    }

    /// The bytes, to be stored where this device keeps secrets.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// What the configuration says to recognise the key by; tells nothing about it.
    pub(crate) fn check_value(&self, id: RepositoryId) -> [u8; 16] {
        first(blake3::keyed_hash(&self.0, &[b"ourobox v1 key check".as_slice(), &id.0].concat()))
    }
}

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

/// What a seal is around. The number is part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Sealed {
    Device = 2,
    Record = 3,
    Hint = 4,
    Removal = 5,
    Collection = 8,
    Moved = 9,
    Blob = 16,
    Node = 17,
    Directory = 18,
}

/// A seal that is broken: the bytes were damaged, changed, or belong elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken;

/// All keys of one repository.
pub(crate) struct Keys {
    repository: RepositoryId,
    encrypted: bool,
    blob_id: Zeroizing<[u8; 32]>,
    list_id: Zeroizing<[u8; 32]>,
    record_hash: Zeroizing<[u8; 32]>,
    inline_hash: Zeroizing<[u8; 32]>,
    line: Zeroizing<[u8; 32]>,
    seal: Zeroizing<[u8; 32]>,
    nonce: Zeroizing<[u8; 32]>,
    tag: Zeroizing<[u8; 32]>,
    /// Key of tree node ids.
    pub(crate) node_id: Zeroizing<[u8; 32]>,
    /// Salt of the tree's splitter.
    pub(crate) splitter: Zeroizing<[u8; 32]>,
    /// Key of the chunker's table.
    pub(crate) chunker: Zeroizing<[u8; 32]>,
}

impl Keys {
    /// Derives all keys. Without a master key (an unencrypted repository) they follow from the repository's id alone.
    pub(crate) fn derive(master: Option<&MasterKey>, repository: RepositoryId) -> Keys {
        let mut material = Zeroizing::new([0; 48]);
        match master {
            Some(key) => material[..32].copy_from_slice(key.as_bytes()),
            None => material[..32].copy_from_slice(&blake3::derive_key("ourobox v1 unencrypted", &repository.0)),
        }
        material[32..].copy_from_slice(&repository.0);
        let key = |context: &str| Zeroizing::new(blake3::derive_key(context, &*material));
        Keys {
            repository,
            encrypted: master.is_some(),
            blob_id: key("ourobox v1 blob id"),
            list_id: key("ourobox v1 block list id"),
            record_hash: key("ourobox v1 record hash"),
            inline_hash: key("ourobox v1 inline hash"),
            line: key("ourobox v1 line"),
            seal: key("ourobox v1 seal"),
            nonce: key("ourobox v1 nonce"),
            tag: key("ourobox v1 tag"),
            node_id: key("ourobox v1 node id"),
            splitter: key("ourobox v1 splitter"),
            chunker: key("ourobox v1 chunker"),
        }
    }

    pub(crate) fn blob_id(&self, plain: &[u8]) -> BlobId {
        BlobId(*blake3::keyed_hash(&self.blob_id, plain).as_bytes())
    }

    /// Id of a block list: of its ids and lengths alone, so that a repack, or another device's copy, changes no id.
    pub(crate) fn list_id(&self, logical: &[u8]) -> BlobId {
        BlobId(*blake3::keyed_hash(&self.list_id, logical).as_bytes())
    }

    pub(crate) fn record_hash(&self, bytes: &[u8]) -> RecordHash {
        RecordHash(*blake3::keyed_hash(&self.record_hash, bytes).as_bytes())
    }

    pub(crate) fn inline_hash(&self, bytes: &[u8]) -> [u8; 16] {
        first(blake3::keyed_hash(&self.inline_hash, bytes))
    }

    /// Number of a branch; 0 is the main line's.
    pub(crate) fn line(&self, branch: &str) -> u32 {
        u32::from_le_bytes(first(blake3::keyed_hash(&self.line, branch.as_bytes()))).max(1)
    }

    /// Bytes that a seal adds.
    pub(crate) fn seal_bytes(&self) -> usize {
        if self.encrypted { NONCE_BYTES + TAG_BYTES } else { TAG_BYTES }
    }

    /// Appends `plain`, sealed as `what` with `id`, to `out`: nonce, ciphertext, tag; or, unencrypted, plain bytes and tag.
    pub(crate) fn seal(&self, what: Sealed, id: &[u8], plain: &[u8], out: &mut Vec<u8>) {
        out.reserve(plain.len() + self.seal_bytes());
        self.seal_in_place(what, id, out, |out| out.extend_from_slice(plain));
    }

    /// Like [`Keys::seal`], for what `write` appends.
    pub(crate) fn seal_in_place(&self, what: Sealed, id: &[u8], out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        let data = self.associated(what, id);
        if self.encrypted {
            out.extend_from_slice(&[0; NONCE_BYTES]);
        }
        let start = out.len();
        write(out);
        if !self.encrypted {
            let tag: [u8; TAG_BYTES] = first(hash(&self.tag, &data, &out[start..]));
            out.extend_from_slice(&tag);
            return;
        }
        let nonce: [u8; NONCE_BYTES] = first(hash(&self.nonce, &data, &out[start..]));
        out[start - NONCE_BYTES..start].copy_from_slice(&nonce);
        let tag = self
            .cipher(what, id)
            .encrypt_inout_detached(&XNonce::from(nonce), &data, (&mut out[start..]).into())
            .expect("lengths are far below the cipher's limit of 256 GiB");
        out.extend_from_slice(&tag);
    }

    /// Opens what [`Keys::seal`] made.
    pub(crate) fn open(&self, what: Sealed, id: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Broken> {
        let data = self.associated(what, id);
        let (rest, tag) = sealed.split_last_chunk::<TAG_BYTES>().ok_or(Broken)?;
        if !self.encrypted {
            // A checksum, not a secret: its comparison may take as long as it likes.
            let expected: [u8; TAG_BYTES] = first(hash(&self.tag, &data, rest));
            return if expected == *tag { Ok(rest.to_vec()) } else { Err(Broken) };
        }
        let (nonce, text) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(Broken)?;
        let mut plain = text.to_vec();
        self.cipher(what, id)
            .decrypt_inout_detached(&XNonce::from(*nonce), &data, plain.as_mut_slice().into(), &Tag::from(*tag))
            .map_err(|_| Broken)?;
        Ok(plain)
    }

    /// The key of one sealed thing: whoever gets it can open that thing and nothing else.
    fn cipher(&self, what: Sealed, id: &[u8]) -> XChaCha20Poly1305 {
        let mut hasher = blake3::Hasher::new_keyed(&self.seal);
        hasher.update(&[what as u8]).update(id);
        XChaCha20Poly1305::new(&Key::from(*hasher.finalize().as_bytes()))
    }

    fn associated(&self, what: Sealed, id: &[u8]) -> Vec<u8> {
        [self.repository.0.as_slice(), &[what as u8], id].concat()
    }
}

/// Keyed hash of associated data and bytes, their border fixed by the first's length.
fn hash(key: &[u8; 32], data: &[u8], plain: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(&(data.len() as u32).to_le_bytes()).update(data).update(plain);
    hasher.finalize()
}

fn first<const N: usize>(hash: blake3::Hash) -> [u8; N] {
    *hash.as_bytes().first_chunk().expect("no more than 32 bytes are asked for")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(encrypted: bool) -> Keys {
        Keys::derive(encrypted.then(|| MasterKey::from_bytes([7; 32])).as_ref(), RepositoryId([1; 16]))
    }

    #[test]
    fn a_seal_opens_only_as_what_it_was_made_for() {
        for encrypted in [true, false] {
            let keys = keys(encrypted);
            let mut sealed = Vec::new();
            keys.seal(Sealed::Blob, b"id", b"plain", &mut sealed);
            assert_eq!(sealed.len(), 5 + keys.seal_bytes());
            assert_eq!(keys.open(Sealed::Blob, b"id", &sealed).unwrap(), b"plain");
            assert_eq!(keys.open(Sealed::Node, b"id", &sealed), Err(Broken));
            assert_eq!(keys.open(Sealed::Blob, b"ie", &sealed), Err(Broken));
            let other = Keys::derive(Some(&MasterKey::from_bytes([7; 32])), RepositoryId([2; 16]));
            assert_eq!(other.open(Sealed::Blob, b"id", &sealed), Err(Broken));
        }
    }

    #[test]
    fn every_changed_byte_and_every_shorter_length_breaks_a_seal() {
        for encrypted in [true, false] {
            let keys = keys(encrypted);
            let mut sealed = Vec::new();
            keys.seal(Sealed::Blob, b"id", b"plain", &mut sealed);
            for at in 0..sealed.len() {
                let mut changed = sealed.clone();
                changed[at] ^= 1;
                assert_eq!(keys.open(Sealed::Blob, b"id", &changed), Err(Broken), "byte {at}");
                assert_eq!(keys.open(Sealed::Blob, b"id", &sealed[..at]), Err(Broken), "{at} bytes");
            }
        }
    }

    #[test]
    fn encrypted_bytes_show_nothing_of_the_plain_ones() {
        let mut sealed = Vec::new();
        keys(true).seal(Sealed::Blob, b"id", b"very secret plain text", &mut sealed);
        assert!(!sealed.windows(6).any(|w| w == b"secret"));
    }

    #[test]
    fn a_printed_key_shows_nothing() {
        assert_eq!(format!("{:?}", MasterKey::from_bytes([65; 32])), "MasterKey(…)");
    }
}
