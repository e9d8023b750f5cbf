//! A history: devices that work, fail and go on, and what must be true in the end.

use crate::contents::{Contents, Truth};
use crate::device::{Device, End, Outcome, Work};
use crate::ignored::{Ignored, is_ignored};
use crate::manner::{Manner, Shape};
use crate::operate::{self, Operation};
use crate::trash::{is_in_trash, take_out};
use crate::tree::{self, Spot};
use futures::executor::block_on;
use ouro_core::id::FileId;
use ouro_core::state::Place;
use ouro_local::ledger::Ledger;
use ouro_local::volume::{Volume, VolumeError};
use ouro_remote::RemoteError;
use ouro_repo::{InitOptions, RepoError, Repository, Secret};
use ouro_sync::SyncError;
use ouro_testkit::sim::{Chance, Simulation};
use ouro_testkit::{Delay, Faults, FaultyStore, MemoryStore};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Rounds after which all must have everything.
const ROUNDS_MAX: usize = 40;
/// Steps after which everything under way must have ended.
const STEPS_MAX: u64 = 1_000_000;
/// Lines of the story printed with a failure.
const LINES_MAX: usize = 10_000;

/// What was done, to be printed if it ends badly.
pub(crate) struct Story {
    pub(crate) seed: u64,
    shape: Shape,
    lines: Vec<String>,
}

impl Drop for Story {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let from = self.lines.len().saturating_sub(LINES_MAX);
            for line in &self.lines[from..] {
                println!("{line}");
            }
            println!(
                "run it again: OUROBOX_SEED={} OUROBOX_SHAPE={:?} cargo test -p ouro-sync --test simulator",
                self.seed, self.shape
            );
        }
    }
}

pub(crate) struct History {
    pub(crate) world: Simulation,
    pub(crate) chance: Chance,
    pub(crate) manner: Manner,
    pub(crate) remote: Arc<MemoryStore>,
    pub(crate) truth: Truth,
    pub(crate) devices: Vec<Device>,
    pub(crate) contents: Contents,
    pub(crate) written: u64,
    gone_away: bool,
    /// How often days have passed.
    pub(crate) rests: u32,
    /// Collections that ended.
    collected: u64,
    pub(crate) crashed: bool,
    /// By device: operations left to do.
    pub(crate) left: Vec<usize>,
    /// By device: what a crash may still take.
    pub(crate) fresh: Vec<Fresh>,
    /// By device: contents that a push under way will make safe.
    pub(crate) pushing: Vec<Vec<Vec<u8>>>,
    /// By device: contents of an import under way.
    pub(crate) importing: Vec<Vec<Vec<u8>>>,
    pub(crate) story: Story,
}

/// What was done on a device and may be undone by a crash.
#[derive(Clone, Default)]
pub(crate) struct Fresh {
    /// Contents that were written.
    pub(crate) written: Vec<Vec<u8>>,
    /// Contents that were replaced or deleted, and whether no other name showed them.
    pub(crate) touched: Vec<(Vec<u8>, bool)>,
}

/// A history that ended well.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Passed {
    /// What happened, as a number.
    pub(crate) trace: u64,
    /// How many collections ended while everybody worked.
    pub(crate) collected: u64,
    /// Hidden records that collections purged meanwhile, and until the end.
    pub(crate) purged: [u64; 2],
}

/// All that is seen on a device: paths, and bytes of files.
pub(crate) type Seen = BTreeMap<String, Option<Vec<u8>>>;

/// The remote as a machine reaches it: slowly, and in its own weather.
pub(crate) fn way_to(
    world: &Simulation,
    remote: &Arc<MemoryStore>,
    seed: u64,
    no: u32,
    weather: Faults,
) -> FaultyStore<MemoryStore> {
    let (sleeper, rng) = (world.runtime(world.group()), world.rng(u64::from(no)));
    let delay: Delay = Arc::new(move |_, _| sleeper.sleep(rng.next_u64() % 150));
    FaultyStore::sharing(Arc::clone(remote), seed ^ u64::from(no), weather).with_delay(delay)
}

