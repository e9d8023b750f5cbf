//! Taking in a tree of files that stands elsewhere on this machine, past the mount: contents go straight into packs, and only then do
//! their entries come into the box. Nothing is written twice to the local disk; what was taken in is online until it is read.
//!
//! The principal type is [`Import`]. Who walks the tree is the caller; here nothing is known of the disk.

use crate::collection::LOOK_BEFORE_PUT_MS;
use crate::{Sync, SyncError};
use ouro_core::birth::{Birth, Born, Cradle};
use ouro_core::content::{BlobRef, Content, Locator};
use ouro_core::edit::EditError;
use ouro_core::id::{BlobId, DeviceId, FileId, PackId};
use ouro_core::name::Name;
use ouro_core::render;
use ouro_core::state::{Attributes, Kind, Place};
use ouro_local::locations::Locations;
use ouro_local::volume::VolumeError;
use ouro_repo::{Known, Open, Pipeline, PipelineOptions, Sink, SinkError, Source};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Most entries of one commit, so that memory is bounded however many come.
const COMMIT_ENTRIES: usize = 4_096;
/// A commit is made when its entries have about so many bytes in the record.
const COMMIT_BYTES: usize = 8 << 20;
/// About so many bytes name a blob and its place.
const BLOB_REF_BYTES: usize = 50;

/// Which entry of an import: given by the caller, never twice.
pub type Ordinal = u64;

/// An entry to be taken in.
pub struct Incoming {
    /// Its number.
    pub ordinal: Ordinal,
    /// The directory it goes into.
    pub parent: Ordinal,
    /// Its name there.
    pub name: Name,
    /// What it is.
    pub kind: Kind,
    /// Its attributes.
    pub attributes: Attributes,
    /// User and group, where they are to be kept on this device.
    pub owner: Option<(u32, u32)>,
    /// What is in it.
    pub inflow: Inflow,
    /// Further names of it may follow, as [`Inflow::Link`].
    pub has_links: bool,
}

/// What is in an entry to be taken in.
pub enum Inflow {
    /// Nothing: a directory, fifo, socket or device.
    Nothing,
    /// A symlink's target.
    Target(Box<[u8]>),
    /// A file's bytes, and about how many.
    Bytes(u64, Open),
    /// It is a further name of an earlier entry.
    Link(Ordinal),
}

/// Why an entry was not taken in. The others are.
#[derive(Debug)]
pub enum LeftOut {
    /// It could not be read.
    Unreadable(io::Error),
    /// Something came to stand at its name meanwhile, or its directory is gone.
    Edit(EditError),
}

/// An import under way: which directories of it are which in the box.
pub struct Import {
    sync: Arc<Sync>,
    /// Who this device was at the beginning: the ids below are its own.
    device: DeviceId,
    directories: BTreeMap<Ordinal, Vec<FileId>>,
    /// Files with several names.
    linked: BTreeMap<Ordinal, (FileId, Place)>,
}

impl Drop for Import {
    fn drop(&mut self) {
        self.sync.imports.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is stored already. Bytes that pass are not kept here: they stand on this machine anyway.
struct Stored(Arc<Locations>);

impl Known for Stored {
    fn locate(&self, blob: &BlobId) -> Option<Locator> {
        // A database that fails costs a second upload, nothing else.
        self.0.get(blob).ok().flatten()
    }
}

/// Takes what the pipeline has done, by the index of the entry in its batch.
struct Notes<'a> {
    locations: &'a Locations,
    contents: Vec<Option<io::Result<Content>>>,
    progress: &'a (dyn Fn(u64) + Send + std::marker::Sync),
}

impl Sink for Notes<'_> {
    fn packed(&mut self, _: PackId, blobs: &[BlobRef]) -> Result<(), SinkError> {
        let located: Vec<(BlobId, Locator)> = blobs.iter().filter_map(|b| Some((b.id, b.at?))).collect();
        Ok(self.locations.insert_many(&located)?)
    }

    fn stored(&mut self, tag: u64, content: io::Result<Content>) -> Result<(), SinkError> {
        if let Ok(content) = &content {
            (self.progress)(content.size());
        }
        if let Some(slot) = self.contents.get_mut(tag as usize) {
            *slot = Some(content);
        }
        Ok(())
    }
}

impl Import {
    /// An import into `sync`'s box. A commit that is still on its way, perhaps of an import that was cut off, is published first: when this
    /// returns, what it brings is there.
    ///
    /// # Errors
    /// What the remote or the disk says.
    pub async fn begin(sync: Arc<Sync>) -> Result<Import, SyncError> {
        sync.look_before_publishing().await?;
        let turn = sync.turn.lock().await;
        sync.finish_earlier().await?;
        drop(turn);
        sync.imports.fetch_add(1, Ordering::Relaxed);
        let device = sync.device();
        Ok(Import { sync, device, directories: BTreeMap::new(), linked: BTreeMap::new() })
    }

