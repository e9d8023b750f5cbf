//! What is certainly not in a large set, told without looking into it: a Bloom filter (Bloom 1970) over ids that are hashes already.

use ouro_core::id::BlobId;

/// Bits for each id: with [`PROBES`] of them set, one id in 150 that is not in the set is not told (0.65 %).
const BITS_PER_ID: u64 = 12;
/// Bits set for each id.
const PROBES: usize = 4;
/// Ids for which there is room at least.
const IDS_MIN: u64 = 1 << 16;

/// A filter over ids that were added; none is ever taken out.
pub(crate) struct Filter {
    words: Vec<u64>,
    room: u64,
}

impl Filter {
    /// An empty filter with room for twice `count` ids, at least 65,536: three bytes for each of `count`.
    pub(crate) fn new(count: u64) -> Filter {
        let room = count.saturating_mul(2).max(IDS_MIN);
        let words = (room * BITS_PER_ID).div_ceil(64) as usize;
        Filter { words: vec![0; words], room }
    }

    /// Notes an id. False when there is no room for more: then make a larger filter.
    pub(crate) fn add(&mut self, id: &BlobId) -> bool {
        for (word, bit) in places(id, self.words.len()) {
            self.words[word] |= bit;
        }
        self.room = self.room.saturating_sub(1);
        self.room > 0
    }

    /// False: it was never added. True: probably it was.
    pub(crate) fn may_hold(&self, id: &BlobId) -> bool {
        places(id, self.words.len()).all(|(word, bit)| self.words[word] & bit != 0)
    }
}

fn places(id: &BlobId, words: usize) -> impl Iterator<Item = (usize, u64)> {
    let bits = words as u64 * 64;
    id.0.as_chunks::<8>().0.iter().take(PROBES).map(move |part| {
        let place = u64::from_le_bytes(*part) % bits;
        ((place / 64) as usize, 1 << (place % 64))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> BlobId {
        let mut bytes = [0; 32];
        for (part, salt) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(1..) {
            // Steele, Lea, Flood 2014: splitmix64.
            let mut mixed = (number * 4 + salt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            *part = (mixed ^ (mixed >> 31)).to_le_bytes();
        }
        BlobId(bytes)
    }

    #[test]
    fn what_was_added_is_never_denied_and_what_was_not_nearly_always() {
        let mut filter = Filter::new(IDS_MIN / 2);
        for number in 0..IDS_MIN - 1 {
            assert!(filter.add(&id(number)), "there is room for {number}");
        }
        assert!(!filter.add(&id(IDS_MIN)), "and no more");
        assert!((0..IDS_MIN - 1).all(|number| filter.may_hold(&id(number))));
        let wrong = (1_000_000..1_100_000).filter(|number| filter.may_hold(&id(*number))).count();
        assert!((200..1_500).contains(&wrong), "{wrong} of 100,000");
    }
}
