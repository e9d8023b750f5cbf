//! A device: what lasts when its process ends, and the process.

use crate::contents::Truth;
use crate::ignored::Ignored;
use crate::import::Arrival;
use bytes::Bytes;
use futures::executor::block_on;
use ouro_core::id::{DeviceId, DeviceNo, FileId};
use ouro_core::retention::Retention;
use ouro_core::row::Missing;
use ouro_core::state::Place;
use ouro_local::database::DatabaseAt;
use ouro_local::disk::MemoryDisk;
use ouro_local::ledger::{Ledger, Mode};
use ouro_local::nodes::NodeStore;
use ouro_local::volume::{Volume, VolumeError, VolumeOptions, VolumePorts, VolumeStores};
use ouro_repo::{Branch, DeviceInfo, Ports, RULES, Repository};
use ouro_sync::{CollectOptions, Stage, Sync, SyncError};
use ouro_testkit::sim::{Chance, Group, Simulation};
use ouro_testkit::{FaultyStore, MemoryStore};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a device does in the background.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Work {
    Register,
    Begin,
    LearnDevices,
    Pull,
    Push,
    Checkpoint,
    FetchIndex,
    /// Takes in the [`Arrival`] that stands ready.
    Import,
    /// Waits until everything is on the remote, while the sync runs by itself.
    Synced,
    /// Looks for a collection and acknowledges it.
    Look,
    /// Carries collection on.
    Collect,
    /// Removes the device that [`Process::victim`] names.
    Remove,
}

/// What came of a work: what the sync says, and how many commits it took in or made.
pub(crate) type Outcome = Result<usize, SyncError>;

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Killed: what it gave to the system is there.
    Killed,
    /// The power went: what was not synced may be there or not.
    PowerCut,
    /// The power went: nothing that was not synced is there.
    PowerCutLosingAll,
}

/// A process.
pub(crate) struct Process {
    pub(crate) group: Group,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) volume: Arc<Volume>,
    pub(crate) sync: Arc<Sync>,
    pub(crate) busy: Arc<Mutex<BTreeMap<Work, Option<Outcome>>>>,
    /// Whether it has looked for the newest checkpoint.
    pub(crate) begun: bool,
    /// Whether the sync runs by itself.
    pub(crate) runs: bool,
    /// What the next import takes in.
    pub(crate) arrival: Arc<Mutex<Option<Arrival>>>,
    /// What the next collection keeps of the past.
    pub(crate) retention: Arc<Mutex<Retention>>,
    /// Whom it removes next.
    pub(crate) victim: Arc<Mutex<Option<DeviceId>>>,
    /// Files held open, with the place where they stood.
    pub(crate) open: Vec<(FileId, Place)>,
}

/// What of a device lasts.
pub(crate) struct Device {
    pub(crate) info: DeviceInfo,
    pub(crate) store: Arc<FaultyStore<MemoryStore>>,
    config: Bytes,
    ahead_millis: i64,
    boots: u64,
    disk: MemoryDisk,
    journal: Option<Vec<u8>>,
    nodes: Option<Vec<u8>>,
    locations: Option<Vec<u8>>,
    /// The clean cache's database.
    blobs: Option<Vec<u8>>,
    pub(crate) registered: bool,
    /// Records that its collections purged.
    pub(crate) purged: Arc<AtomicU64>,
    /// Whether it said that zeros stand for what was collected.
    said_zeros: bool,
    /// What must be here and nowhere else.
    pub(crate) ignored: Ignored,
    process: Option<Process>,
}

fn at(image: Option<Vec<u8>>) -> DatabaseAt {
    image.map_or(DatabaseAt::Memory, DatabaseAt::Image)
}

impl Device {
    pub(crate) fn new(
        no: u32,
        name: &str,
        store: FaultyStore<MemoryStore>,
        config: Bytes,
        ahead_millis: i64,
    ) -> Device {
        let info = DeviceInfo {
            id: DeviceId([no as u8; 16]),
            number: DeviceNo(no),
            name: name.to_owned(),
            created_ms: 0,
            rules: RULES,
            branch: None,
        };
        Device {
            info,
            store: Arc::new(store),
            config,
            ahead_millis,
            boots: 0,
            disk: MemoryDisk::new(),
            journal: None,
            nodes: None,
            locations: None,
            blobs: None,
            registered: false,
            purged: Arc::default(),
            said_zeros: false,
            ignored: Ignored::default(),
            process: None,
        }
    }

    /// Another device of the same repository, or the same machine as the writer of a branch.
    pub(crate) fn beside(&self, no: u32, name: &str, branch: Option<&str>, store: FaultyStore<MemoryStore>) -> Device {
        let mut device = Device::new(no, name, store, self.config.clone(), self.ahead_millis);
        let opened_by = self.info.id;
        device.info.branch = branch.map(|branch| Branch { name: branch.to_owned(), opened_by });
        device
    }

