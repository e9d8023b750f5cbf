use super::*;
use crate::disk::MemoryDisk;
use crate::ledger::Mode;
use proptest::prelude::*;
use std::io;

const FILE: FileId = FileId(77);

struct Device {
    disk: MemoryDisk,
    ledger: Arc<Ledger>,
    layers: Layers,
}

fn device(disk: MemoryDisk, image: Option<Vec<u8>>) -> Device {
    let ledger = Arc::new(Ledger::open_in_memory(image, Mode::Inline).unwrap());
    let layers = Layers::open(Arc::new(disk.clone()), ledger.clone()).unwrap();
    Device { disk, ledger, layers }
}

fn fresh() -> Device {
    device(MemoryDisk::new(), None)
}

impl Device {
    fn journal(&self, file: FileId, generation: u64) {
        let ticket = self.ledger.submit(self.layers.unit(file, generation).unwrap());
        self.layers.submitted(file, generation, ticket);
    }

    fn save(&self) {
        self.ledger.flush(self.ledger.last(), true).unwrap();
    }

    /// Power cut: what was not synced is lost, or survives as `keep` says.
    fn power_cut(self, keep: &mut dyn FnMut() -> bool) -> Device {
        let image = self.ledger.durable_image().unwrap().to_vec();
        self.disk.crash(keep);
        device(self.disk, Some(image))
    }

    /// Reads through the layers of `generations`, newest first, over `base`.
    fn read(&self, generations: &[u64], base: &[u8], offset: u64, len: usize) -> Vec<u8> {
        let Some((newest, older)) = generations.split_first() else {
            let start = base.len().min(offset as usize);
            return base[start..base.len().min(start + len)].to_vec();
        };
        let mut buf = vec![0xee; len];
        let parts = self.layers.read(FILE, *newest, offset, &mut buf).unwrap();
        let mut at = offset;
        for (range, held) in &parts {
            assert_eq!(range.start, at, "parts follow each other");
            at = range.end;
            let target = &mut buf[(range.start - offset) as usize..(range.end - offset) as usize];
            match held {
                Held::Below => target.copy_from_slice(&self.read(older, base, range.start, target.len())),
                Held::Zeros => assert!(target.iter().all(|b| *b == 0)),
                Held::Data => {}
            }
        }
        buf.truncate((at - offset) as usize);
        buf
    }
}

