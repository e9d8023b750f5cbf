//! The mount: what it holds, and how the answers of a box become replies.

use crate::ahead::Ahead;
use crate::cookies::Cookies;
use crate::handles::Handles;
use crate::look::{Halt, Locus, Look, Standing, search};
use crate::ports::{Fetch, FetchError, Invalidate, Processes};
use crate::realm::{BOXES_MAX, Numbering, Realm};
use crate::renumber::Moved;
use crate::snapshots::Pasts;
use crate::stop::{Errno, Reply, Stop, Wait};
use crate::table::Table;
use crate::touched::Touched;
use crate::types::{NodeNo, VfsOptions, VolumeNo};
use ouro_core::content::BlobRef;
use ouro_core::edit::{Edit, EditError, Edited};
use ouro_core::id::FileId;
use ouro_core::name::Name;
use ouro_core::port::BoxFuture;
use ouro_core::row::Missing;
use ouro_core::state::Place;
use ouro_local::volume::{Orphan, Volume, VolumeError};
use parking_lot::Mutex;
use std::sync::{Arc, OnceLock, Weak};

/// How often an operation is tried again when what it looked at has moved meanwhile.
pub(crate) const TRIES_MAX: u32 = 8;

/// A box and the name it gets when several stand under one root.
pub struct Mounted {
    /// The folder's name in the root; not used when the box is mounted alone, except to tell boxes apart.
    pub name: Name,
    /// The box.
    pub volume: Arc<Volume>,
}

/// One mount. Shared by reference; every method may be called from any thread and returns at once.
pub struct Vfs {
    pub(crate) boxes: Vec<Mounted>,
    pub(crate) fetch: Arc<dyn Fetch>,
    pub(crate) options: VfsOptions,
    pub(crate) numbering: Numbering,
    pub(crate) processes: OnceLock<Arc<dyn Processes>>,
    pub(crate) invalidate: OnceLock<Arc<dyn Invalidate>>,
    pub(crate) table: Mutex<Table>,
    pub(crate) touched: Mutex<Touched>,
    pub(crate) handles: Handles,
    pub(crate) cookies: Mutex<Cookies>,
    pub(crate) ahead: Mutex<Ahead>,
    pub(crate) pasts: Pasts,
    /// When the mount was made: the time of virtual directories.
    pub(crate) born_ns: i64,
}

impl Vfs {
    /// Makes a mount of one box, whose root is the root, or of several as folders under one root. At most 65,536.
    pub fn new(boxes: Vec<Mounted>, fetch: Arc<dyn Fetch>, options: VfsOptions) -> Arc<Vfs> {
        let boxes: Vec<Mounted> = boxes.into_iter().take(BOXES_MAX as usize).collect();
        let numbering = Numbering {
            alone: boxes.len() == 1,
            key: options.node_key,
            boxes: boxes.iter().map(|b| b.name.as_bytes().to_vec()).collect(),
            moved: Moved::default(),
        };
        let vfs = Arc::new(Vfs {
            born_ns: boxes.first().map_or(0, |b| b.volume.now_ns()),
            boxes,
            fetch,
            options,
            numbering,
            processes: OnceLock::new(),
            invalidate: OnceLock::new(),
            table: Mutex::default(),
            touched: Mutex::default(),
            handles: Handles::default(),
            cookies: Mutex::default(),
            ahead: Mutex::default(),
            pasts: Pasts::default(),
        });
        for (number, mounted) in (0..).zip(&vfs.boxes) {
            let vfs = Arc::downgrade(&vfs);
            let renumbering = Weak::clone(&vfs);
            mounted.volume.on_renumber(Box::new(move |files| {
                if let Some(vfs) = renumbering.upgrade() {
                    vfs.renumbered(number, files);
                }
            }));
            mounted.volume.on_change(Box::new(move |change| {
                if let Some(vfs) = vfs.upgrade() {
                    vfs.changed(number, change);
                }
            }));
        }
        vfs
    }

    /// Sets who tells the kernel what changed behind its back. Once; later calls change nothing.
    pub fn set_invalidate(&self, invalidate: Arc<dyn Invalidate>) {
        let _set_before = self.invalidate.set(invalidate);
    }

