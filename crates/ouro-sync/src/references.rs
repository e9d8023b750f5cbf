//! Contents that a commit only refers to: before it is published, what a collection took of them is stored again.

use crate::{Sync, SyncError};
use futures::{StreamExt, TryStreamExt, stream};
use ouro_core::content::{BlobRef, ObjectId};
use ouro_core::id::FileId;
use ouro_local::volume::Sealed;
use ouro_repo::{Collection, HOPS_MAX, RepoError};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Requests in flight.
const REQUESTS_AT_ONCE: usize = 8;

/// How the remote holds a blob.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Held {
    Stays,
    /// A collection that is under way condemned the object, or may take the table that leads to it: who ends it knows no need of that.
    Goes,
    Gone,
}

impl Sync {
    /// Sees to it that a generation refers to nothing that a collection took, or is about to: what comes back from the trash may be in this device's
    /// cache only, and who was not waited for may have touched a conflict copy that others settled. Returns the generation as it is then.
    ///
    /// Costs no request where nobody ever collected, and else each list of a large file, and a byte of each object that holds something of which
    /// this device does not know that it is stored there.
    ///
    /// # Errors
    /// What the remote or the disk says.
    pub(crate) async fn hold_references(self: &Arc<Self>, sealed: Sealed) -> Result<Sealed, SyncError> {
        if self.acknowledged() == 0 && self.repo.known_collection().is_none() {
            return Ok(sealed);
        }
        for list in self.volume.sealed_lists() {
            // What is published is the list on the remote: where that says the chunks are, they must be.
            self.renew_list(list).await?;
        }
        let mut gone = BTreeSet::new();
        let references = loop {
            let known = gone.clone();
            match self.with_all(move |sync| sync.volume.sealed_references(&known)).await {
                Err(SyncError::Repo(RepoError::BlobGone { blob, .. })) if gone.insert(blob) => {}
                references => break references?,
            }
        };
        if references.is_empty() {
            return Ok(sealed);
        }
        if self.repo.known_collection().is_none() {
            // It has not looked since it was started.
            let listed = self.repo.collections().await?.into_values().next_back();
            listed.into_iter().for_each(|newest| self.repo.know_collection(newest));
        }
        let Some(newest) = self.repo.known_collection() else { return Ok(sealed) };
        let anew = self.not_held(&references, &newest).await?;
        if anew.is_empty() {
            return Ok(sealed);
        }
        tracing::info!(files = anew.len(), "contents that a collection took are stored again");
        self.with_all(move |sync| sync.volume.store_anew(&anew)).await?;
        self.volume.sealed().ok_or(SyncError::Stopped)
    }

    /// The files of which something does not stay on the remote. Only those of which that can be had, unless this device was not waited for: else
    /// the storage is damaged, and what is missing may come back.
    async fn not_held(
        self: &Arc<Self>,
        references: &[(FileId, Vec<BlobRef>)],
        newest: &Collection,
    ) -> Result<BTreeSet<FileId>, SyncError> {
        let blobs: Vec<BlobRef> = references.iter().flat_map(|(_, blobs)| blobs).copied().collect();
        self.meet_owners(&blobs).await?;
        let went = |object: &ObjectId| newest.condemns(*object) && newest.ends.is_some();
        let objects = blobs.iter().filter_map(|blob| Some(blob.at?.object)).filter(|object| !went(object));
        let objects: BTreeSet<ObjectId> = objects.collect();
        let mut there: BTreeMap<ObjectId, bool> = stream::iter(objects)
            .map(|object| async move { Ok::<_, SyncError>((object, self.is_there(object).await?)) })
            .buffer_unordered(REQUESTS_AT_ONCE)
            .try_collect()
            .await?;
        let (mut files, mut may_miss) = (BTreeSet::new(), None);
        for (file, blobs) in references {
            let (mut stay, mut here) = (true, true);
            for blob in blobs {
                let held = self.held(blob, newest, &mut there).await?;
                stay = stay && held == Held::Stays;
                here = here && (held != Held::Gone || self.volume.blobs().contains(&blob.id)?);
            }
            if stay {
                continue;
            }
            if !here && may_miss.is_none() {
                may_miss = Some(self.may_miss_bytes().await?);
            }
            if here || may_miss == Some(true) {
                files.insert(*file);
            }
        }
        Ok(files)
    }

    /// Looks for a blob where its place says, and where collections moved it.
    async fn held(
        &self,
        blob: &BlobRef,
        newest: &Collection,
        there: &mut BTreeMap<ObjectId, bool>,
    ) -> Result<Held, SyncError> {
        let Some(mut at) = blob.at else { return Ok(Held::Gone) };
        let mut by_table = false;
        for _ in 0..HOPS_MAX {
            let (object, condemned) = (at.object, newest.condemns(at.object));
            if !(condemned && newest.ends.is_some()) {
                let is_there = match there.entry(object) {
                    Entry::Occupied(known) => *known.get(),
                    Entry::Vacant(unknown) => *unknown.insert(self.is_there(object).await?),
                };
                if is_there {
                    let goes = condemned || (by_table && newest.ends.is_none());
                    return Ok(if goes { Held::Goes } else { Held::Stays });
                }
            }
            match self.repo.follow_in(newest, &blob.id.0, object).await? {
                Some(now) => (at, by_table) = (now, true),
                None => return Ok(Held::Gone),
            }
        }
        Ok(Held::Gone)
    }

    async fn is_there(&self, object: ObjectId) -> Result<bool, SyncError> {
        let name = self.repo.object_name(object)?;
        Ok(self.repo.store().get_range(&name, 0, 1).await.map_err(RepoError::from)?.is_some())
    }
}
