//! A history: devices that work, fail and go on, and what must be true in the end.

use crate::contents::{Contents, Truth, name as shown};
use crate::device::{Device, End, Outcome, Work};
use crate::operate::{self, Operation};
use crate::tree;
use futures::executor::block_on;
use ouro_core::id::FileId;
use ouro_core::state::Place;
use ouro_local::ledger::Ledger;
use ouro_local::volume::{Volume, VolumeError};
use ouro_repo::{ChunkerParams, InitOptions, Repository, Secret};
use ouro_sync::SyncError;
use ouro_testkit::sim::{Chance, Simulation};
use ouro_testkit::{Delay, Faults, FaultyStore, MemoryStore};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Rounds after which all must have everything.
const ROUNDS_MAX: usize = 40;
/// Steps after which everything under way must have ended.
const STEPS_MAX: u64 = 1_000_000;
/// Lines of the story printed with a failure.
const LINES_MAX: usize = 400;

/// How a history goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    pub(crate) devices: usize,
    pub(crate) steps: usize,
    pub(crate) faults: bool,
    pub(crate) crashes: bool,
    pub(crate) skew: bool,
    /// The syncs run by themselves instead of being told what to do.
    pub(crate) runs: bool,
}

impl Manner {
    fn of(chance: &mut Chance) -> Manner {
        Manner {
            devices: [1, 2, 2, 2, 3, 3, 4][chance.below(7)],
            steps: if chance.percent(4) { 500 } else { 30 + chance.below(90) },
            faults: chance.percent(60),
            crashes: chance.percent(60),
            skew: chance.percent(30),
            runs: chance.percent(25),
        }
    }
}

/// What was done, to be printed if it ends badly.
struct Story {
    seed: u64,
    quiet: bool,
    lines: Vec<String>,
}

impl Drop for Story {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.quiet {
            let from = self.lines.len().saturating_sub(LINES_MAX);
            for line in &self.lines[from..] {
                println!("{line}");
            }
            println!("run it again: OUROBOX_SEED={} cargo test -p ouro-sync --test simulator", self.seed);
        }
    }
}

pub(crate) struct History {
    world: Simulation,
    chance: Chance,
    manner: Manner,
    remote: Arc<MemoryStore>,
    truth: Truth,
    devices: Vec<Device>,
    contents: Contents,
    written: u64,
    crashed: bool,
    /// By device: contents that a crash may still take.
    fresh: Vec<Vec<Vec<u8>>>,
    /// By device: those of them that a push under way will make safe.
    pushing: Vec<Vec<Vec<u8>>>,
    story: Story,
}

/// All that is seen on a device: paths, and bytes of files.
pub(crate) type Seen = BTreeMap<String, Option<Vec<u8>>>;

impl History {
    /// Runs the history of a seed to its end and checks it; returns its trace.
    pub(crate) fn run(seed: u64) -> u64 {
        let manner = Manner::of(&mut Chance::new(seed ^ 0xdead));
        let mut history = History::new(seed, manner);
        for _ in 0..history.manner.steps {
            history.step();
        }
        history.meet();
        history.check();
        history.world.trace()
    }

    /// Devices in good weather, running and joined, that do what a test says.
    pub(crate) fn calm(devices: usize) -> History {
        let manner = Manner { devices, steps: 0, faults: false, crashes: false, skew: false, runs: false };
        let mut history = History::new(1, manner);
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
        let chunker = ChunkerParams { min: 4 << 10, average: 16 << 10, max: 64 << 10 };
        let options = InitOptions { chunker, ..InitOptions::default() };
        let made = Repository::init(Arc::clone(&remote) as _, Truth::ports(), &Secret::None, options);
        let config = block_on(made).expect("an empty place").config_bytes().clone();
        let truth = Truth::new(Arc::clone(&remote), config.clone());
        let mut devices = Vec::new();
        for no in 1..=manner.devices as u32 {
            let faults = if manner.faults { Faults::stormy() } else { Faults::none() };
            let (sleeper, rng) = (world.runtime(world.group()), world.rng(u64::from(no)));
            let delay: Delay = Arc::new(move |_, _| sleeper.sleep(rng.next_u64() % 150));
            let store = FaultyStore::sharing(Arc::clone(&remote), seed ^ u64::from(no), faults).with_delay(delay);
            let ahead = if manner.skew { [0, 90_000, -40_000, 600_000][chance.below(4)] } else { 0 };
            let name = ["Ada", "Bob", "Cleo", "Dan"][no as usize - 1];
            devices.push(Device::new(no, name, store, config.clone(), ahead));
            truth.repo.learn_device(ouro_core::id::DeviceNo(no), devices[no as usize - 1].info.id);
        }
        let none = vec![Vec::new(); devices.len()];
        let story = Story { seed, quiet: false, lines: vec![format!("seed {seed}: {manner:?}")] };
        History {
            world,
            chance,
            manner,
            remote,
            truth,
            devices,
            contents: Contents::default(),
            written: 0,
            crashed: false,
            fresh: none.clone(),
            pushing: none,
            story,
        }
    }

