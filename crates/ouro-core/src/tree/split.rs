//! Where nodes end: decided by keys only, so that an edit moves no boundary but its own.

use crate::id::NodeId;
use crate::row::Key;
use core::fmt;

/// What a node is meant to measure, counted as [`ROW_BYTES`] and the name per row.
pub const NODE_BYTES_TARGET: u32 = 16 * 1024;
/// No node ends before this size, but for the last of its level.
pub const NODE_BYTES_MIN: u32 = 2 * 1024;
/// Every node ends at this size.
pub const NODE_BYTES_MAX: u32 = 64 * 1024;
/// What a row counts besides its name, whatever its value: a changed value moves no boundary.
pub const ROW_BYTES: u32 = 64;

/// Scale of the Weibull distribution (shape 4) whose mean is [`NODE_BYTES_TARGET`]: target / Γ(1 + 1/4).
const SCALE: u128 = 18_076;
const SCALE_4: u128 = SCALE * SCALE * SCALE * SCALE;

/// What a repository's trees depend on besides their rows; made from its secret.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TreeParams {
    /// Key of the hash that names nodes.
    pub node_key: [u8; 32],
    /// Key of the hash that decides boundaries: hides names from who sees node sizes.
    pub salt: [u8; 32],
}

impl TreeParams {
    pub(super) fn node_id(&self, logical: &[u8]) -> NodeId {
        NodeId(*blake3::keyed_hash(&self.node_key, logical).as_bytes())
    }
}

impl fmt::Debug for TreeParams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TreeParams(secret)")
    }
}

/// What a row counts.
pub(super) fn row_size(name: &[u8]) -> u32 {
    ROW_BYTES + name.len() as u32
}

/// Watches the keys of one level go by and says after which a node ends.
///
/// The chance that a node ends grows with the fourth power of its size (Weibull, as Dolt's): sizes stay near the target, where a constant
/// chance would give many tiny nodes and some huge ones. Integers only: every machine decides alike.
#[derive(Debug)]
pub(super) struct Splitter {
    salt: [u8; 32],
    level: u8,
    size: u32,
}

impl Splitter {
    pub(super) fn new(params: &TreeParams, level: u8) -> Splitter {
        Splitter { salt: params.salt, level, size: 0 }
    }

    /// Counts a key; says whether the node ends after it.
    pub(super) fn ends_after(&mut self, key: &Key) -> bool {
        let before = self.size;
        self.size += row_size(key.name.as_bytes());
        let ends = self.size >= NODE_BYTES_MIN
            && (self.size >= NODE_BYTES_MAX || self.chance(before) > u128::from(self.draw(key)) * SCALE_4);
        if ends {
            self.size = 0;
        }
        ends
    }

    /// Forgets what it counted: the node ended for another reason.
    pub(super) fn reset(&mut self) {
        self.size = 0;
    }

    /// Chance to end between two sizes, in units of `1 / (2^32 * SCALE^4)`: the hazard of the distribution.
    fn chance(&self, before: u32) -> u128 {
        let power = |size: u32| u128::from(size) * u128::from(size) * u128::from(size) * u128::from(size);
        (power(self.size) - power(before)) << 32
    }

    fn draw(&self, key: &Key) -> u32 {
        let mut hash = blake3::Hasher::new_keyed(&self.salt);
        let mut head = [0; 25];
        head[0] = self.level;
        head[1..9].copy_from_slice(&key.directory.0.to_be_bytes());
        head[9..17].copy_from_slice(&key.file.0.to_be_bytes());
        head[17..25].copy_from_slice(&key.slot.to_be_bytes());
        hash.update(&head);
        hash.update(key.name.as_bytes());
        let [a, b, c, d, ..] = *hash.finalize().as_bytes();
        u32::from_be_bytes([a, b, c, d])
    }
}