#[derive(Clone, Debug)]
enum Step {
    Write(u64, usize, u8),
    Truncate(u64),
    Allocate(u64, u64),
    Punch(u64, u64),
    NextGeneration,
    Journal,
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let offset = 0u64..150_000;
    let step = prop_oneof![
        6 => (offset.clone(), prop_oneof![1usize..50, 1usize..40_000], any::<u8>()).prop_map(|(o, l, b)| Step::Write(o, l, b)),
        3 => offset.clone().prop_map(Step::Truncate),
        1 => (offset.clone(), 0u64..9_000).prop_map(|(o, l)| Step::Allocate(o, l)),
        3 => (offset, 0u64..90_000).prop_map(|(o, l)| Step::Punch(o, l)),
        1 => Just(Step::NextGeneration),
        1 => Just(Step::Journal),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn layers_over_a_base_read_like_one_plain_file(base_len in 0usize..100_000, steps in steps(), window in 0u64..150_000) {
        let base: Vec<u8> = (0..base_len).map(|i| (i % 251) as u8 | 1).collect();
        let mut model = base.clone();
        let mut device = fresh();
        let mut generations = vec![1];
        device.layers.begin(FILE, 1, base_len as u64);
        for step in steps {
            let now = generations[0];
            match step {
                Step::Write(offset, len, byte) => {
                    let data: Vec<u8> = (0..len).map(|i| byte.wrapping_add(i as u8)).collect();
                    device.layers.write(FILE, now, offset, &data).unwrap();
                    let end = offset as usize + len;
                    if model.len() < end { model.resize(end, 0) }
                    model[offset as usize..end].copy_from_slice(&data);
                }
                Step::Truncate(size) => {
                    device.layers.truncate(FILE, now, size).unwrap();
                    model.resize(size as usize, 0);
                }
                Step::Allocate(offset, len) => {
                    device.layers.allocate(FILE, now, offset, len).unwrap();
                    let end = (offset + len) as usize;
                    if model.len() < end { model.resize(end, 0) }
                }
                Step::Punch(offset, len) => {
                    device.layers.punch(FILE, now, offset, len).unwrap();
                    let end = model.len().min((offset + len) as usize);
                    let start = end.min(offset as usize);
                    model[start..end].fill(0);
                }
                Step::NextGeneration => {
                    device.layers.begin(FILE, now + 1, model.len() as u64);
                    generations.insert(0, now + 1);
                }
                Step::Journal => {
                    device.journal(FILE, now);
                    device.save();
                    device.layers.trim(FILE, now).unwrap();
                }
                Step::Restart => {
                    generations.iter().for_each(|g| device.journal(FILE, *g));
                    device.save();
                    device = device.power_cut(&mut || false);
                }
            }
            let newest = generations[0];
            prop_assert_eq!(device.layers.size(FILE, newest).unwrap(), model.len() as u64);
            prop_assert!(device.read(&generations, &base, 0, model.len() + 10) == model, "whole file");
            let end = model.len().min(window as usize + 1_000);
            let start = end.min(window as usize);
            prop_assert!(device.read(&generations, &base, window, 1_000) == model[start..end], "a window");
            let state = device.layers.state(FILE, newest).unwrap();
            prop_assert!(state.base_limit <= state.size);
            prop_assert!(state.extents.iter().all(|e| e.1 <= state.size));
        }
        let held: u64 = generations.iter()
            .map(|g| device.layers.state(FILE, *g).unwrap().extents.iter().map(|e| e.1 - e.0).sum::<u64>())
            .sum();
        prop_assert_eq!(device.layers.dirty_bytes(), held);
    }

    #[test]
    fn after_a_power_cut_everything_journalled_is_there_whatever_else_survived(seed in any::<u64>(), later in 0u64..400_000) {
        let device = fresh();
        device.layers.begin(FILE, 3, 0);
        let data: Vec<u8> = (0..200_000u32).map(|i| (i % 253) as u8).collect();
        device.layers.write(FILE, 3, 0, &data).unwrap();
        device.journal(FILE, 3);
        device.save();
        // Appended and never journalled.
        device.layers.write(FILE, 3, 200_000 + later, &[9; 5000]).unwrap();
        let mut state = seed | 1;
        let device = device.power_cut(&mut || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
            state >> 63 == 1
        });
        prop_assert_eq!(device.layers.size(FILE, 3).unwrap(), 200_000);
        prop_assert!(device.read(&[3], &[], 0, 300_000) == data);
    }
}

#[test]
fn small_layers_stay_in_the_database_and_large_ones_get_a_file() {
    let device = fresh();
    device.layers.begin(FILE, 1, 0);
    device.layers.write(FILE, 1, 0, &[1; SMALL_BYTES_MAX]).unwrap();
    assert!(matches!(&device.layers.unit(FILE, 1).unwrap()[..], [Write::Small { bytes: Some(_), .. }]));
    assert_eq!(device.disk.list(DIRTY).unwrap().len(), 0);
    device.layers.write(FILE, 1, 10, &[2; 100]).unwrap();
    assert_eq!(device.disk.list(DIRTY).unwrap().len(), 0, "overwriting makes it no larger");
    device.layers.write(FILE, 1, SMALL_BYTES_MAX as u64, &[3]).unwrap();
    let unit = device.layers.unit(FILE, 1).unwrap();
    assert!(matches!(&unit[..], [Write::Layer { state: Some(_), .. }, Write::Small { bytes: None, .. }]), "{unit:?}");
    assert_eq!(device.disk.list(DIRTY).unwrap().len(), 1);
}

#[test]
fn what_was_submitted_is_not_submitted_again_until_it_changes() {
    let device = fresh();
    device.layers.begin(FILE, 1, 0);
    device.layers.write(FILE, 1, 0, b"abc").unwrap();
    device.journal(FILE, 1);
    assert!(device.layers.unit(FILE, 1).unwrap().is_empty());
    device.layers.write(FILE, 1, 0, b"abd").unwrap();
    assert_eq!(device.layers.unit(FILE, 1).unwrap().len(), 1);
}