impl History {
    /// Runs the history of a seed to its end and checks it.
    pub(crate) fn run(seed: u64, shape: Shape) -> Passed {
        let mut history = History::new(seed, Manner::of(seed, shape));
        if history.manner.relay {
            history.relay();
        } else {
            while history.left.iter().any(|left| *left > 0) {
                history.step();
            }
        }
        let (collected, meanwhile) = (history.collected, history.purged());
        history.meet();
        history.check();
        Passed { trace: history.world.trace(), collected, purged: [meanwhile, history.purged()] }
    }

    fn purged(&self) -> u64 {
        self.devices.iter().map(|device| device.purged.load(Ordering::Relaxed)).sum()
    }

    /// Devices in good weather, running and joined, that do what a test says.
    pub(crate) fn calm(devices: usize) -> History {
        let mut history = History::new(1, Manner::calm(devices));
        for at in 0..devices {
            history.boot(at);
            history.finish(at, Work::Register);
        }
        for at in 0..devices {
            history.finish(at, Work::Begin);
        }
        history
    }

    fn new(seed: u64, manner: Manner) -> History {
        let world = Simulation::new(seed);
        let mut chance = Chance::new(seed ^ 0x5eed);
        let remote = Arc::new(MemoryStore::new());
        let options = InitOptions { chunker: manner.chunker(), ..InitOptions::default() };
        let made = Repository::init(Arc::clone(&remote) as _, Truth::ports(), &Secret::None, options);
        let config = block_on(made).expect("an empty place").config_bytes().clone();
        let truth = Truth::new(Arc::clone(&remote), config.clone());
        let mut devices = Vec::new();
        for no in 1..=manner.devices as u32 {
            let store = way_to(&world, &remote, seed, no, manner.weather());
            let ahead = if manner.skew { [0, 90_000, -40_000, 600_000][chance.below(4)] } else { 0 };
            let name = ["Ada", "Bob", "Cleo", "Dan", "Fay"][no as usize - 1];
            let mut device = Device::new(no, name, store, config.clone(), ahead);
            device.info.created_ms = (world.clock(0).wall_ns() / 1_000_000).max(0).cast_unsigned();
            devices.push(device);
            truth.repo.learn_device(ouro_core::id::DeviceNo(no), devices[no as usize - 1].info.id);
        }
        let count = devices.len();
        let story = Story { seed, shape: manner.shape, lines: vec![format!("seed {seed}: {manner:?}")] };
        History {
            world,
            chance,
            manner,
            remote,
            truth,
            devices,
            contents: Contents::default(),
            written: 0,
            gone_away: false,
            rests: 0,
            collected: 0,
            crashed: false,
            left: vec![manner.operations; count],
            fresh: vec![Fresh::default(); count],
            pushing: vec![Vec::new(); count],
            importing: vec![Vec::new(); count],
            story,
        }
    }

    pub(crate) fn tell(&mut self, at: usize, what: impl AsRef<str>) {
        let line = format!("{:5} {}: {}", self.story.lines.len(), self.devices[at].info.name, what.as_ref());
        let hash = line.bytes().fold(0, |hash: u64, byte| hash.rotate_left(5) ^ u64::from(byte));
        self.world.note(hash);
        self.story.lines.push(line);
    }

    fn step(&mut self) {
        let at = self.chance.below(self.devices.len());
        self.leave_and_come_back();
        if self.devices[at].running().is_none() {
            if self.chance.percent(50) {
                self.tell(at, "boots");
                self.boot(at);
            }
        } else {
            match self.chance.below(100) {
                0..45 => self.operate(at),
                45..82 => self.begin(at),
                82..88 => self.flush(at),
                88..90 if self.manner.crashes => self.crash(at),
                90..91 if self.manner.crashes => self.crash_after_flush(at),
                93..97 if self.manner.faults => self.weather(at),
                91 if self.manner.collects => self.days_pass(),
                97..100 if self.manner.collects => self.collect(),
                90..93 | 95..97 if self.manner.shape == Shape::Collecting => self.collect(),
                92 if self.manner.copies => self.is_copied(at),
                _ => self.world.pass([0, 1, 100, 5_000, 60_000][self.chance.below(5)]),
            }
        }
        self.go_on();
        self.audit_one();
    }