    /// A directory of the tree is this one of the box: the union of directories shown as one.
    pub fn stands(&mut self, ordinal: Ordinal, union: Vec<FileId>) {
        self.directories.insert(ordinal, union);
    }

    /// A file of the tree, of which further names may follow, is this one of the box.
    pub fn stands_as(&mut self, ordinal: Ordinal, file: FileId, place: Place) {
        self.linked.insert(ordinal, (file, place));
    }

    /// Nothing more comes for this directory.
    pub fn forget(&mut self, ordinal: Ordinal) {
        self.directories.remove(&ordinal);
    }

    /// Takes in a batch of entries; directories come before what is in them. Returns what was left out, by ordinal. `progress` hears of
    /// the size of each file that is stored.
    ///
    /// When this returns the entries are in the box and on the remote, in commits of their own; further names of files travel with the
    /// box's next commit. What was changed in the box before is committed before.
    ///
    /// # Errors
    /// [`SyncError::Renewed`] if this device has become another: begin again. What the remote, the journal or the index says. Then none, or some of the batch's first, were taken in; what was stored is known,
    /// so that taking it in again sends little.
    pub async fn take(
        &mut self,
        batch: Vec<Incoming>,
        progress: &(dyn Fn(u64) + Send + std::marker::Sync),
    ) -> Result<Vec<(Ordinal, LeftOut)>, SyncError> {
        self.sync.look_if_due(LOOK_BEFORE_PUT_MS).await?;
        let mut batch = batch;
        let mut contents = self.store(&mut batch, progress).await?;
        let mut left_out = Vec::new();
        let mut links = Vec::new();
        let mut newborns = Newborns::default();
        for (index, incoming) in batch.into_iter().enumerate() {
            let Incoming { ordinal, parent, name, kind, attributes, owner, inflow, has_links } = incoming;
            let content = match inflow {
                Inflow::Link(first) => {
                    links.push((ordinal, first, parent, name));
                    continue;
                }
                Inflow::Nothing => None,
                Inflow::Target(target) => Some(Content::Inline(Arc::from(target))),
                Inflow::Bytes(..) => match contents[index].take() {
                    Some(Ok(content)) => Some(content),
                    Some(Err(error)) => {
                        left_out.push((ordinal, LeftOut::Unreadable(error)));
                        continue;
                    }
                    None => return Err(SyncError::BlobLost),
                },
            };
            let cradle = match (self.directories.get(&parent), newborns.directories.get(&parent)) {
                (Some(union), _) => Cradle::At(union.clone()),
                (None, Some(index)) => Cradle::Born(*index),
                (None, None) => {
                    left_out.push((ordinal, LeftOut::Edit(EditError::NotFound)));
                    continue;
                }
            };
            newborns.add(Birth { cradle, name, kind, attributes, content }, Kin { ordinal, owner, has_links });
            if newborns.births.len() >= COMMIT_ENTRIES || newborns.bytes >= COMMIT_BYTES {
                self.make(std::mem::take(&mut newborns), &mut left_out).await?;
            }
        }
        self.make(newborns, &mut left_out).await?;
        for (ordinal, first, parent, name) in links {
            if let Err(error) = self.link(first, parent, name).await? {
                left_out.push((ordinal, LeftOut::Edit(error)));
            }
        }
        if self.sync.checkpoint_due() {
            self.sync.checkpoint().await?;
        }
        Ok(left_out)
    }

    /// Stores the contents of a batch, in its order.
    async fn store(
        &self,
        batch: &mut [Incoming],
        progress: &(dyn Fn(u64) + Send + std::marker::Sync),
    ) -> Result<Vec<Option<io::Result<Content>>>, SyncError> {
        let locations = self.sync.volume.locations();
        let known = Arc::new(Stored(Arc::clone(locations)));
        let pipeline = Pipeline::new(self.sync.repo.clone(), known, PipelineOptions::default());
        let contents = batch.iter().map(|_| None).collect();
        let sources: Vec<Source> = batch
            .iter_mut()
            .zip(0..)
            .filter_map(|(incoming, tag)| match &mut incoming.inflow {
                Inflow::Bytes(bytes_expected, open) => {
                    let spent: Open = Box::new(|| Err(io::Error::other("read already")));
                    Some(Source { tag, bytes_expected: *bytes_expected, open: std::mem::replace(open, spent) })
                }
                _ => None,
            })
            .collect();
        let mut notes = Notes { locations, contents, progress };
        pipeline.run(sources.into_iter(), &mut notes).await?;
        Ok(notes.contents)
    }

