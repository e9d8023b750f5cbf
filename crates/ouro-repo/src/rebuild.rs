//! Writing a pack anew that was lost or damaged, from what somebody still has of it.
//!
//! Sealing the same bytes again gives the same bytes, so what a pack held can be put back exactly where it lay, and no place changes.

use bytes::Bytes;
use ouro_core::content::{Locator, ObjectId};
use ouro_core::id::{BlobId, NodeId};

use crate::crypto::Sealed;
use crate::error::RepoError;
use crate::frame::{Compressor, Effort};
use crate::object::HEADER_BYTES;
use crate::pack::{Entry, with_directory};
use crate::repository::Repository;

/// Something that lies in a pack: a blob or a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackPart {
    /// Id of the blob or node.
    pub id: [u8; 32],
    /// Length that the directory says.
    pub len: u32,
    /// Where it lies.
    pub at: Locator,
}

/// What came of rebuilding a pack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Parts that were bad and are there again.
    pub back: Vec<[u8; 32]>,
    /// Parts that nobody here has.
    pub lost: Vec<[u8; 32]>,
}

impl Repository {
    /// Writes a pack of blobs or nodes anew, so that every part of which the bytes are there or given is where it was. `plain` gives the bytes
    /// of a part that is bad on the remote: a blob's plain ones, a node's as it is encoded. `parts` are those that are needed; what else
    /// its directory names is kept where it can be. Nothing is written if nothing comes back.
    ///
    /// # Errors
    ///
    /// What the storage says; [`RepoError::Corrupt`] if the parts overlap.
    pub async fn rebuild_pack(
        &self,
        pack: ObjectId,
        parts: &[PackPart],
        plain: &(dyn Fn(&[u8; 32]) -> Option<Bytes> + Send + Sync),
    ) -> Result<Rebuilt, RepoError> {
        let name = self.object_name(pack)?;
        let mut wanted: Vec<PackPart> = parts.to_vec();
        wanted.extend(self.parts_named(pack).await);
        wanted.sort_by_key(|part| (part.at.offset, part.id));
        wanted.dedup_by_key(|part| (part.at.offset, part.id));
        let there = self.store().get(&name).await?.unwrap_or_default();
        let mut rebuilt = Rebuilt::default();
        let mut bytes = vec![0; HEADER_BYTES];
        let mut entries = Vec::new();
        for part in &wanted {
            let sealed = match self.sealed_there(pack, part, &there) {
                Some(sealed) => sealed,
                None => match plain(&part.id).and_then(|plain| self.seal_to_fit(pack, part, &plain)) {
                    Some(sealed) => {
                        rebuilt.back.push(part.id);
                        sealed
                    }
                    None => {
                        rebuilt.lost.extend(parts.iter().any(|needed| needed.id == part.id).then_some(part.id));
                        continue;
                    }
                },
            };
            let gap = (part.at.offset as usize).checked_sub(bytes.len());
            let gap = gap.ok_or_else(|| RepoError::corrupt(name.clone(), "parts of it overlap"))?;
            if gap > 0 {
                // What lay here is not known: nothing that anything needs.
                let at = Locator { object: pack, offset: bytes.len() as u32, len: gap as u32 };
                entries.push(Entry { id: [0; 32], len: 0, at });
                bytes.resize(part.at.offset as usize, 0);
            }
            entries.push(Entry { id: part.id, len: part.len, at: part.at });
            bytes.extend_from_slice(&sealed);
        }
        if !rebuilt.back.is_empty() {
            let whole = with_directory(self, pack, bytes, &entries)?;
            self.store().overwrite(&name, whole).await?;
        }
        Ok(rebuilt)
    }

    /// What the directory of a pack names, if that can be read.
    async fn parts_named(&self, pack: ObjectId) -> Vec<PackPart> {
        let entries = self.directory(pack).await.ok().flatten().unwrap_or_default();
        entries.iter().map(|e| PackPart { id: e.id, len: e.len, at: e.at }).collect()
    }

    /// A part as it is stored, if it is good.
    fn sealed_there(&self, pack: ObjectId, part: &PackPart, there: &Bytes) -> Option<Vec<u8>> {
        let start = part.at.offset as usize;
        let sealed = there.get(start..start.checked_add(part.at.len as usize)?)?;
        self.is_part(pack, part, sealed).then(|| sealed.to_vec())
    }

    fn is_part(&self, pack: ObjectId, part: &PackPart, sealed: &[u8]) -> bool {
        match pack {
            ObjectId::Nodes(_) => self.open_node(NodeId(part.id), sealed).is_ok(),
            _ => self.open_blob(&BlobId(part.id), sealed).is_ok(),
        }
    }

    /// Seals bytes so that they have the length which the part had.
    fn seal_to_fit(&self, pack: ObjectId, part: &PackPart, plain: &[u8]) -> Option<Vec<u8>> {
        let what = if matches!(pack, ObjectId::Nodes(_)) { Sealed::Node } else { Sealed::Blob };
        [Effort::Quick, Effort::Thorough].into_iter().find_map(|effort| {
            let mut sealed = Vec::new();
            self.keys().seal(what, &part.id, &Compressor::new(effort).frame(plain), &mut sealed);
            (sealed.len() == part.at.len as usize && self.is_part(pack, part, &sealed)).then_some(sealed)
        })
    }
}