    /// Whatever is under way goes on for a while.
    pub(crate) fn go_on(&mut self) {
        for _ in 0..[0, 0, 5, 20, 60, 200][self.chance.below(6)] {
            if !self.world.step() {
                break;
            }
        }
        self.date();
        self.hear();
    }

    /// The network goes or comes, the storage fills up or gets space.
    fn weather(&mut self, at: usize) {
        // A collection waits for who is offline.
        let on = self.chance.percent(if self.manner.collects { 15 } else { 40 });
        let device = &self.devices[at];
        if self.chance.percent(20) {
            device.store.set_full(on);
            self.tell(at, if on { "finds the storage full" } else { "finds space on the storage" });
        } else if !self.is_away(at) {
            device.store.set_unreachable(on);
            self.tell(at, if on { "goes offline" } else { "goes online" });
        }
    }

    fn is_away(&self, at: usize) -> bool {
        let last = self.devices.len() - 1;
        let (left, all) = (self.left[last], self.manner.operations);
        self.manner.away && at == last && left * 10 < all * 9 && left * 10 > all
    }

    fn leave_and_come_back(&mut self) {
        let last = self.devices.len() - 1;
        let away = self.is_away(last);
        if self.manner.away && away != self.gone_away {
            self.gone_away = away;
            self.devices[last].store.set_unreachable(away);
            self.tell(last, if away { "is away for long" } else { "is back" });
        }
    }

    /// The live rows are at every moment what a restart would make of them, and the digest is theirs.
    pub(crate) fn audit(&mut self) {
        for at in 0..self.devices.len() {
            self.audit_at(at);
        }
    }

    /// One device at a time, and short histories after every step: what is wrong stays wrong until a restart.
    fn audit_one(&mut self) {
        match self.manner.shape {
            Shape::Short => self.audit(),
            Shape::Whole | Shape::Collecting if self.chance.percent(25) => {
                let at = self.chance.below(self.devices.len());
                self.audit_at(at);
            }
            Shape::Whole | Shape::Collecting => {}
        }
    }

    fn audit_at(&mut self, at: usize) {
        let name = &self.devices[at].info.name;
        if let Some(process) = self.devices[at].running() {
            match process.volume.audit() {
                // It would have to be fetched first.
                Err(VolumeError::Missing(_)) => {}
                Err(error) => panic!("{name} cannot be audited: {error}"),
                Ok(audit) => {
                    assert!(audit.wrong.is_empty(), "rows of {name} are not what they should be: {:#?}", audit.wrong);
                    assert_eq!(audit.digest, process.volume.digest(), "the digest of {name} is that of its rows");
                }
            }
        }
    }

    pub(crate) fn boot(&mut self, at: usize) {
        self.devices[at].boot(&self.world);
        if self.manner.runs && self.devices[at].registered {
            self.run_by_itself(at);
        }
    }

    fn run_by_itself(&mut self, at: usize) {
        if let Some(process) = self.devices[at].running_mut() {
            process.runs = true;
            process.sync.run();
        }
    }

    pub(crate) fn operate(&mut self, at: usize) {
        if self.left[at] == 0 {
            return;
        }
        let process = self.devices[at].process();
        let (volume, ledger) = (Arc::clone(&process.volume), Arc::clone(&process.ledger));
        let mut open = self.devices[at].running_mut().map(|p| std::mem::take(&mut p.open)).unwrap_or_default();
        let mut ignored = std::mem::take(&mut self.devices[at].ignored);
        self.try_to_operate(at, (&volume, &ledger), &mut open, &mut ignored);
        self.devices[at].ignored = ignored;
        if let Some(process) = self.devices[at].running_mut() {
            process.open = open;
        }
    }