#[test]
fn a_failed_write_leaves_the_layer_as_it_was() {
    for kind in [io::ErrorKind::StorageFull, io::ErrorKind::Other] {
        for at in 1..4 {
            let device = fresh();
            device.layers.begin(FILE, 1, 0);
            device.layers.write(FILE, 1, 0, &[1; 60_000]).unwrap();
            device.disk.fail_at_write(at, kind);
            let outcome = device.layers.write(FILE, 1, 60_000, &[2; 60_000]);
            device.disk.heal();
            match outcome {
                Ok(()) => panic!("the fault did not strike"),
                Err(LocalError::Full { .. }) => assert_eq!(kind, io::ErrorKind::StorageFull),
                Err(LocalError::Io { .. }) => assert_eq!(kind, io::ErrorKind::Other),
                Err(e) => panic!("{e}"),
            }
            assert!(device.read(&[1], &[], 0, 200_000) == [1; 60_000]);
            assert_eq!(device.layers.dirty_bytes(), 60_000);
            device.layers.write(FILE, 1, 60_000, &[2; 60_000]).unwrap();
            assert_eq!(device.layers.size(FILE, 1).unwrap(), 120_000);
        }
    }
}

#[test]
fn regression_a_punch_inside_the_base_keeps_a_piece_that_it_touches_whole() {
    let device = fresh();
    device.layers.begin(FILE, 1, 50_000);
    device.layers.write(FILE, 1, 13_039, &[7; 35_099]).unwrap();
    device.layers.punch(FILE, 1, 12_974, 65).unwrap();
    let expected: Vec<u8> = [[0; 65].as_slice(), &[7; 35_099]].concat();
    assert!(device.read(&[1], &[5; 50_000], 12_974, 35_164) == expected);
}

#[test]
fn a_failed_punch_lets_nothing_shine_through_that_was_overwritten() {
    let device = fresh();
    device.layers.begin(FILE, 1, 200_000);
    device.layers.write(FILE, 1, 0, &[1; 50_000]).unwrap();
    device.disk.fail_at_write(1, io::ErrorKind::StorageFull);
    assert!(device.layers.punch(FILE, 1, 0, 100_000).is_err());
    device.disk.heal();
    let mut buf = vec![0; 50_000];
    assert_eq!(device.layers.read(FILE, 1, 0, &mut buf).unwrap(), [(0..50_000, Held::Data)]);
    assert!(buf == [1; 50_000]);
}

#[test]
fn a_dirty_file_that_cannot_be_synced_stops_the_journal_with_the_reason() {
    let device = fresh();
    device.layers.begin(FILE, 1, 0);
    device.layers.write(FILE, 1, 0, &[1; 100_000]).unwrap();
    let ticket = device.ledger.submit(device.layers.unit(FILE, 1).unwrap());
    device.disk.fail_at_write(1, io::ErrorKind::StorageFull);
    assert!(matches!(device.ledger.flush(ticket, false), Err(LocalError::Full { .. })));
    assert!(device.ledger.failure().is_some());
    device.disk.heal();
    device.ledger.retry().unwrap();
    assert!(device.ledger.flushed(ticket));
}

#[test]
fn a_layer_on_a_real_disk_is_there_again_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let data: Vec<u8> = (0..300_000u32).map(|i| (i % 249) as u8).collect();
    let open = || {
        let disk = Arc::new(crate::disk::RealDisk::new(dir.path()).unwrap());
        let ledger = Arc::new(Ledger::open(&dir.path().join("box.db"), Mode::Inline).unwrap());
        (Layers::open(disk, ledger.clone()).unwrap(), ledger)
    };
    {
        let (layers, ledger) = open();
        layers.begin(FILE, 1, 0);
        layers.write(FILE, 1, 5_000_000_000, &data).unwrap();
        layers.punch(FILE, 1, 5_000_100_000, 50_000).unwrap();
        let ticket = ledger.submit(layers.unit(FILE, 1).unwrap());
        ledger.flush(ticket, true).unwrap();
    }
    let (layers, _ledger) = open();
    let mut buf = vec![1; 400_000];
    let parts = layers.read(FILE, 1, 4_999_900_000, &mut buf).unwrap();
    assert_eq!(
        parts.iter().map(|(_, held)| *held).collect::<Vec<_>>(),
        [Held::Zeros, Held::Data, Held::Zeros, Held::Data]
    );
    assert_eq!(parts.last().map(|(range, _)| range.end), Some(5_000_300_000));
    let mut expected = data.clone();
    expected[100_000..150_000].fill(0);
    assert!(buf[..100_000].iter().all(|b| *b == 0) && buf[100_000..] == expected);
}