    /// Makes what was gathered, in a commit of its own.
    async fn make(&mut self, newborns: Newborns, left_out: &mut Vec<(Ordinal, LeftOut)>) -> Result<(), SyncError> {
        let Newborns { births, kin, .. } = newborns;
        if births.is_empty() {
            return Ok(());
        }
        let births: Arc<[Birth]> = births.into();
        let made = self.sync.commit_births(self.device, Arc::clone(&births)).await?;
        for ((birth, outcome), Kin { ordinal, owner, has_links }) in births.iter().zip(&made).zip(kin) {
            let id = match outcome {
                Ok(id) => *id,
                Err(error) => {
                    left_out.push((ordinal, LeftOut::Edit(*error)));
                    continue;
                }
            };
            if let Some((uid, gid)) = owner {
                self.sync.volume.set_owner(id, uid, gid);
            }
            if birth.kind == Kind::Directory {
                self.directories.insert(ordinal, vec![id]);
            } else if has_links {
                let parent = match &birth.cradle {
                    Cradle::At(union) => union.first().copied(),
                    Cradle::Born(index) => made.get(*index).and_then(|made| made.as_ref().ok().copied()),
                };
                if let Some(parent) = parent {
                    self.linked.insert(ordinal, (id, Place { parent, name: birth.name.clone() }));
                }
            }
        }
        Ok(())
    }

    /// Gives an earlier entry a further name.
    async fn link(&self, first: Ordinal, parent: Ordinal, name: Name) -> Result<Result<(), EditError>, SyncError> {
        let (Some((file, place)), Some(to)) = (self.linked.get(&first), self.directories.get(&parent)) else {
            return Ok(Err(EditError::NotFound));
        };
        let (file, place, to) = (*file, place.clone(), to.clone());
        let linked = self
            .sync
            .with_all(move |sync| {
                sync.volume.edit_timeless(|edit| {
                    let from = render::members(edit.rows, place.parent)?;
                    let seen = render::lookup(edit.rows, edit.devices, &from, &place.name)?;
                    let seen = seen.filter(|seen| seen.id == file).ok_or(EditError::NotFound)?;
                    edit.link(&seen, &from, &to, &name)
                })
            })
            .await;
        match linked {
            Ok(_) => Ok(Ok(())),
            Err(SyncError::Volume(VolumeError::Edit(error))) => Ok(Err(error)),
            Err(other) => Err(other),
        }
    }
}

/// Entries that are about to be made together.
#[derive(Default)]
struct Newborns {
    births: Vec<Birth>,
    kin: Vec<Kin>,
    /// The index of each directory among them.
    directories: BTreeMap<Ordinal, usize>,
    /// About so many bytes of a record.
    bytes: usize,
}

/// What is to be known of an entry once it is made.
struct Kin {
    ordinal: Ordinal,
    owner: Option<(u32, u32)>,
    has_links: bool,
}

impl Newborns {
    fn add(&mut self, birth: Birth, kin: Kin) {
        if birth.kind == Kind::Directory {
            self.directories.insert(kin.ordinal, self.births.len());
        }
        let xattrs = birth.attributes.xattrs.iter().map(|(name, value)| name.len() + value.len());
        let content = match &birth.content {
            Some(Content::Inline(bytes)) => bytes.len(),
            Some(Content::Chunks(chunks)) => chunks.len() * BLOB_REF_BYTES,
            _ => BLOB_REF_BYTES,
        };
        self.bytes += birth.name.as_bytes().len() + content + xattrs.sum::<usize>();
        self.births.push(birth);
        self.kin.push(kin);
    }
}

impl Sync {
    /// Makes entries in a commit of their own, and says for each its id or why it was not made. It is on the remote when this returns.
    async fn commit_births(
        self: &Arc<Self>,
        device: DeviceId,
        births: Arc<[Birth]>,
    ) -> Result<Vec<Result<FileId, EditError>>, SyncError> {
        let turn = self.turn.lock().await;
        self.revive_cradles(&births).await?;
        // So a name that was freed is free for others too, and a directory made before is known to them.
        self.finish_earlier().await?;
        if let Some(sealed) = self.with_all(|sync| sync.volume.seal()).await? {
            self.push_anyhow(sealed).await?;
        }
        if self.device() != device {
            return Err(SyncError::Renewed);
        }
        let Born { made, delta } = self.with_all(move |sync| sync.volume.bear(&births)).await?;
        let committed = if delta.files.is_empty() { Ok(()) } else { self.commit_outright(delta, None).await };
        drop(turn);
        if committed.is_err() {
            // It may be fixed, and has to go on its way without us.
            self.changed.notify_one();
        }
        committed.map(|()| made)
    }

    /// Directories that are shown only for what is in them become real again.
    async fn revive_cradles(self: &Arc<Self>, births: &[Birth]) -> Result<(), SyncError> {
        let unions: BTreeSet<&Vec<FileId>> = births
            .iter()
            .filter_map(|birth| match &birth.cradle {
                Cradle::At(union) => Some(union),
                Cradle::Born(_) => None,
            })
            .collect();
        for union in unions {
            let union = union.clone();
            match self.with_all(move |sync| sync.volume.edit_timeless(|edit| edit.revive(&union))).await {
                // It is gone: what should go into it is left out.
                Ok(()) | Err(SyncError::Volume(VolumeError::Edit(EditError::NotFound))) => {}
                Err(other) => return Err(other),
            }
        }
        Ok(())
    }
}