    /// Sets who knows processes. Once; later calls change nothing. Without it nobody has supplementary groups and nobody is an indexer.
    pub fn set_processes(&self, processes: Arc<dyn Processes>) {
        let _set_before = self.processes.set(processes);
    }

    /// How many nodes the kernel holds, for diagnostics.
    pub fn nodes_known(&self) -> usize {
        self.table.lock().len()
    }

    pub(crate) fn volume(&self, volume: u32) -> &Arc<Volume> {
        &self.boxes[volume as usize].volume
    }

    /// Which file a node is, and where it was found last.
    pub(crate) fn locus(&self, node: NodeNo) -> Result<Locus, Errno> {
        if node == NodeNo::ROOT {
            let realm = if self.numbering.alone { Realm::Live(0) } else { Realm::Top };
            return Ok(Locus { realm, file: FileId::ROOT, noted: None });
        }
        let note = self.table.lock().get(node);
        match note {
            Some(note) => {
                let realm = match Realm::of_view(note.view) {
                    Some(realm) => realm,
                    None => Realm::Past(self.pasts.get(note.view).ok_or(Errno::Stale)?),
                };
                Ok(Locus { realm, file: note.file, noted: note.place })
            }
            None if self.numbering.alone && node.0 >> 63 == 0 => {
                let file = self.numbering.moved.file(node).unwrap_or(FileId(node.0));
                Ok(Locus { realm: Realm::Live(0), file, noted: None })
            }
            None => Err(Errno::Stale),
        }
    }

    /// Counts a kernel lookup of what stands in a realm.
    pub(crate) fn count(&self, node: NodeNo, realm: &Realm, file: FileId, place: Option<&Place>) {
        if node != NodeNo::ROOT {
            self.table.lock().count(node, realm.view(), file, place);
        }
    }

    /// Takes back `count` kernel lookups of a node.
    pub fn forget(&self, node: NodeNo, count: u64) {
        self.table.lock().forget(node, count);
    }