    fn tell(&mut self, at: usize, what: impl AsRef<str>) {
        let line = format!("{:5} {}: {}", self.story.lines.len(), self.devices[at].info.name, what.as_ref());
        let hash = line.bytes().fold(0, |hash: u64, byte| hash.rotate_left(5) ^ u64::from(byte));
        self.world.note(hash);
        self.story.lines.push(line);
    }

    fn step(&mut self) {
        let at = self.chance.below(self.devices.len());
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
                88..91 if self.manner.crashes => self.crash(at),
                91..93 if self.manner.crashes => self.crash_after_flush(at),
                93..97 if self.manner.faults => {
                    let on = self.chance.percent(40);
                    self.tell(at, if on { "goes offline" } else { "goes online" });
                    self.devices[at].store.set_unreachable(on);
                }
                _ => self.world.pass([0, 1, 100, 5_000, 60_000][self.chance.below(5)]),
            }
        }
        for _ in 0..[0, 0, 5, 20, 60, 200][self.chance.below(6)] {
            self.world.step();
        }
        self.hear();
        self.audit();
    }

    /// The live rows are at every moment what a restart would make of them, and the digest is theirs.
    pub(crate) fn audit(&mut self) {
        for at in 0..self.devices.len() {
            let Some(process) = self.devices[at].running() else { continue };
            let name = &self.devices[at].info.name;
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

    fn operate(&mut self, at: usize) {
        let process = self.devices[at].process();
        let (volume, ledger) = (Arc::clone(&process.volume), Arc::clone(&process.ledger));
        let mut open = self.devices[at].running_mut().map(|p| std::mem::take(&mut p.open)).unwrap_or_default();
        self.try_to_operate(at, (&volume, &ledger), &mut open);
        if let Some(process) = self.devices[at].running_mut() {
            process.open = open;
        }
    }

    fn try_to_operate(&mut self, at: usize, (volume, ledger): (&Volume, &Ledger), open: &mut Vec<(FileId, Place)>) {
        for _ in 0..20 {
            let outcome = match tree::spots(volume) {
                Err(missing) => Err(missing.into()),
                Ok(spots) => Operation {
                    chance: &mut self.chance,
                    volume,
                    ledger,
                    truth: &self.truth,
                    contents: &mut self.contents,
                    written: &mut self.written,
                    fresh: &mut self.fresh[at],
                    open,
                    spots,
                }
                .any(),
            };
            match outcome {
                Ok(what) => {
                    if !what.is_empty() {
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
                        return;
                    }
                }
                Err(error) if operate::is_refusal(&error) => {
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
            _ if device.process().runs => Work::Synced,
            0..45 => Work::Push,
            45..52 => Work::Checkpoint,
            _ if !begun => Work::Begin,
            52..60 => Work::LearnDevices,
            60..64 => Work::FetchIndex,
            _ => Work::Pull,
        };
        let idle = device.process().volume.sealed().is_none();
        if device.begin(&self.world, work) {
            if work == Work::Synced {
                self.pushing[at] = self.fresh[at].clone();
            }
            if work == Work::Push {
                // What is sealed already does not hold what was written since.
                self.pushing[at] = if idle { self.fresh[at].clone() } else { Vec::new() };
            }
            self.tell(at, format!("begins {work:?}"));
        }
    }

    fn flush(&mut self, at: usize) {
        let process = self.devices[at].process();
        if self.chance.percent(50) {
            process.volume.flush(true).expect("the journal is written");
            let fresh = std::mem::take(&mut self.fresh[at]);
            self.contents.keep(fresh);
            self.tell(at, "flushes");
        } else {
            if self.chance.percent(50) {
                process.volume.tick().expect("the journal is written");
            }
            process.ledger.flush(process.ledger.last(), false).expect("the journal is written");
        }
    }

    fn crash(&mut self, at: usize) {
        let end = if self.chance.percent(50) { End::Killed } else { End::PowerCut };
        self.tell(at, format!("ends: {end:?}"));
        self.crashed = true;
        self.devices[at].crash(&self.world, end, &mut self.chance);
        self.fresh[at].clear();
        self.pushing[at].clear();
    }

    /// What was flushed is all there after a power cut, to the byte.
    fn crash_after_flush(&mut self, at: usize) {
        self.devices[at].process().volume.flush(true).expect("the journal is written");
        let fresh = std::mem::take(&mut self.fresh[at]);
        self.contents.keep(fresh);
        let Some(before) = self.seen_offline(at) else { return };
        let process = self.devices[at].process();
        let (heads, digest) = (process.volume.heads(), process.volume.digest());
        self.tell(at, "flushes, loses power, boots");
        self.crashed = true;
        self.pushing[at].clear();
        self.devices[at].crash(&self.world, End::PowerCut, &mut self.chance);
        self.boot(at);
        let after = self.seen_offline(at).expect("the nodes are still here");
        self.same(&before, &after, "what was flushed is there after a power cut");
        let process = self.devices[at].process();
        assert_eq!((process.volume.heads(), process.volume.digest()), (heads, digest), "and so is what was learnt");
    }

    /// What is seen on a device, if that takes no node from elsewhere.
    fn seen_offline(&self, at: usize) -> Option<Seen> {
        let volume = &self.devices[at].process().volume;
        let spots = tree::spots(volume).ok()?;
        let bytes = |spot: &tree::Spot| (!spot.is_directory()).then(|| self.truth.bytes_at(volume, spot));
        Some(spots.iter().map(|(path, spot)| (path.clone(), bytes(spot))).collect())
    }

    /// Takes in what works have come to.
    fn hear(&mut self) {
        for at in 0..self.devices.len() {
            for (work, outcome) in self.devices[at].ended() {
                self.take(at, work, outcome);
            }
        }
    }

    fn take(&mut self, at: usize, work: Work, outcome: Outcome) {
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
                        self.fresh[at].retain(|content| !safe.contains(content));
                        self.contents.keep(safe);
                    }
                    _ => {}
                }
            }
            Err(error) => self.judge(at, &format!("{work:?}"), &error),
        }
    }

    /// Only what waiting helps against may go wrong.
    fn judge(&mut self, at: usize, what: &str, error: &SyncError) {
        self.tell(at, format!("{what} fails: {error}"));
        assert!(error.is_retryable() && self.manner.faults, "{what} fails for good: {error:?}");
    }

    /// Storms end, everybody comes back, and all exchange what they have until nothing is left.
    fn meet(&mut self) {
        for at in 0..self.devices.len() {
            self.devices[at].store.set_faults(Faults::none());
            self.devices[at].store.set_unreachable(false);
            if self.devices[at].running().is_none() {
                self.devices[at].boot(&self.world);
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
                    self.finish(at, Work::Begin);
                }
                self.finish(at, Work::LearnDevices);
                let before = self.devices[at].process().volume.heads();
                moved += self.finish(at, Work::Push);
                moved += self.finish(at, Work::Pull);
                // An announcement that was fixed before is published without a count.
                moved += usize::from(self.devices[at].process().volume.heads() != before);
            }
            self.audit();
            if moved == 0 {
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

    pub(crate) fn seen(&mut self, at: usize) -> Seen {
        let process = self.devices[at].process();
        let (sync, group) = (Arc::clone(&process.sync), process.group);
        loop {
            if let Some(seen) = self.seen_offline(at) {
                return seen;
            }
            if let Err(missing) = tree::spots(sync.volume()) {
                let fetching = Arc::clone(&sync);
                let brought = self.world.finish(group, async move { fetching.fetch_node(missing).await });
                brought.unwrap_or_else(|error| panic!("a node cannot be fetched: {error:?}"));
            }
        }
    }

    pub(crate) fn device(&self, at: usize) -> &Device {
        &self.devices[at]
    }

    pub(crate) fn volume(&self, at: usize) -> Arc<Volume> {
        Arc::clone(&self.devices[at].process().volume)
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

    fn check(&mut self) {
        let first = self.seen(0);
        self.agree(&first);
        self.nothing_is_lost(&first);
        self.idle_devices_write_nothing();
        self.a_restart_changes_nothing(&first);
        self.checkpoints_agree(&first);
        self.a_newcomer_sees_the_same(&first);
    }

    pub(crate) fn agree(&mut self, first: &Seen) {
        let heads = self.devices[0].process().volume.heads();
        let digest = self.devices[0].process().volume.digest();
        for at in 1..self.devices.len() {
            let volume = &self.devices[at].process().volume;
            let seqs = |heads: &BTreeMap<_, ouro_local::volume::Head>| {
                heads.iter().map(|(no, head)| (*no, head.seq, head.hash)).collect::<Vec<_>>()
            };
            assert_eq!(seqs(&volume.heads()), seqs(&heads), "the same heads after all have met");
            assert_eq!(volume.digest(), digest, "the same heads, the same digest");
            let seen = self.seen(at);
            self.same(first, &seen, "the same heads, the same tree");
        }
    }

    fn same(&self, one: &Seen, other: &Seen, why: &str) {
        let differ = |path: &&String| one.get(*path) != other.get(*path);
        let paths: BTreeSet<&String> = one.keys().chain(other.keys()).filter(differ).collect();
        let told = |seen: &Seen, path: &String| match seen.get(path) {
            None => "nothing".to_owned(),
            Some(None) => "a directory".to_owned(),
            Some(Some(content)) => shown(content),
        };
        let lines: Vec<String> =
            paths.iter().map(|path| format!("{path}: {} / {}", told(one, path), told(other, path))).collect();
        assert!(lines.is_empty(), "{why}, but: {lines:#?}");
    }

    fn nothing_is_lost(&mut self, first: &Seen) {
        for fresh in std::mem::take(&mut self.fresh) {
            self.contents.keep(fresh);
        }
        self.fresh = vec![Vec::new(); self.devices.len()];
        let shown_all: BTreeSet<Vec<u8>> = first.values().flatten().cloned().collect();
        if let Some(content) = self.contents.lost(&shown_all) {
            panic!("{} is lost", shown(content));
        }
        if !self.crashed
            && let Some(content) = self.contents.invented(&shown_all)
        {
            panic!("{} was never written", shown(content));
        }
    }

    fn idle_devices_write_nothing(&mut self) {
        let before = self.remote.snapshot();
        for at in 0..self.devices.len() {
            assert_eq!(self.finish(at, Work::Push) + self.finish(at, Work::Pull), 0, "there is nothing to do");
        }
        assert!(self.remote.snapshot() == before, "an idle device writes something");
    }

    fn a_restart_changes_nothing(&mut self, first: &Seen) {
        for at in 0..self.devices.len() {
            let (heads, digest) =
                (self.devices[at].process().volume.heads(), self.devices[at].process().volume.digest());
            self.devices[at].process().volume.flush(true).expect("the journal is written");
            self.tell(at, "restarts");
            let mut chance = Chance::new(0);
            self.devices[at].crash(&self.world, End::PowerCut, &mut chance);
            self.devices[at].boot(&self.world);
            assert_eq!(self.devices[at].process().volume.heads(), heads, "a restart forgets no commit");
            assert_eq!(self.devices[at].process().volume.digest(), digest, "a restart changes no digest");
            let seen = self.seen(at);
            self.same(first, &seen, "a restart changes nothing");
        }
    }

    /// Whoever writes a checkpoint of a state, it is the same tree.
    fn checkpoints_agree(&mut self, first: &Seen) {
        let mut roots = BTreeSet::new();
        for at in 0..self.devices.len() {
            self.finish(at, Work::Begin);
            self.finish(at, Work::LearnDevices);
            self.finish(at, Work::Pull);
            self.finish(at, Work::Checkpoint);
            roots.insert(self.devices[at].process().volume.checkpoint_root().map(|root| root.id));
            let seen = self.seen(at);
            self.same(first, &seen, "a checkpoint changes nothing");
        }
        assert_eq!(roots.len(), 1, "one state, one tree: {roots:?}");
    }

    fn a_newcomer_sees_the_same(&mut self, first: &Seen) {
        let digest = self.devices.last().map(|last| last.process().volume.digest());
        let store = FaultyStore::sharing(Arc::clone(&self.remote), 0, Faults::none());
        let config = self.truth.repo.config_bytes().clone();
        self.devices.push(Device::new(77, "Eve", store, config, 0));
        self.fresh.push(Vec::new());
        self.pushing.push(Vec::new());
        let at = self.devices.len() - 1;
        self.devices[at].boot(&self.world);
        for work in [Work::Register, Work::Begin, Work::LearnDevices, Work::Pull, Work::FetchIndex] {
            self.finish(at, work);
        }
        let seen = self.seen(at);
        self.same(first, &seen, "a newcomer sees the same");
        assert_eq!(Some(self.devices[at].process().volume.digest()), digest, "a newcomer has the same digest");
    }
}