    fn try_to_operate(
        &mut self,
        at: usize,
        (volume, ledger): (&Volume, &Ledger),
        open: &mut Vec<(FileId, Place)>,
        ignored: &mut Ignored,
    ) {
        for _ in 0..20 {
            let mut touched = Vec::new();
            let outcome = match tree::spots(volume) {
                Err(missing) => Err(missing.into()),
                Ok(mut spots) => Operation {
                    chance: &mut self.chance,
                    volume,
                    ledger,
                    truth: &self.truth,
                    contents: &mut self.contents,
                    written: &mut self.written,
                    fresh: &mut self.fresh[at].written,
                    touched: &mut touched,
                    open,
                    trash: take_out(&mut spots),
                    spots,
                    manner: &self.manner,
                    ignored,
                }
                .any(),
            };
            match outcome {
                Ok(what) => {
                    self.fresh[at].touched.extend(touched);
                    if !what.is_empty() {
                        self.left[at] -= 1;
                        self.tell(at, what);
                    }
                    return;
                }
                Err(VolumeError::Missing(missing)) => {
                    let process = self.devices[at].process();
                    let (sync, group) = (Arc::clone(&process.sync), process.group);
                    let brought = self.world.finish(group, async move { sync.fetch_node(missing).await });
                    if let Err(error) = brought {
                        self.judge(at, "fetching a node", &error);
                        // It comes back when it has done most of what it has to do: what it cannot even look at must not hold that up for ever.
                        if self.is_away(at) {
                            self.left[at] -= 1;
                        }
                        return;
                    }
                }
                Err(error) if operate::is_refusal(&error) => {
                    self.left[at] -= 1;
                    self.tell(at, format!("refused: {error}"));
                    return;
                }
                Err(error) => panic!("{}: an operation fails: {error}", self.devices[at].info.name),
            }
        }
    }

    fn begin(&mut self, at: usize) {
        let device = &self.devices[at];
        let begun = device.process().begun;
        let work = match self.chance.below(100) {
            _ if !device.registered => Work::Register,
            0..4 if begun => Work::Import,
            4..8 if begun && self.manner.collects => [Work::Look, Work::Look, Work::Collect][self.chance.below(3)],
            8..9 if begun && self.manner.removes => Work::Remove,
            _ if device.process().runs => Work::Synced,
            0..45 => Work::Push,
            45..52 => Work::Checkpoint,
            _ if !begun => Work::Begin,
            52..60 => Work::LearnDevices,
            60..64 => Work::FetchIndex,
            _ => Work::Pull,
        };
        self.start(at, work);
    }

    /// Begins a work.
    pub(crate) fn start(&mut self, at: usize, work: Work) {
        let idle = self.devices[at].process().volume.sealed().is_none();
        if work == Work::Import && !self.is_importing(at) {
            self.arrive(at);
        }
        match work {
            Work::Collect => self.choose_retention(at),
            Work::Remove => self.choose_victim(at),
            _ => {}
        }
        let device = &self.devices[at];
        if device.begin(&self.world, work) {
            if work == Work::Synced {
                self.pushing[at] = self.fresh[at].written.clone();
            }
            if work == Work::Push {
                // What is sealed already does not hold what was written since.
                self.pushing[at] = if idle { self.fresh[at].written.clone() } else { Vec::new() };
            }
            self.tell(at, format!("begins {work:?}"));
        }
    }

    fn flush(&mut self, at: usize) {
        let process = self.devices[at].process();
        if self.chance.percent(50) {
            process.volume.flush(true).expect("the journal is written");
            self.is_safe(at);
            self.tell(at, "flushes");
        } else {
            if self.chance.percent(50) {
                process.volume.tick().expect("the journal is written");
            }
            process.ledger.flush(process.ledger.last(), false).expect("the journal is written");
        }
    }

    /// What was done on a device so far stays.
    pub(crate) fn is_safe(&mut self, at: usize) {
        let fresh = std::mem::take(&mut self.fresh[at]);
        self.devices[at].ignored.keep();
        self.contents.keep(fresh.written);
        self.contents.supersede(fresh.touched.into_iter().filter_map(|(content, last)| last.then_some(content)));
    }

    pub(crate) fn crash(&mut self, at: usize) {
        let end = if self.chance.percent(50) { End::Killed } else { End::PowerCut };
        self.tell(at, format!("ends: {end:?}"));
        self.crashed = true;
        self.devices[at].crash(&self.world, end, &mut self.chance);
        self.devices[at].ignored.crash();
        let fresh = std::mem::take(&mut self.fresh[at]);
        self.contents.excuse(fresh.touched.into_iter().map(|(content, _)| content));
        self.pushing[at].clear();
        self.importing[at].clear();
    }