    /// Looks at a realm's state. What is missing becomes something to wait for.
    pub(crate) fn look<R>(&self, realm: &Realm, see: impl FnOnce(&Look<'_>) -> Result<R, Halt>) -> Reply<R> {
        let (volume, result) = match realm {
            Realm::Live(volume) => {
                let view = self.volume(*volume).view();
                (*volume, see(&Look { vfs: self, realm, rows: &view, devices: &view, live: Some(&view) }))
            }
            Realm::Past(past) => {
                let snapshot = self.snapshot(past)?;
                (past.volume, see(&Look { vfs: self, realm, rows: &*snapshot, devices: &*snapshot, live: None }))
            }
            Realm::Top | Realm::Shelf(_) => return Err(Errno::Invalid.into()),
        };
        result.map_err(|halt| self.stop(volume, halt))
    }

    /// Where a node stands, by every means. `Ok(None)` if it is open and stands nowhere any more.
    pub(crate) fn find<R>(
        &self,
        locus: &Locus,
        see: impl Fn(&Look<'_>, &Standing) -> Result<R, Halt>,
    ) -> Reply<Result<R, Orphan>> {
        let direct = self.look(&locus.realm, |look| {
            let found = look.stand(locus)?;
            see(look, &found).map(|r| (r, found.place()))
        });
        match direct {
            Err(Stop::Errno(Errno::Stale)) => {}
            other => return other.map(|(r, _)| Ok(r)),
        }
        if let Realm::Live(volume) = locus.realm
            && let Some(orphan) = self.volume(volume).orphan(locus.file)
        {
            return Ok(Err(orphan));
        }
        if let Realm::Live(volume) = locus.realm
            && self.volume(volume).is_open(locus.file)
        {
            let behind = self.look(&locus.realm, |look| match look.out_of_sight(locus)? {
                Some(found) => see(look, &found).map(Some),
                None => Ok(None),
            })?;
            if let Some(result) = behind {
                return Ok(Ok(result));
            }
        }
        let (result, place) = self.look(&locus.realm, |look| {
            let found = search(look.rows, look.devices, locus.file)?.ok_or(Errno::Stale)?;
            see(look, &found).map(|r| (r, found.place()))
        })?;
        if let Some(place) = place {
            let node = self.numbering.node(&locus.realm, locus.file);
            self.table.lock().note(node, locus.file, &place);
        }
        Ok(Ok(result))
    }

    /// Changes the live state of a box in one step.
    pub(crate) fn edit<R>(&self, volume: u32, mut op: impl FnMut(Edit<'_>) -> Result<(R, Edited), Halt>) -> Reply<R> {
        let mut refused = None;
        let result = self.volume(volume).edit(|edit| {
            op(edit).map_err(|halt| match halt {
                Halt::Missing(missing) => EditError::Missing(missing),
                Halt::Edit(error) => error,
                Halt::Errno(errno) => {
                    refused = Some(errno);
                    EditError::Invalid
                }
            })
        });
        result.map_err(|error| match (refused, error) {
            (Some(errno), VolumeError::Edit(EditError::Invalid)) => Stop::Errno(errno),
            (_, error) => self.stop_of(volume, error, 0),
        })
    }

    /// Whether a realm may be changed; which box it is.
    pub(crate) fn writable(&self, realm: &Realm) -> Result<u32, Errno> {
        match realm {
            Realm::Live(volume) if !self.options.read_only => Ok(*volume),
            Realm::Live(_) | Realm::Past(_) | Realm::Shelf(_) => Err(Errno::ReadOnly),
            Realm::Top => Err(Errno::NotPermitted),
        }
    }

    fn stop(&self, volume: u32, halt: Halt) -> Stop {
        match halt {
            Halt::Errno(errno) => Stop::Errno(errno),
            Halt::Missing(missing) => self.wait_for_node(volume, missing),
            Halt::Edit(error) => Stop::Errno(errno_of_edit(&error)),
        }
    }

    fn wait_for_node(&self, volume: u32, missing: Missing) -> Stop {
        wait(self.fetch.nodes(VolumeNo(volume), missing))
    }

    pub(crate) fn wait_for_blobs(&self, volume: u32, blobs: Vec<BlobRef>, pid: u32) -> Stop {
        wait(self.fetch.blobs(VolumeNo(volume), blobs, pid))
    }

    /// What a caller hears of a box's error.
    pub(crate) fn stop_of(&self, volume: u32, error: VolumeError, pid: u32) -> Stop {
        let errno = match error {
            VolumeError::Missing(missing) => return self.wait_for_node(volume, missing),
            VolumeError::Need(blobs) => return self.wait_for_blobs(volume, blobs, pid),
            VolumeError::Edit(EditError::Missing(missing)) => return self.wait_for_node(volume, missing),
            VolumeError::Edit(error) => errno_of_edit(&error),
            VolumeError::Full => Errno::NoSpace,
            VolumeError::ReadOnly { .. } => Errno::ReadOnly,
            VolumeError::Gone => Errno::Stale,
            VolumeError::TooBig => Errno::FileTooBig,
            VolumeError::Record { .. } => Errno::Unreachable,
            VolumeError::Lost { .. } => Errno::Io,
            VolumeError::Thinned { .. } => Errno::NoEntry,
            VolumeError::Local(error) => {
                tracing::error!(%error, "the local disk or database failed");
                Errno::Io
            }
        };
        Stop::Errno(errno)
    }
}

/// What a caller hears of an operation that does not fit what stands there.
fn errno_of_edit(error: &EditError) -> Errno {
    match error {
        // Never asked with one: a missing node becomes something to wait for.
        EditError::Missing(_) => Errno::Io,
        EditError::NotFound => Errno::NoEntry,
        EditError::Exists => Errno::Exists,
        EditError::NotEmpty => Errno::NotEmpty,
        EditError::NotDirectory => Errno::NotDirectory,
        EditError::IsDirectory => Errno::IsDirectory,
        EditError::TooManyLinks => Errno::TooManyLinks,
        EditError::Loop | EditError::Invalid => Errno::Invalid,
    }
}

fn wait(brought: BoxFuture<'static, Result<(), FetchError>>) -> Stop {
    Stop::Wait(Wait(Box::pin(async move { brought.await.map_err(Errno::from) })))
}