#[test]
fn a_layer_begun_anew_leaves_the_older_one_whole_for_a_power_cut() {
    let device = fresh();
    device.layers.begin(FILE, 1, 0);
    device.layers.write(FILE, 1, 0, &[1; 70_000]).unwrap();
    device.journal(FILE, 1);
    device.save();
    let (rows, file) = device.layers.removal(FILE, 1).unwrap();
    device.layers.drop_file(file, device.ledger.submit(rows)).unwrap();
    device.layers.begin(FILE, 1, 0);
    device.layers.write(FILE, 1, 0, &[2; 80_000]).unwrap();
    let device = device.power_cut(&mut || true);
    assert!(!device.layers.contains(FILE, 1).unwrap(), "the old one went before its file was emptied");
}

#[test]
fn many_dirty_files_in_a_group_are_durable_with_it() {
    let device = fresh();
    for n in 0..3 * SYNC_FILES_MAX as u64 {
        device.layers.begin(FileId(n), 1, 0);
        device.layers.write(FileId(n), 1, 0, &[n as u8; 70_000]).unwrap();
        device.journal(FileId(n), 1);
    }
    device.save();
    let device = device.power_cut(&mut || false);
    for n in 0..3 * SYNC_FILES_MAX as u64 {
        let mut buf = [0; 1];
        device.layers.read(FileId(n), 1, 69_999, &mut buf).unwrap();
        assert_eq!(buf[0], n as u8);
    }
}

#[test]
fn files_go_only_once_their_removal_is_durable_and_orphans_at_the_next_start() {
    let device = fresh();
    for generation in [1, 2] {
        device.layers.begin(FILE, generation, 0);
        device.layers.write(FILE, generation, 0, &[1; 70_000]).unwrap();
        device.journal(FILE, generation);
    }
    device.save();
    assert_eq!(device.layers.dirty_bytes(), 140_000);
    let ticket = device.ledger.submit(vec![Write::ClearGeneration { generation: 1 }]);
    device.layers.drop_generation(1, ticket).unwrap();
    let (rows, file) = device.layers.removal(FILE, 2).unwrap();
    device.layers.drop_file(file, device.ledger.submit(rows)).unwrap();
    assert_eq!(device.layers.dirty_bytes(), 0);
    assert!(matches!(device.layers.state(FILE, 1), Err(LocalError::NoLayer { .. })));
    assert!(matches!(device.layers.state(FILE, 2), Err(LocalError::NoLayer { .. })));
    assert_eq!(device.disk.list(DIRTY).unwrap().len(), 2, "a power cut now brings the rows back");
    device.save();
    device.layers.bury().unwrap();
    assert_eq!(device.disk.list(DIRTY).unwrap().len(), 0);

    device.layers.begin(FILE, 4, 0);
    device.layers.write(FILE, 4, 0, &[1; 70_000]).unwrap();
    let device = device.power_cut(&mut || true);
    assert_eq!(device.disk.list(DIRTY).unwrap().len(), 0, "never journalled");
    assert!(!device.layers.contains(FILE, 4).unwrap());
}

#[test]
fn journalled_layers_leave_memory_and_come_back_when_asked_for() {
    let device = fresh();
    let count = LAYERS_IN_MEMORY_MAX as u64 + 10;
    for n in 1..=count {
        device.layers.begin(FileId(n), 1, 0);
        device.layers.write(FileId(n), 1, 0, &n.to_le_bytes()).unwrap();
        device.journal(FileId(n), 1);
        if n % 1000 == 0 {
            device.ledger.flush(device.ledger.last(), false).unwrap();
        }
    }
    assert!(device.layers.table.lock().layers.len() < LAYERS_IN_MEMORY_MAX / 2);
    for n in [1, 2, count / 2, count] {
        let mut buf = [0; 8];
        device.layers.read(FileId(n), 1, 0, &mut buf).unwrap();
        assert_eq!(buf, n.to_le_bytes());
        device.layers.write(FileId(n), 1, 8, b"more").unwrap();
        assert_eq!(device.layers.size(FileId(n), 1).unwrap(), 12);
    }
}

#[test]
fn a_torn_row_is_damage_and_not_an_empty_file() {
    let device = fresh();
    device.layers.begin(FILE, 1, 10);
    device.layers.write(FILE, 1, 3, b"data").unwrap();
    let unit = device.layers.unit(FILE, 1).unwrap();
    let [Write::Small { bytes: Some(bytes), .. }] = &unit[..] else { panic!("{unit:?}") };
    for cut in 0..bytes.len() {
        let device = fresh();
        device.ledger.submit(vec![Write::Small { file: FILE, generation: 1, bytes: Some(bytes[..cut].into()) }]);
        assert!(matches!(device.layers.state(FILE, 1), Err(LocalError::Damaged { .. })), "cut at {cut}");
    }
}