    /// What was flushed is all there after a power cut, to the byte.
    fn crash_after_flush(&mut self, at: usize) {
        self.devices[at].process().volume.flush(true).expect("the journal is written");
        self.is_safe(at);
        let Some(before) = self.seen_offline(at) else { return };
        let process = self.devices[at].process();
        let (heads, digest) = (process.volume.heads(), process.volume.digest());
        self.tell(at, "flushes, loses power, boots");
        self.crashed = true;
        self.pushing[at].clear();
        self.importing[at].clear();
        self.devices[at].crash(&self.world, End::PowerCut, &mut self.chance);
        self.boot(at);
        let after = self.seen_offline(at).expect("the nodes are still here");
        self.same(&before, &after, "what was flushed is there after a power cut");
        let process = self.devices[at].process();
        assert_eq!((process.volume.heads(), process.volume.digest()), (heads, digest), "and so is what was learnt");
    }

    /// What is seen on a device, if that takes no node from elsewhere.
    pub(crate) fn seen_offline(&self, at: usize) -> Option<Seen> {
        self.seen_by(at, |truth, volume, _, spot| truth.bytes_at(volume, spot))
    }

    fn seen_by(&self, at: usize, bytes: impl Fn(&Truth, &Volume, &str, &Spot) -> Vec<u8>) -> Option<Seen> {
        let volume = &self.devices[at].process().volume;
        let spots = tree::spots(volume).ok()?;
        let bytes = |path: &str, spot: &Spot| (!spot.is_directory()).then(|| bytes(&self.truth, volume, path, spot));
        Some(spots.iter().map(|(path, spot)| (path.clone(), bytes(path, spot))).collect())
    }

    /// Takes in what works have come to.
    pub(crate) fn hear(&mut self) {
        for at in 0..self.devices.len() {
            for (work, outcome) in self.devices[at].ended() {
                self.take(at, work, outcome);
            }
        }
    }

    pub(crate) fn take(&mut self, at: usize, work: Work, outcome: Outcome) {
        match outcome {
            Ok(count) => {
                self.tell(at, format!("has done {work:?}: {count}"));
                match work {
                    Work::Register => {
                        self.devices[at].registered = true;
                        if self.manner.runs {
                            self.run_by_itself(at);
                        }
                    }
                    Work::Begin => {
                        if let Some(process) = self.devices[at].running_mut() {
                            process.begun = true;
                        }
                    }
                    Work::Push | Work::Synced => {
                        let safe = std::mem::take(&mut self.pushing[at]);
                        self.fresh[at].written.retain(|content| !safe.contains(content));
                        self.contents.keep(safe);
                    }
                    Work::Import => self.arrived(at, count),
                    Work::Collect => self.collected += count as u64,
                    _ => {}
                }
            }
            Err(error) => self.judge(at, &format!("{work:?}"), &error),
        }
    }

    /// Only what waiting helps against may go wrong.
    pub(crate) fn judge(&mut self, at: usize, what: &str, error: &SyncError) {
        self.tell(at, format!("{what} fails: {error}"));
        // A copy may go on as another device at any moment; what it was about is done when it is asked again.
        let is_renewed = matches!(error, SyncError::Renewed) && self.manner.copies;
        if matches!(error, SyncError::CollectionBusy) || is_renewed {
            return;
        }
        // Somebody has to make space; here that comes by itself.
        let is_full = matches!(error, SyncError::Repo(RepoError::Remote { source: RemoteError::Full { .. } }));
        assert!(
            (error.is_retryable() || is_full || self.is_hidden(error)) && (self.manner.faults || self.manner.away),
            "{what} fails for good: {error:?}"
        );
    }

