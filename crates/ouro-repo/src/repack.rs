//! Copying live blobs and nodes out of objects that go, as they are stored: a seal is bound to what it is around, not to a place.

use bytes::Bytes;
use ouro_core::content::Locator;
use ouro_core::id::{BlobId, NodeId};

use crate::error::RepoError;
use crate::moved::Places;
use crate::object::ObjectKind;
use crate::pack::OpenPack;
use crate::repository::Repository;

/// Bytes read before they are written; a single larger blob excepted.
const COPIED_AT_ONCE: u64 = 8 << 20;

/// A blob or node as it is stored somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredCopy<Id> {
    /// What it is.
    pub id: Id,
    /// Length that its pack's directory says: of the plain bytes, of a block list those without locators.
    pub len: u32,
    /// Where it lies.
    pub at: Locator,
}

impl Repository {
    /// Copies blobs into new packs, in the order given, each verified before. Returns where they lie now; all of it is durable.
    ///
    /// # Errors
    ///
    /// [`RepoError::Corrupt`], [`RepoError::BlobGone`] or what the storage says: what was copied until then is garbage, nothing else.
    pub async fn repack_blobs(&self, copies: &[StoredCopy<BlobId>]) -> Result<Places, RepoError> {
        let raw: Vec<_> = copies.iter().map(|c| StoredCopy { id: c.id.0, len: c.len, at: c.at }).collect();
        let check = |repo: &Repository, id: [u8; 32], sealed: &[u8]| repo.open_blob(&BlobId(id), sealed).map(drop);
        let gone = |id: [u8; 32], name| RepoError::BlobGone { blob: BlobId(id), name };
        self.repack(&raw, ObjectKind::Pack, check, gone).await
    }

    /// Copies tree nodes into new packs, in the order given: children before parents, so that upper nodes lie together.
    ///
    /// # Errors
    ///
    /// As [`Repository::repack_blobs`].
    pub async fn repack_nodes(&self, copies: &[StoredCopy<NodeId>]) -> Result<Places, RepoError> {
        let raw: Vec<_> = copies.iter().map(|c| StoredCopy { id: c.id.0, len: c.len, at: c.at }).collect();
        let check = |repo: &Repository, id: [u8; 32], sealed: &[u8]| repo.open_node(NodeId(id), sealed).map(drop);
        let gone = |id: [u8; 32], name| RepoError::NodeGone { node: NodeId(id), name };
        self.repack(&raw, ObjectKind::Nodes, check, gone).await
    }

    async fn repack(
        &self,
        copies: &[StoredCopy<[u8; 32]>],
        kind: ObjectKind,
        check: impl Fn(&Repository, [u8; 32], &[u8]) -> Result<(), RepoError> + Clone + Send + Sync + 'static,
        gone: impl Fn([u8; 32], String) -> RepoError + Send + Sync,
    ) -> Result<Places, RepoError> {
        let mut places = Places::new();
        let mut open: Option<OpenPack> = None;
        let mut rest = copies;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |copy: &&StoredCopy<[u8; 32]>| {
                bytes += u64::from(copy.at.len);
                bytes <= COPIED_AT_ONCE
            };
            let (part, behind) = rest.split_at(rest.iter().take_while(fits).count().max(1));
            rest = behind;
            for (copy, sealed) in part.iter().zip(self.read_sealed(part, check.clone(), &gone).await?) {
                if let Some(full) = open.take_if(|pack| !pack.has_room(sealed.len())) {
                    self.publish_closed(full).await?;
                }
                let pack = open.get_or_insert_with(|| OpenPack::new(self, kind));
                places.insert(copy.id, pack.add(copy.id, copy.len, &sealed)?);
            }
        }
        if let Some(last) = open {
            self.publish_closed(last).await?;
        }
        Ok(places)
    }

    /// What is stored of these, in their order.
    async fn read_sealed(
        &self,
        part: &[StoredCopy<[u8; 32]>],
        check: impl Fn(&Repository, [u8; 32], &[u8]) -> Result<(), RepoError> + Clone + Send + Sync + 'static,
        gone: &(impl Fn([u8; 32], String) -> RepoError + Send + Sync),
    ) -> Result<Vec<Bytes>, RepoError> {
        let ids: Vec<[u8; 32]> = part.iter().map(|copy| copy.id).collect();
        let placed = part.iter().enumerate().map(|(index, copy)| (index, copy.at)).collect();
        let of = ids.clone();
        let open = move |repo: &Repository, index: usize, sealed: &[u8]| {
            check(repo, of[index], sealed)?;
            Ok(Bytes::copy_from_slice(sealed))
        };
        let mut found = vec![Bytes::new(); part.len()];
        let missing = |index: usize, name: String| gone(ids[index], name);
        self.fetch_stretches(placed, &ids, missing, open, &mut |index, bytes| found[index] = bytes).await?;
        Ok(found)
    }

    async fn publish_closed(&self, pack: OpenPack) -> Result<(), RepoError> {
        let closed = pack.close(self)?;
        Ok(self.store().publish(&self.object_name(closed.object)?, closed.bytes).await?)
    }
}
