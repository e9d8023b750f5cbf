//! How a history goes.

use ouro_repo::ChunkerParams;
use ouro_testkit::Faults;
use ouro_testkit::sim::Chance;

/// Most devices of a history.
pub(crate) const DEVICES_MAX: usize = 5;

/// How much happens in a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A few devices, a few dozen operations, in some weathers: many of them in a short time.
    Short,
    /// Three to five devices, 50 to 200 operations, in one of twenty so many on each device; everything that can go wrong.
    Whole,
    /// Collections all the time, most of them begun by two devices at once: few devices, few operations.
    Collecting,
}

impl Shape {
    /// By its name.
    pub(crate) fn named(name: &str) -> Shape {
        match name {
            "Whole" => Shape::Whole,
            "Collecting" => Shape::Collecting,
            _ => Shape::Short,
        }
    }
}

/// How a history goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    pub(crate) shape: Shape,
    pub(crate) devices: usize,
    /// How many operations each device does.
    pub(crate) operations: usize,
    pub(crate) faults: bool,
    pub(crate) crashes: bool,
    pub(crate) skew: bool,
    /// The syncs run by themselves instead of being told what to do.
    pub(crate) runs: bool,
    /// The last device is offline from early on until almost the end.
    pub(crate) away: bool,
    /// Each device works alone and knows everything that was done before: no conflict may ever be seen.
    pub(crate) relay: bool,
    /// Days pass, and what nothing needs any more is collected.
    pub(crate) collects: bool,
    /// Two devices at once begin a collection.
    pub(crate) rivals: bool,
    /// The storage's answers bear a date.
    pub(crate) dated: bool,
    /// Machines are copied while they work, and both go on.
    pub(crate) copies: bool,
    /// Devices remove one another.
    pub(crate) removes: bool,
    /// Some files have ignored names.
    pub(crate) ignores: bool,
    /// Things are thrown away, and some come back.
    pub(crate) throws: bool,
    /// Chunks are so short that large files have lists of them, and large contents come again more often.
    pub(crate) lists: bool,
}

impl Manner {
    pub(crate) fn of(seed: u64, shape: Shape) -> Manner {
        // Drawn apart, so that histories without are what they were before there were any.
        let ignores = Chance::new(seed ^ 0x1690_12ed).percent(40);
        let throws = Chance::new(seed ^ 0x07a5_0001).percent(30);
        let lists = Chance::new(seed ^ 0x0011_5750).percent(30);
        let chance = &mut Chance::new(seed ^ 0xdead);
        let manner = match shape {
            Shape::Short => Manner {
                shape,
                devices: [1, 2, 2, 2, 3, 3, 4][chance.below(7)],
                operations: if chance.percent(4) { 100 } else { 8 + chance.below(12) },
                faults: chance.percent(60),
                crashes: chance.percent(60),
                skew: chance.percent(30),
                runs: chance.percent(25),
                away: chance.percent(10),
                relay: chance.percent(5),
                collects: chance.percent(15),
                rivals: false,
                dated: chance.percent(30),
                copies: chance.percent(7),
                removes: chance.percent(7),
                ignores,
                throws,
                lists,
            },
            Shape::Whole => {
                let devices = 3 + chance.below(DEVICES_MAX - 2);
                // Most are at the lower end: more histories find more than longer ones do.
                let operations = 50 + chance.below(151).min(chance.below(151));
                Manner {
                    shape,
                    devices,
                    operations: if chance.percent(5) { operations } else { operations.div_ceil(devices) },
                    faults: true,
                    crashes: true,
                    skew: true,
                    runs: chance.percent(25),
                    away: chance.percent(30),
                    relay: chance.percent(5),
                    collects: chance.percent(25),
                    rivals: false,
                    dated: chance.percent(30),
                    copies: chance.percent(10),
                    removes: chance.percent(10),
                    ignores,
                    throws,
                    lists,
                }
            }
            Shape::Collecting => Manner {
                shape,
                devices: [2, 2, 3, 3, 4][chance.below(5)],
                operations: 8 + chance.below(20),
                faults: chance.percent(80),
                crashes: chance.percent(60),
                skew: chance.percent(30),
                runs: chance.percent(20),
                away: chance.percent(20),
                relay: false,
                collects: true,
                rivals: chance.percent(70),
                dated: chance.percent(50),
                copies: chance.percent(30),
                removes: false,
                ignores,
                throws,
                lists,
            },
        };
        let (alone, together) = (manner.relay, manner.devices > 1);
        Manner {
            runs: manner.runs && !alone,
            // Who is away would be one of two.
            away: manner.away && !manner.copies,
            collects: manner.collects && !alone,
            copies: manner.copies && !alone,
            // A collection does not wait for who was removed: what only that one still refers to may go.
            removes: manner.removes && !alone && together && !manner.collects,
            ..manner
        }
    }

    /// Good weather, and nothing happens by itself.
    pub(crate) fn calm(devices: usize) -> Manner {
        Manner {
            shape: Shape::Short,
            devices,
            operations: 0,
            faults: false,
            crashes: false,
            skew: false,
            runs: false,
            away: false,
            relay: false,
            collects: false,
            rivals: false,
            dated: false,
            copies: false,
            removes: false,
            ignores: false,
            throws: false,
            lists: false,
        }
    }

    /// How files are cut.
    pub(crate) fn chunker(&self) -> ChunkerParams {
        if self.lists {
            ChunkerParams { min: 256, average: 512, max: 2 << 10 }
        } else {
            ChunkerParams { min: 4 << 10, average: 16 << 10, max: 64 << 10 }
        }
    }

    /// Of a hundred contents that are written, so many are large ones that somebody wrote before: what a collection took comes again.
    pub(crate) fn repeats(&self) -> u32 {
        match (self.collects, self.lists) {
            (false, _) => 0,
            (true, false) => 8,
            (true, true) => 20,
        }
    }

    pub(crate) fn weather(&self) -> Faults {
        let faults = match (self.faults, self.collects) {
            (false, _) => Faults::none(),
            // In a storm no collection would ever end.
            (true, true) => Faults::breezy(),
            (true, false) => Faults::stormy(),
        };
        // A storage that lets two write one name, and two that have one: a commit is gone, and that is an alarm.
        if self.copies { Faults { ignored_condition: 0, ..faults } } else { faults }
    }
}
