//! Taking in a tree of files that stands elsewhere on this machine, past the mount: contents go straight into packs, and only then do
//! their entries come into the box. Nothing is written twice to the local disk; what was taken in is online until it is read.
//!
//! The principal type is [`Import`]. Who walks the tree is the caller; here nothing is known of the disk.

use crate::{Sync, SyncError};
use ouro_core::content::{BlobRef, Content, Locator};
use ouro_core::edit::{Birth, Cradle, EditError};
use ouro_core::id::{BlobId, FileId, PackId};
use ouro_core::name::Name;
use ouro_core::render;
use ouro_core::state::{Attributes, Kind, Place};
use ouro_local::locations::Locations;
use ouro_local::volume::VolumeError;
use ouro_repo::{Known, Open, Pipeline, PipelineOptions, Sink, SinkError, Source};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Entries made under one hold of the volume's lock.
const MADE_AT_ONCE: usize = 512;

/// Entries after which they are made a commit, so that memory is bounded however many come.
const COMMIT_ENTRIES: usize = 4_096;

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
        (self.progress)(content.as_ref().map_or(0, Content::size));
        if let Some(slot) = self.contents.get_mut(tag as usize) {
            *slot = Some(content);
        }
        Ok(())
    }
}

impl Import {
    /// An import into `sync`'s box.
    pub fn new(sync: Arc<Sync>) -> Import {
        sync.imports.fetch_add(1, Ordering::Relaxed);
        Import { sync, directories: BTreeMap::new(), linked: BTreeMap::new() }
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
    /// When this returns all bytes are durable on the remote; the entries are in the box, and travel with its next commit if they did not
    /// with one just made.
    ///
    /// # Errors
    /// What the remote, the journal or the index says. Then none, or some of the batch's first, were taken in; what was stored is known,
    /// so that taking it in again sends little.
    pub async fn take(
        &mut self,
        batch: Vec<Incoming>,
        progress: &(dyn Fn(u64) + Send + std::marker::Sync),
    ) -> Result<Vec<(Ordinal, LeftOut)>, SyncError> {
        let mut batch = batch;
        let mut contents = self.store(&mut batch, progress).await?;
        let mut left_out = Vec::new();
        let mut births = Vec::with_capacity(MADE_AT_ONCE);
        // The index in `births` of each directory among them.
        let mut born: BTreeMap<Ordinal, usize> = BTreeMap::new();
        for (index, incoming) in batch.into_iter().enumerate() {
            let content = match incoming.inflow {
                Inflow::Link(first) => {
                    self.make(&mut births, &mut born, &mut left_out).await?;
                    if let Err(error) = self.link(first, incoming.parent, incoming.name).await? {
                        left_out.push((incoming.ordinal, LeftOut::Edit(error)));
                    }
                    continue;
                }
                Inflow::Nothing => None,
                Inflow::Target(target) => Some(Content::Inline(Arc::from(target))),
                Inflow::Bytes(..) => match contents[index].take() {
                    Some(Ok(content)) => Some(content),
                    Some(Err(error)) => {
                        left_out.push((incoming.ordinal, LeftOut::Unreadable(error)));
                        continue;
                    }
                    None => return Err(SyncError::BlobLost),
                },
            };
            let cradle = match (self.directories.get(&incoming.parent), born.get(&incoming.parent)) {
                (Some(union), _) => Cradle::At(union.clone()),
                (None, Some(index)) => Cradle::Born(*index),
                (None, None) => {
                    left_out.push((incoming.ordinal, LeftOut::Edit(EditError::NotFound)));
                    continue;
                }
            };
            if incoming.kind == Kind::Directory {
                born.insert(incoming.ordinal, births.len());
            }
            let Incoming { ordinal, name, kind, attributes, owner, has_links, .. } = incoming;
            births.push(Newborn {
                ordinal,
                owner,
                has_links,
                birth: Birth { cradle, name, kind, attributes, content },
            });
            if births.len() == MADE_AT_ONCE {
                self.make(&mut births, &mut born, &mut left_out).await?;
            }
        }
        self.make(&mut births, &mut born, &mut left_out).await?;
        if self.sync.volume.counts().pending >= COMMIT_ENTRIES {
            self.sync.push().await?;
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

    /// Makes what was gathered.
    async fn make(
        &mut self,
        births: &mut Vec<Newborn>,
        born: &mut BTreeMap<Ordinal, usize>,
        left_out: &mut Vec<(Ordinal, LeftOut)>,
    ) -> Result<(), SyncError> {
        born.clear();
        if births.is_empty() {
            return Ok(());
        }
        let (all, rest): (Vec<Birth>, Vec<_>) =
            births.drain(..).map(|n| (n.birth, (n.ordinal, n.owner, n.has_links))).unzip();
        let all = Arc::new(all);
        let given = Arc::clone(&all);
        let made = self.sync.with_all(move |sync| sync.volume.edit_timeless(|edit| edit.create_many(&given))).await?;
        for ((birth, outcome), (ordinal, owner, has_links)) in all.iter().zip(&made).zip(rest) {
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

/// An entry that is about to be made.
struct Newborn {
    ordinal: Ordinal,
    owner: Option<(u32, u32)>,
    has_links: bool,
    birth: Birth,
}
