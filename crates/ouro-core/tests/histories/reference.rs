//! Histories of the model in `tests/reference`, replayed: what is seen after every step, and what every commit says, is what the model
//! sees and says. `make oracle N=10000` replays as many as one likes.

use crate::device::{Commit, Device};
use ouro_core::delta::{Delta, FileDelta, Register};
use ouro_core::edit::{Among, Pending, purgeable};
use ouro_core::id::{DeviceNo, Hlc, Seq, Version};
use ouro_core::render::What;
use ouro_core::state::Place;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// Histories of an ordinary test run.
const HISTORIES: u64 = 300;

/// What is told after an event: lines, each of fields.
type Lines<'a> = &'a mut dyn Iterator<Item = Vec<String>>;

struct Replay {
    seed: String,
    devices: Vec<Device>,
    /// What of each device's pending changes is in its journal.
    journals: Vec<Pending>,
    log: BTreeMap<(u32, u64), Commit>,
    steps: u64,
}

fn number<T: std::str::FromStr<Err: std::fmt::Debug>>(field: &str) -> T {
    field.parse().expect("a number")
}

fn text(content: Option<&ouro_core::content::Content>) -> String {
    match content {
        None => String::new(),
        Some(ouro_core::content::Content::Inline(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
        Some(other) => format!("{other:?}"),
    }
}

impl Replay {
    /// Replays a history; returns the events.
    fn run(seed: String, devices: u32, lines: Lines<'_>) -> u64 {
        let journals = (0..devices).map(|_| Pending::default()).collect();
        let devices = (1..=devices).map(Device::new).collect();
        let mut replay = Replay { seed, devices, journals, log: BTreeMap::new(), steps: 0 };
        while let Some(line) = lines.next() {
            let fields: Vec<&str> = line.iter().map(String::as_str).collect();
            if fields[0] == "end" {
                return replay.steps;
            }
            replay.steps += 1;
            let at = number::<usize>(fields[1]) - 1;
            match fields[0] {
                "see" => replay.see(at, number(fields[2]), lines),
                "journal" => replay.journals[at] = replay.devices[at].pending.clone(),
                "crash" => {
                    let journal = replay.journals[at].clone();
                    replay.devices[at].crash(journal);
                }
                "join" => {
                    replay.devices.push(Device::new(at as u32 + 1));
                    replay.journals.push(Pending::default());
                }
                "learn" => {
                    let commit = &replay.log[&(number(fields[2]), number(fields[3]))];
                    assert!(replay.devices[at].can_learn(commit), "what it was made on is known");
                    replay.devices[at].learn(commit);
                }
                "seal" => replay.seal(at, Hlc(number(fields[2])), lines),
                "purge" => replay.purge(at, fields[2], lines),
                _ => replay.operate(at, &fields),
            }
        }
        panic!("the model ended in the middle of history {}", replay.seed);
    }

    fn operate(&mut self, at: usize, fields: &[&str]) {
        let device = &mut self.devices[at];
        device.counter = number(fields[2]);
        match (fields[0], &fields[3..]) {
            ("create", [path, value]) => drop(device.make(path, Some(value))),
            ("mkdir", [path]) => drop(device.make(path, None)),
            ("edit", [path, value]) => device.write(path, value),
            ("save", [path, value]) => save(device, path, value),
            ("delete", [path]) => device.remove(path),
            ("move" | "move over" | "move directory", [path, target]) => device.rename(path, target),
            ("remove all", [path]) => device.remove_all(path),
            ("link", [path, target]) => device.link(path, target),
            ("mode", [path, mode]) => {
                let spot = device.spot(path);
                let attributes = crate::device::attributes(number(mode));
                let changed = device.edit(|e| e.set_attributes(&spot.seen, &spot.parent, attributes));
                changed.expect("it can be changed");
            }
            other => panic!("the model tells {other:?}"),
        }
    }

    /// What is seen on a device is what the model sees there.
    fn see(&self, at: usize, count: usize, lines: Lines<'_>) {
        let modelled: BTreeSet<Vec<String>> = lines.take(count).collect();
        let mut seen = BTreeSet::new();
        for (path, spot) in self.devices[at].spots().into_iter().filter(|(path, _)| !path.is_empty()) {
            let (kind, ids) = match &spot.seen.what {
                What::Directory { members, .. } => ("d", members.clone()),
                What::Copy { .. } => ("c", vec![spot.seen.id]),
                _ => ("f", vec![spot.seen.id]),
            };
            let ids: Vec<String> = ids.iter().map(|id| id.0.to_string()).collect();
            seen.insert(vec![path, kind.to_owned(), ids.join(","), text(spot.seen.content())]);
        }
        self.same("is seen", at, &seen, &modelled);
    }

    fn same(&self, what: &str, at: usize, here: &BTreeSet<Vec<String>>, modelled: &BTreeSet<Vec<String>>) {
        let only =
            |one: &BTreeSet<Vec<String>>, other| one.difference(other).map(|f| f.join(" | ")).collect::<Vec<_>>();
        let (more, less) = (only(here, modelled), only(modelled, here));
        let (seed, step, device) = (&self.seed, self.steps, at + 1);
        assert!(
            more.is_empty() && less.is_empty(),
            "seed {seed}, event {step}, device {device}: {what} here only: {more:#?}; by the model only: {less:#?}"
        );
    }

    fn seal(&mut self, at: usize, hlc: Hlc, lines: Lines<'_>) {
        let device = &mut self.devices[at];
        let floor = device.settle().unwrap_or_else(|| panic!("seed {}: nothing is pending", self.seed));
        assert!(
            floor < hlc,
            "seed {}, event {}: the stamp must exceed {floor:?} and is {hlc:?}",
            self.seed,
            self.steps
        );
        let commit = device.seal_at(hlc);
        self.journals[at] = Pending::default();
        let mut modelled = BTreeSet::new();
        while let Some(line) = lines.next() {
            if line[0] == "see" {
                self.same("is committed", at, &told(&commit.delta), &modelled);
                self.log.insert((commit.version.device.0, commit.version.seq.0), commit);
                return self.see(at, number(&line[2]), lines);
            }
            modelled.insert(line);
        }
    }

    /// What may be purged is what the model purges.
    fn purge(&mut self, at: usize, settled: &str, lines: Lines<'_>) {
        let settled = self.settled(settled);
        let device = &mut self.devices[at];
        assert!(device.pending.files.is_empty(), "the model seals before it purges");
        let purged = device.edit(|e| {
            let candidates = purgeable(e.rows, &settled.committed, Among::Everything, usize::MAX)?;
            e.purge(&settled.committed, &candidates)
        });
        let purged = purged.expect("all rows are there");
        assert!(purged <= device.pending.files.len());
        let delta = Delta { files: device.pending.files.values().cloned().collect() };
        let mut modelled = BTreeSet::new();
        while let Some(line) = lines.next() {
            if line[0] == "see" {
                self.same("is purged", at, &told(&delta), &modelled);
                return self.see(at, number(&line[2]), lines);
            }
            modelled.insert(line);
        }
    }

    /// A device that knows just so many commits of each.
    fn settled(&self, heads: &str) -> Device {
        let heads = heads.split(',').filter(|head| !head.is_empty()).map(|head| head.split_once(':').expect("a head"));
        let heads: BTreeMap<u32, u64> = heads.map(|(device, seq)| (number(device), number(seq))).collect();
        let mut device = Device::new(99);
        let is_in = |(no, seq): &(u32, u64)| heads.get(no).is_some_and(|last| seq <= last);
        let mut left: Vec<&Commit> = self.log.iter().filter(|(at, _)| is_in(at)).map(|(_, commit)| commit).collect();
        while let Some(next) = left.iter().position(|commit| device.can_learn(commit)) {
            device.learn(left.swap_remove(next));
        }
        assert!(left.is_empty(), "what every device knew is closed");
        device
    }
}

/// An atomic save is an edit, unless another name keeps the old file.
fn save(device: &mut Device, path: &str, value: &str) {
    let spot = device.spot(path);
    let is_file = matches!(spot.seen.what, What::File { .. });
    let names = device.spots().values().filter(|other| other.seen.id == spot.seen.id).count();
    if is_file && names > 1 {
        device.remove(path);
        device.make(path, Some(value));
    } else {
        device.write(path, value);
    }
}

/// A commit as the model tells it.
fn told(delta: &Delta) -> BTreeSet<Vec<String>> {
    delta.files.iter().flat_map(told_of_file).collect()
}

fn told_of_file(file: &FileDelta) -> Vec<Vec<String>> {
    let flag = |flag: bool| u8::from(flag).to_string();
    let at = |place: &Place| [place.parent.0.to_string(), place.name.display()];
    let mut lines: Vec<Vec<String>> = Vec::new();
    let begin = |what: &str, register: &str, slot: u64| {
        vec![what.to_owned(), file.id.0.to_string(), register.to_owned(), slot.to_string()]
    };
    for placement in &file.placements {
        let was = placement.was.as_ref().map(|was| at(was).join("/")).unwrap_or_default();
        let mut line = begin("add", "P", placement.slot);
        line.extend(at(&placement.place));
        line.extend([was, flag(placement.by_rule), flag(placement.removed)]);
        lines.push(line);
    }
    if let Some(content) = &file.content {
        let mut line = begin("add", "C", 0);
        line.push(text(content.value.as_ref()));
        line.extend(at(&content.at));
        line.push(flag(content.by_rule));
        lines.push(line);
    }
    if let Some(attributes) = &file.attributes {
        let mut line = begin("add", "A", 0);
        line.push(attributes.mode.to_string());
        lines.push(line);
    }
    for (register, version) in &file.replaced {
        let mut line = match register {
            Register::Placement { slot } => begin("replace", "P", *slot),
            Register::Content => begin("replace", "C", 0),
            Register::Attributes => begin("replace", "A", 0),
        };
        let Version { hlc, device: DeviceNo(device), seq: Seq(seq) } = version;
        line.extend([hlc.0.to_string(), device.to_string(), seq.to_string()]);
        lines.push(line);
    }
    lines
}

/// What came of some histories.
#[derive(Default)]
struct Outcome {
    events: u64,
    /// What went wrong, by seed.
    failed: Vec<(u64, String)>,
}

/// Replays histories of the model.
fn replay(first: u64, count: u64) -> Outcome {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference/history.py");
    let (first, count) = (first.to_string(), count.to_string());
    let model = Command::new("python3").args([script, &first, &count]).stdout(Stdio::piped()).spawn();
    let mut model = model.expect("the model needs python3");
    let output = BufReader::new(model.stdout.take().expect("it is piped"));
    let mut outcome = Outcome::default();
    let mut history: Vec<Vec<String>> = Vec::new();
    for line in output.lines() {
        let line: Vec<String> = line.expect("the model speaks").split('\t').map(str::to_owned).collect();
        let is_last = line[0] == "end";
        history.push(line);
        if is_last {
            outcome.take(std::mem::take(&mut history));
        }
    }
    assert!(model.wait().expect("it ends").success(), "the model fails");
    outcome
}

impl Outcome {
    /// Replays one history.
    fn take(&mut self, history: Vec<Vec<String>>) {
        let (seed, devices) = (history[0][1].clone(), number(&history[0][2]));
        let replayed =
            std::panic::catch_unwind(|| Replay::run(seed.clone(), devices, &mut history.into_iter().skip(1)));
        match replayed {
            Ok(events) => self.events += events,
            Err(panic) => {
                let said = panic.downcast_ref::<String>().cloned();
                self.failed.push((number(&seed), said.unwrap_or_else(|| "something unexpected".to_owned())));
            }
        }
    }
}

#[test]
fn the_model_and_the_core_see_and_write_the_same() {
    let environment = |name| std::env::var(name).ok().and_then(|n| n.parse().ok());
    let first: u64 = environment("OUROBOX_FIRST").unwrap_or(0);
    let count: u64 = environment("OUROBOX_HISTORIES").unwrap_or(HISTORIES);
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    #[expect(clippy::disallowed_methods, reason = "the rate is told to people and decides nothing")]
    let began = std::time::Instant::now();
    let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
        let start = |core: u64| first + count * core / cores;
        let workers: Vec<_> =
            (0..cores).map(|core| scope.spawn(move || replay(start(core), start(core + 1) - start(core)))).collect();
        workers.into_iter().map(|worker| worker.join().expect("the model works")).collect()
    });
    let events: u64 = outcomes.iter().map(|outcome| outcome.events).sum();
    let rate = count as f64 / began.elapsed().as_secs_f64();
    println!("{count} histories of the model from seed {first} on, {events} events: {rate:.0} histories a second");
    let failed: Vec<_> = outcomes.into_iter().flat_map(|outcome| outcome.failed).collect();
    let first: Vec<_> = failed.iter().take(8).collect();
    assert!(failed.is_empty(), "{} histories failed, the first of them (seed, what): {first:#?}", failed.len());
}
