//! The chunks of contents; those of large files stand in a block list, which is a blob of its own.
//!
//! The id of a list says which chunks it names, not where these lie. If a file goes, is collected and comes back, its list has the id that it had
//! and other places in it. So a copy of a list that is kept here always tells the chunks, but perhaps places of before.

use super::{Volume, VolumeError};
use crate::error::LocalError;
use lru::LruCache;
use ouro_core::codec::decode_block_list;
use ouro_core::content::{BlobRef, Content, Locator};
use ouro_core::id::BlobId;
use parking_lot::Mutex;
use std::num::NonZeroUsize;
use std::sync::Arc;

/// Decoded lists kept in memory.
const LISTS_MAX: NonZeroUsize = NonZeroUsize::new(8).expect("not zero");

/// A list by its id and its own place.
type Key = (BlobId, Option<Locator>);

/// A decoded list.
struct Decoded {
    list: BlobRef,
    chunks: Arc<[BlobRef]>,
}

/// Decoded lists.
pub(super) struct BlockLists(Mutex<LruCache<Key, Decoded>>);

impl Default for BlockLists {
    fn default() -> Self {
        BlockLists(Mutex::new(LruCache::new(LISTS_MAX)))
    }
}

impl BlockLists {
    fn put(&self, list: BlobRef, chunks: Arc<[BlobRef]>) {
        self.0.lock().put((list.id, list.at), Decoded { list, chunks });
    }
}

fn decode(list: &BlobRef, bytes: &[u8]) -> Result<Arc<[BlobRef]>, VolumeError> {
    let chunks = decode_block_list(bytes).map_err(|_| LocalError::Damaged {
        name: format!("block list {}", list.id),
        reason: "it does not decode".to_owned(),
    })?;
    Ok(chunks.into())
}

impl Volume {
    /// The chunks of a sealed content, in order; none for an inline one.
    ///
    /// # Errors
    /// [`VolumeError::Need`] if its list is not here.
    pub fn chunks(&self, content: &Content) -> Result<Arc<[BlobRef]>, VolumeError> {
        match content {
            Content::Chunks(chunks) => Ok(Arc::clone(chunks)),
            Content::BlockList { list, .. } => self.block_list(list),
            Content::Inline(_) | Content::Pending { .. } => Ok(Arc::from([])),
        }
    }

    /// The chunks that a block list names, and where they were when it came here.
    ///
    /// # Errors
    /// [`VolumeError::Need`] if the list is not here.
    pub fn block_list(&self, list: &BlobRef) -> Result<Arc<[BlobRef]>, VolumeError> {
        if let Some(known) = self.block_lists.0.lock().get(&(list.id, list.at)) {
            return Ok(Arc::clone(&known.chunks));
        }
        let bytes = self.blobs.get(&list.id)?.ok_or_else(|| VolumeError::Need(vec![*list]))?;
        let chunks = decode(list, &bytes)?;
        self.block_lists.put(*list, Arc::clone(&chunks));
        Ok(chunks)
    }

    /// The block lists in memory that name a chunk: where it is missed, one of these said where it should be.
    pub fn lists_naming(&self, chunk: BlobId) -> Vec<BlobRef> {
        let lists = self.block_lists.0.lock();
        let decoded = lists.iter().map(|(_, decoded)| decoded);
        decoded.filter(|d| d.chunks.iter().any(|named| named.id == chunk)).map(|d| d.list).collect()
    }

    /// Takes a block list as it stands on the remote in place of what is kept of it here. Returns its chunks if any place in it is another.
    ///
    /// # Errors
    /// What the disk says; [`LocalError::Damaged`] if it does not decode.
    pub fn renew_list(&self, list: &BlobRef, bytes: &[u8]) -> Result<Option<Arc<[BlobRef]>>, VolumeError> {
        let chunks = decode(list, bytes)?;
        let known = self.block_list(list).ok();
        let is_same = |known: &[BlobRef]| known.iter().map(|chunk| chunk.at).eq(chunks.iter().map(|chunk| chunk.at));
        if known.is_some_and(|known| is_same(&known)) {
            return Ok(None);
        }
        self.blobs.remove(&list.id)?;
        self.blobs.put(list.id, bytes)?;
        self.block_lists.put(*list, Arc::clone(&chunks));
        Ok(Some(chunks))
    }
}
