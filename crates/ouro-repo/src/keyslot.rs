//! `keys/<slot>`: the master key, wrapped by a passphrase.

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Key, Tag, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use crate::crypto::MasterKey;
use crate::error::RepoError;
use crate::object::{self, HEADER_BYTES, ObjectKind};
use crate::wire::{DecodeError, Reader, invalid, read_u32};

const ARGON2ID: u8 = 1;
const SALT_BYTES: usize = 16;
const NONCE_BYTES: usize = 24;
/// Header, configuration hash, method, costs, salt: what the wrapping covers besides the key.
const COVERED_BYTES: usize = HEADER_BYTES + 32 + 1 + 12 + SALT_BYTES;
const SLOT_BYTES: usize = COVERED_BYTES + NONCE_BYTES + 32 + 16;
/// A slot that asks for more than this is not obeyed: reading one must not take a device down.
const COST_MAX: PassphraseCost = PassphraseCost { memory_kib: 4 << 20, passes: 64, lanes: 16 };

/// What it costs to try a passphrase (Argon2id).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassphraseCost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes, computed one after the other here.
    pub lanes: u32,
}

impl Default for PassphraseCost {
    /// 64 MiB, three passes, one lane: some tenths of a second.
    fn default() -> PassphraseCost {
        PassphraseCost { memory_kib: 64 << 10, passes: 3, lanes: 1 }
    }
}

/// Wraps the master key for one passphrase. `config` are the bytes of `ourobox.json`, to which the slot is bound.
pub(crate) fn wrap(
    master: &MasterKey,
    passphrase: &str,
    cost: PassphraseCost,
    config: &[u8],
    salt: [u8; SALT_BYTES],
    nonce: [u8; NONCE_BYTES],
) -> Result<Vec<u8>, RepoError> {
    let mut slot = object::header(ObjectKind::KeySlot, SLOT_BYTES as u32, (SLOT_BYTES - HEADER_BYTES) as u32).to_vec();
    slot.extend_from_slice(blake3::hash(config).as_bytes());
    slot.push(ARGON2ID);
    for number in [cost.memory_kib, cost.passes, cost.lanes] {
        slot.extend_from_slice(&number.to_le_bytes());
    }
    slot.extend_from_slice(&salt);
    let key = stretch(passphrase, cost, &salt)
        .ok_or_else(|| RepoError::Unsupported { what: format!("a passphrase at a cost of {cost:?}") })?;
    let mut wrapped = *master.as_bytes();
    let cipher = XChaCha20Poly1305::new(&Key::from(*key));
    let tag = cipher
        .encrypt_inout_detached(&XNonce::from(nonce), &slot, wrapped.as_mut_slice().into())
        .expect("32 bytes are far below the cipher's limit");
    slot.extend_from_slice(&nonce);
    slot.extend_from_slice(&wrapped);
    slot.extend_from_slice(&tag);
    Ok(slot)
}

/// What became of a slot.
#[derive(Debug)]
pub(crate) enum Unwrapped {
    /// The master key.
    Key(MasterKey),
    /// Another passphrase's slot, or damaged: the two cannot be told apart.
    WrongPassphrase,
    /// Belongs to another configuration, left by an `init` that was interrupted; or torn.
    NotOurs,
}

/// Opens a slot with a passphrase.
pub(crate) fn unwrap(name: &str, slot: &[u8], passphrase: &str, config: &[u8]) -> Result<Unwrapped, RepoError> {
    if object::check(name, slot, ObjectKind::KeySlot)?.is_none() {
        return Ok(Unwrapped::NotOurs);
    }
    let parts = Parts::read(slot).map_err(|error| RepoError::malformed(name, error))?;
    if parts.config_hash != *blake3::hash(config).as_bytes() {
        return Ok(Unwrapped::NotOurs);
    }
    let Some(key) = stretch(passphrase, parts.cost, &parts.salt) else {
        return Err(RepoError::corrupt(name, "impossible cost"));
    };
    let mut master = Zeroizing::new(parts.wrapped);
    let opened = XChaCha20Poly1305::new(&Key::from(*key)).decrypt_inout_detached(
        &XNonce::from(parts.nonce),
        &slot[..COVERED_BYTES],
        master.as_mut_slice().into(),
        &Tag::from(parts.tag),
    );
    Ok(if opened.is_ok() { Unwrapped::Key(MasterKey::from_bytes(*master)) } else { Unwrapped::WrongPassphrase })
}

struct Parts {
    config_hash: [u8; 32],
    cost: PassphraseCost,
    salt: [u8; SALT_BYTES],
    nonce: [u8; NONCE_BYTES],
    wrapped: [u8; 32],
    tag: [u8; 16],
}

impl Parts {
    fn read(slot: &[u8]) -> Result<Parts, DecodeError> {
        let mut reader = Reader::new(slot);
        reader.raw(HEADER_BYTES)?;
        let config_hash = reader.array()?;
        if reader.u8()? != ARGON2ID {
            return Err(invalid("unknown way of wrapping"));
        }
        let cost = PassphraseCost {
            memory_kib: read_u32(&mut reader)?,
            passes: read_u32(&mut reader)?,
            lanes: read_u32(&mut reader)?,
        };
        if cost.memory_kib > COST_MAX.memory_kib || cost.passes > COST_MAX.passes || cost.lanes > COST_MAX.lanes {
            return Err(invalid("impossible cost"));
        }
        let (salt, nonce) = (reader.array()?, reader.array()?);
        let parts = Parts { config_hash, cost, salt, nonce, wrapped: reader.array()?, tag: reader.array()? };
        reader.finish()?;
        Ok(parts)
    }
}

/// `None` if Argon2 cannot work with this cost.
fn stretch(passphrase: &str, cost: PassphraseCost, salt: &[u8; SALT_BYTES]) -> Option<Zeroizing<[u8; 32]>> {
    let params = argon2::Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(32)).ok()?;
    let argon2 = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    let mut key = Zeroizing::new([0; 32]);
    argon2.hash_password_into(passphrase.as_bytes(), salt, key.as_mut_slice()).ok()?;
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: PassphraseCost = PassphraseCost { memory_kib: 8, passes: 1, lanes: 1 };

    fn slot() -> Vec<u8> {
        wrap(&MasterKey::from_bytes([3; 32]), "open sesame", CHEAP, b"config", [1; 16], [2; 24]).unwrap()
    }

    #[test]
    fn only_the_passphrase_opens_a_slot() {
        let opened = unwrap("keys/0", &slot(), "open sesame", b"config").unwrap();
        assert!(matches!(opened, Unwrapped::Key(key) if *key.as_bytes() == [3; 32]));
        assert!(matches!(unwrap("keys/0", &slot(), "open", b"config").unwrap(), Unwrapped::WrongPassphrase));
        assert!(matches!(unwrap("keys/0", &slot(), "open sesame", b"other").unwrap(), Unwrapped::NotOurs));
    }

    #[test]
    fn no_changed_byte_gives_a_key() {
        for at in 0..slot().len() {
            let mut changed = slot();
            changed[at] ^= 1;
            // A slot may ask for a large cost without our consent; the test only leaves out the bytes that would make it slow.
            if (66..72).contains(&at) {
                continue;
            }
            assert!(
                !matches!(unwrap("keys/0", &changed, "open sesame", b"config"), Ok(Unwrapped::Key(_))),
                "byte {at}"
            );
        }
    }
}