    pub(crate) fn running(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    pub(crate) fn running_mut(&mut self) -> Option<&mut Process> {
        self.process.as_mut()
    }

    /// Whether it ever said that zeros stand for what was collected under a file that was changed in part.
    pub(crate) fn said_zeros(&self) -> bool {
        self.said_zeros || self.process.as_ref().is_some_and(|process| !process.sync.status().incomplete.is_empty())
    }

    /// The process, of a device that has one.
    pub(crate) fn process(&self) -> &Process {
        self.process.as_ref().expect("the device runs")
    }

    /// Begins a process on what the last one left.
    pub(crate) fn boot(&mut self, world: &Simulation) {
        assert!(self.process.is_none(), "one process at a time");
        self.boots += 1;
        let group = world.group();
        let ports = Ports {
            clock: world.clock(self.ahead_millis),
            rng: world.rng(u64::from(self.info.number.0) * 1_000_000 + self.boots),
            runtime: world.runtime(group),
        };
        let store = Arc::clone(&self.store) as Arc<dyn ouro_remote::Store>;
        let repo = Repository::open_with_key(store, ports.clone(), self.config.clone(), None).expect("it is our own");
        repo.learn_device(self.info.number, self.info.id);
        repo.learn_line(self.info.number, repo.line_of(&self.info));
        let volume_ports = VolumePorts {
            clock: Arc::clone(&ports.clock),
            runtime: Arc::clone(&ports.runtime),
            disk: Arc::new(self.disk.clone()),
        };
        let journal = self.journal.take();
        let (ledger, volume) = loop {
            let opened = Ledger::open_in_memory(journal.clone(), Mode::Inline);
            let ledger = Arc::new(opened.expect("the journal opens"));
            match self.load(&ledger, &repo, volume_ports.clone()) {
                Ok(volume) => break (ledger, volume),
                Err(VolumeError::Missing(missing)) => self.bring(missing),
                Err(error) => panic!("{} does not open again: {error}", self.info.name),
            }
        };
        (self.nodes, self.locations, self.blobs) = (None, None, None);
        volume.learn_line(self.info.number, repo.line_of(&self.info));
        volume.name_device(self.info.number, self.info.shown());
        let sync = Sync::new(Arc::clone(&volume), repo, ports, self.info.id);
        self.process = Some(Process {
            group,
            ledger,
            volume,
            sync,
            busy: Arc::default(),
            begun: false,
            runs: false,
            arrival: Arc::default(),
            retention: Arc::default(),
            victim: Arc::default(),
            open: vec![],
        });
    }

    fn load(
        &self,
        ledger: &Arc<Ledger>,
        repo: &Repository,
        volume_ports: VolumePorts,
    ) -> Result<Arc<Volume>, VolumeError> {
        let stores = VolumeStores {
            ledger: Arc::clone(ledger),
            blobs: at(self.blobs.clone()),
            locations: at(self.locations.clone()),
            nodes: at(self.nodes.clone()),
        };
        let verifying = repo.clone();
        let hooks = (
            Arc::new(move |id: &ouro_core::id::BlobId, plain: &[u8]| verifying.verify_blob(id, plain)) as _,
            Arc::new(|_: &ouro_core::id::BlobId| false) as _,
        );
        let options = VolumeOptions { free_bytes_min: 0, ..VolumeOptions::default() };
        Volume::load_from(stores, self.info.number, repo.tree_params(), hooks, volume_ports, options)
    }

    /// Brings an index node that a start needs, as the engine does when the cache was lost. Here the network is there for that.
    fn bring(&mut self, missing: Missing) {
        let reader = Truth::new(Arc::clone(self.store.inner()), self.config.clone());
        let mut nodes = Vec::new();
        let fetched = block_on(reader.repo.fetch_nodes(&[missing], &mut |id, bytes| nodes.push((id, bytes))));
        fetched.unwrap_or_else(|error| panic!("{} misses what is nowhere: {error}", self.info.name));
        let store = NodeStore::open(at(self.nodes.take())).expect("the nodes are read");
        store.put_many(&nodes).expect("the nodes are written");
        self.nodes = Some(store.image().expect("the nodes are read"));
    }

    /// Ends the process in the middle of whatever it does.
    pub(crate) fn crash(&mut self, world: &Simulation, end: End, chance: &mut Chance) {
        self.said_zeros = self.said_zeros();
        let Some(process) = self.process.take() else { return };
        world.end(process.group);
        let ledger = &process.ledger;
        if end == End::Killed || (end == End::PowerCut && chance.percent(50)) {
            // How far the journal's writer has come is chance.
            if chance.percent(50) {
                ledger.flush(ledger.last(), false).expect("the journal is written");
            }
            self.journal = Some(ledger.image().expect("the journal is read"));
        } else {
            self.journal = ledger.durable_image().map(|image| image.to_vec());
        }
        self.nodes = Some(process.volume.nodes().store().image().expect("the nodes are read"));
        self.locations = Some(process.volume.locations().image().expect("the places are read"));
        self.blobs = Some(process.volume.blobs().image().expect("the cache is read"));
        drop(process);
        self.disk.crash(&mut || match end {
            End::Killed => true,
            End::PowerCut => chance.percent(50),
            End::PowerCutLosingAll => false,
        });
    }

    /// What lasts of the device as it is now, copied to another machine that reaches the remote through `store`: everything that was flushed. It is
    /// the `nth` machine of all.
    pub(crate) fn copy(&self, nth: usize, store: FaultyStore<MemoryStore>) -> Device {
        let (mut journal, mut nodes, mut locations, mut blobs) =
            (self.journal.clone(), self.nodes.clone(), self.locations.clone(), self.blobs.clone());
        if let Some(process) = &self.process {
            journal = Some(process.ledger.image().expect("the journal is read"));
            nodes = Some(process.volume.nodes().store().image().expect("the nodes are read"));
            locations = Some(process.volume.locations().image().expect("the places are read"));
            blobs = Some(process.volume.blobs().image().expect("the cache is read"));
        }
        Device {
            info: self.info.clone(),
            store: Arc::new(store),
            config: self.config.clone(),
            ahead_millis: self.ahead_millis,
            boots: self.boots + nth as u64 * 10_000,
            disk: self.disk.fork(),
            journal,
            nodes,
            locations,
            blobs,
            registered: self.registered,
            purged: Arc::default(),
            said_zeros: false,
            ignored: self.ignored.clone(),
            process: None,
        }
    }

    /// Sets the clock of the processes to come.
    pub(crate) fn set_ahead(&mut self, millis: i64) {
        self.ahead_millis = millis;
    }

    /// Begins a work in the background, if it is not under way; false then.
    pub(crate) fn begin(&self, world: &Simulation, work: Work) -> bool {
        let process = self.process();
        let mut busy = process.busy.lock();
        if busy.contains_key(&work) {
            return false;
        }
        busy.insert(work, None);
        drop(busy);
        let (table, doing) = (Arc::clone(&process.busy), self.doing(work));
        world.spawn(
            process.group,
            Box::pin(async move {
                let outcome = doing.await;
                table.lock().insert(work, Some(outcome));
            }),
        );
        true
    }

    /// The work as a future.
    pub(crate) fn doing(&self, work: Work) -> ouro_core::port::BoxFuture<'static, Outcome> {
        let (sync, info) = (Arc::clone(&self.process().sync), self.info.clone());
        let (arrival, victim) = (Arc::clone(&self.process().arrival), Arc::clone(&self.process().victim));
        let (retention, purged) = (*self.process().retention.lock(), Arc::clone(&self.purged));
        Box::pin(async move {
            match work {
                Work::Register => sync.repo().register_device(&info).await.map(|()| 0).map_err(Into::into),
                Work::Begin => sync.begin().await.map(|()| 0),
                Work::LearnDevices => sync.meet_devices().await.map(|()| 0),
                Work::Pull => sync.pull().await,
                Work::Push => sync.push().await.map(usize::from),
                Work::Checkpoint => sync.checkpoint().await.map(|()| 1),
                Work::FetchIndex => sync.fetch_index().await.map(|()| 0),
                Work::Import => {
                    let arrival = arrival.lock().take();
                    match arrival {
                        Some(arrival) => arrival.take_in(sync).await,
                        None => Ok(0),
                    }
                }
                Work::Synced => sync.synced().await.map(|()| 0),
                Work::Look => sync.look().await,
                Work::Collect => {
                    let options = CollectOptions { retention, ..CollectOptions::default() };
                    let report = sync.collect(&options).await?;
                    purged.fetch_add(report.purged, Ordering::Relaxed);
                    Ok(usize::from(report.stage == Stage::Ended))
                }
                Work::Remove => {
                    let victim = victim.lock().take();
                    match victim {
                        Some(victim) => sync.remove(victim).await.map(|_| 1),
                        None => Ok(0),
                    }
                }
            }
        })
    }

    /// The works that have ended since the last call.
    pub(crate) fn ended(&self) -> Vec<(Work, Outcome)> {
        let Some(process) = &self.process else { return Vec::new() };
        let mut busy = process.busy.lock();
        let done: Vec<Work> = busy.iter().filter(|(_, outcome)| outcome.is_some()).map(|(work, _)| *work).collect();
        done.into_iter().filter_map(|work| Some((work, busy.remove(&work)??))).collect()
    }
}