    /// Storms end, everybody comes back, and all exchange what they have until nothing is left.
    fn meet(&mut self) {
        for at in 0..self.devices.len() {
            self.devices[at].store.set_faults(Faults::none());
            self.devices[at].store.set_unreachable(false);
            self.devices[at].store.set_full(false);
            if self.devices[at].running().is_none() {
                self.devices[at].boot(&self.world);
            }
            // What is in the trash and open is where it was for others.
            let process = self.devices[at].running_mut().expect("it was started");
            for (id, _) in process.open.drain(..).filter(|_| self.manner.throws) {
                process.volume.close(id).expect("it is open");
            }
        }
        self.tell(0, "all meet");
        self.stop_running();
        for step in 0.. {
            assert!(step < STEPS_MAX, "works go on for ever");
            if !self.world.step() {
                break;
            }
        }
        self.hear();
        self.manner.faults = false;
        for round in 0.. {
            assert!(round < ROUNDS_MAX, "they never come to rest");
            let mut moved = 0;
            for at in 0..self.devices.len() {
                if round == 0 {
                    self.finish(at, Work::Register);
                }
                // Who has nothing to say hears of a copy at a start, or within a day.
                if round == 0 || self.manner.copies {
                    self.finish(at, Work::Begin);
                }
                self.finish(at, Work::LearnDevices);
                let before = self.devices[at].process().volume.heads();
                if self.manner.collects {
                    self.finish(at, Work::Look);
                }
                moved += self.finish(at, Work::Push);
                moved += self.finish(at, Work::Pull);
                // An announcement that was fixed before is published without a count.
                moved += usize::from(self.devices[at].process().volume.heads() != before);
            }
            self.audit();
            // What the last one says of removals is heard in the second round.
            if moved == 0 && (round > 0 || !self.manner.removes) {
                self.teach_truth();
                return;
            }
        }
    }

    /// Syncs that run by themselves have some time to come to rest, then they are stopped.
    fn stop_running(&mut self) {
        for _ in 0..20_000 {
            self.world.step();
        }
        self.hear();
        self.manner.runs = false;
        for device in &mut self.devices {
            if let Some(process) = device.running_mut().filter(|process| process.runs) {
                let status = process.sync.status();
                assert!(!status.needs_user, "nobody can help: {status:?}");
                process.sync.stop();
            }
        }
    }

    /// Does a work to its end; it must succeed.
    pub(crate) fn finish(&mut self, at: usize, work: Work) -> usize {
        let (doing, group) = (self.devices[at].doing(work), self.devices[at].process().group);
        let outcome = self.world.finish(group, doing);
        let count = match outcome {
            Ok(count) => count,
            Err(error) => panic!("{}: {work:?} fails without a fault: {error:?}", self.devices[at].info.name),
        };
        self.take(at, work, Ok(count));
        count
    }

    /// What is seen on a device and is for others too.
    pub(crate) fn seen(&mut self, at: usize) -> Seen {
        self.with_all(at, |volume| Ok(tree::spots(volume)?));
        let seen = self.seen_by(at, |truth, volume, path, spot| match is_ignored(spot) || is_in_trash(path) {
            true => truth.bytes_at(volume, spot),
            false => truth.bytes_for_all(volume, spot),
        });
        self.shared(at, seen.expect("all nodes are here"))
    }

    /// Asks a device something for which index nodes or records may have to be fetched.
    pub(crate) fn with_all<T>(&self, at: usize, ask: impl Fn(&Arc<Volume>) -> Result<T, VolumeError>) -> T {
        let volume = self.volume(at);
        loop {
            let sync = Arc::clone(&self.devices[at].process().sync);
            let brought = match ask(&volume) {
                Ok(answer) => return answer,
                Err(VolumeError::Missing(missing)) => self.bring(at, async move { sync.fetch_node(missing).await }),
                Err(VolumeError::Record { device, seq }) => {
                    self.bring(at, async move { sync.fetch_records(device, seq).await })
                }
                Err(VolumeError::Need(blobs)) => self.bring(at, async move { sync.fetch_blobs(blobs).await }),
                Err(error) => panic!("{} cannot say: {error:?}", self.devices[at].info.name),
            };
            brought.unwrap_or_else(|error| panic!("what is asked for cannot be fetched: {error:?}"));
        }
    }

    pub(crate) fn device(&self, at: usize) -> &Device {
        &self.devices[at]
    }

    pub(crate) fn volume(&self, at: usize) -> Arc<Volume> {
        Arc::clone(&self.devices[at].process().volume)
    }

    /// Another device comes in.
    pub(crate) fn add(&mut self, device: Device) {
        self.truth.repo.learn_device(device.info.number, device.info.id);
        self.come_in(device);
    }

    /// The remote without faults.
    pub(crate) fn fair_way(&self) -> FaultyStore<MemoryStore> {
        FaultyStore::sharing(Arc::clone(&self.remote), 0, Faults::none())
    }

    /// A device that has nothing yet, in good weather.
    pub(crate) fn newcomer(&self, no: u32, name: &str) -> Device {
        Device::new(no, name, self.fair_way(), self.truth.repo.config_bytes().clone(), 0)
    }

    /// A machine is there that was not; returns which it is.
    pub(crate) fn come_in(&mut self, device: Device) -> usize {
        self.devices.push(device);
        self.left.push(0);
        self.fresh.push(Fresh::default());
        self.pushing.push(Vec::new());
        self.importing.push(Vec::new());
        self.devices.len() - 1
    }

    /// Lets time pass.
    pub(crate) fn pass(&self, millis: u64) {
        self.world.pass(millis);
    }

    /// Ends a process and begins the next one.
    pub(crate) fn restart(&mut self, at: usize, end: End) {
        self.devices[at].crash(&self.world, end, &mut self.chance);
        self.boot(at);
    }

    /// Does a work to its end, well or not.
    pub(crate) fn try_to(&mut self, at: usize, work: Work) -> Outcome {
        let (doing, group) = (self.devices[at].doing(work), self.devices[at].process().group);
        self.world.finish(group, doing)
    }

    /// Brings something onto a device.
    pub(crate) fn bring<T: Send + 'static>(
        &self,
        at: usize,
        what: impl Future<Output = Result<T, SyncError>> + Send + 'static,
    ) -> Result<T, SyncError> {
        self.world.finish(self.devices[at].process().group, what)
    }
}

impl History {
    /// Copies what lasts of a device to another machine, and returns which device that is. It does not run yet.
    pub(crate) fn copy(&mut self, at: usize) -> usize {
        self.volume(at).flush(true).expect("the journal is written");
        let copy = self.devices[at].copy(self.devices.len(), self.fair_way());
        self.come_in(copy)
    }

    /// Takes a device out for good.
    pub(crate) fn take_away(&mut self, at: usize) {
        self.devices[at].crash(&self.world, End::Killed, &mut self.chance);
        self.devices.remove(at);
        self.left.remove(at);
        self.fresh.remove(at);
        self.pushing.remove(at);
        self.importing.remove(at);
    }

    /// A device, to be changed.
    pub(crate) fn device_mut(&mut self, at: usize) -> &mut Device {
        &mut self.devices[at]
    }

    /// What everybody reaches.
    pub(crate) fn remote(&self) -> &Arc<MemoryStore> {
        &self.remote
    }

    /// Begins a work in the background and lets the world go on for some steps.
    pub(crate) fn begin_for(&mut self, at: usize, work: Work, steps: usize) {
        self.devices[at].begin(&self.world, work);
        for _ in 0..steps {
            self.world.step();
        }
    }

    /// Lets the syncs of the running devices run by themselves for some time.
    pub(crate) fn run_syncs(&mut self, steps: usize) {
        for at in 0..self.devices.len() {
            if self.devices[at].running().is_some_and(|process| !process.runs) {
                self.run_by_itself(at);
            }
        }
        for _ in 0..steps {
            self.world.step();
        }
    }

    /// Everybody says what they have and hears of the others until nothing is left, and all agree.
    pub(crate) fn exchange(&mut self) -> Seen {
        for round in 0.. {
            assert!(round < ROUNDS_MAX, "they never come to rest");
            let mut moved = 0;
            for at in 0..self.devices.len() {
                for work in [Work::LearnDevices, Work::Push, Work::Pull] {
                    let count = self.finish(at, work);
                    moved += if work == Work::LearnDevices { 0 } else { count };
                }
            }
            self.audit();
            // What the last one says of removals is heard in the second round.
            if moved == 0 && round > 0 {
                break;
            }
        }
        self.teach_truth();
        let seen = self.seen(0);
        self.agree(&seen);
        seen
    }

    /// Who reads the remote directly must know who writes there.
    pub(crate) fn teach_truth(&self) {
        block_on(self.truth.repo.devices()).expect("the devices are read");
    }
}
