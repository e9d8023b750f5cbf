use super::*;
use ouro_core::port::BoxFuture;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn row(n: u64) -> Vec<Write> {
    // Two rows a unit: all or none of them.
    vec![
        Write::Pending { generation: 1, file: FileId(n), delta: Some(n.to_le_bytes().to_vec()) },
        Write::Meta { key: "last", value: Some(n.to_le_bytes().to_vec()) },
    ]
}

/// The number of units in it, if it holds exactly the first ones.
fn prefix(ledger: &Ledger) -> Option<u64> {
    let loaded = ledger.load().unwrap();
    let rows = loaded.pending.get(&1).cloned().unwrap_or_default();
    let count = rows.len() as u64;
    let in_order = rows.iter().zip(1..).all(|((file, delta), n)| *file == FileId(n) && *delta == u64::to_le_bytes(n));
    let last = loaded.meta.get("last").map_or(0, |bytes| u64::from_le_bytes(bytes[..].try_into().unwrap()));
    (in_order && last == count).then_some(count)
}

/// Threads of their own for blocking work; futures are run where they are spawned.
struct Threads;

impl Runtime for Threads {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        drop(task);
    }
    #[expect(clippy::disallowed_methods, reason = "a test's runtime")]
    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        std::thread::spawn(work);
        Box::pin(std::future::ready(()))
    }
    fn sleep(&self, _millis: u64) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

fn threaded() -> Mode {
    Mode::Threaded(Arc::new(Threads))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_crash_leaves_a_prefix_with_all_that_was_flushed(flushes in proptest::collection::vec(0u8..8, 1..60)) {
        let ledger = Ledger::open_in_memory(None, Mode::Inline).unwrap();
        let (mut flushed, mut durable) = (0, 0);
        for (n, flush) in (1u64..).zip(flushes) {
            let ticket = ledger.submit(row(n));
            match flush {
                0 => {
                    ledger.flush(ticket, true).unwrap();
                    durable = n;
                    flushed = n;
                }
                1 | 2 => {
                    ledger.flush(ticket, false).unwrap();
                    flushed = n;
                }
                _ => {}
            }
            let image = Ledger::open_in_memory(Some(ledger.image().unwrap()), Mode::Inline).unwrap();
            prop_assert_eq!(prefix(&image), Some(flushed), "the process died");
            let image = Ledger::open_in_memory(ledger.durable_image().map(|i| i.to_vec()), Mode::Inline).unwrap();
            prop_assert_eq!(prefix(&image), Some(durable), "the power failed");
        }
    }
}

#[test]
fn files_copied_while_the_writer_works_hold_a_prefix() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("box.db");
    let ledger = Ledger::open(&path, threaded()).unwrap();
    // Two files cannot be copied at one moment: without checkpoints the first of them does not change.
    ledger.shared.writer.lock().connection.execute_batch("PRAGMA wal_autocheckpoint = 0").unwrap();
    let mut next = 0;
    for round in 0..30 {
        let mut ticket = Ticket::default();
        for _ in 0..50 {
            next += 1;
            ticket = ledger.submit(row(next));
        }
        ledger.flush(ticket, round % 3 == 0).unwrap();
        let promised = next;
        // These may or may not be in the copy.
        for _ in 0..50 {
            next += 1;
            ledger.submit(row(next));
        }
        let copy = dir.path().join(format!("copy{round}.db"));
        std::fs::copy(dir.path().join("box.db-wal"), dir.path().join(format!("copy{round}.db-wal"))).unwrap();
        std::fs::copy(&path, &copy).unwrap();
        let copy = Ledger::open(&copy, Mode::Inline).unwrap();
        let held = prefix(&copy).expect("a prefix");
        assert!(held >= promised && held <= next, "{held} of {promised}..={next}");
    }
}

#[test]
fn a_log_cut_off_anywhere_holds_a_prefix() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("box.db");
    let ledger = Ledger::open(&path, Mode::Inline).unwrap();
    for n in 1..=40 {
        let ticket = ledger.submit(row(n));
        ledger.flush(ticket, n % 7 == 0).unwrap();
    }
    let log = std::fs::read(dir.path().join("box.db-wal")).unwrap();
    let database = std::fs::read(&path).unwrap();
    let mut seen = Vec::new();
    for cut in (0..=log.len()).step_by(3001).chain([log.len()]) {
        let copy = dir.path().join(format!("cut{cut}.db"));
        std::fs::write(&copy, &database).unwrap();
        std::fs::write(dir.path().join(format!("cut{cut}.db-wal")), &log[..cut]).unwrap();
        let copy = Ledger::open(&copy, Mode::Inline).unwrap();
        seen.push(prefix(&copy).expect("a prefix"));
    }
    assert!(seen.is_sorted() && seen.first() < seen.last() && seen.last() == Some(&40), "{seen:?}");
}

#[test]
fn units_of_many_threads_are_all_written_each_thread_in_its_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("box.db");
    let ledger = Ledger::open(&path, threaded()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let ledger = &ledger;
            scope.spawn(move || {
                for n in 1..=300u64 {
                    let ticket = ledger.submit(vec![Write::Pending {
                        generation: thread,
                        file: FileId(1),
                        delta: Some(n.to_le_bytes().into()),
                    }]);
                    if n % 100 == 0 {
                        ledger.flush(ticket, true).unwrap();
                        assert!(ledger.flushed(ticket) && ledger.is_durable(ticket));
                    }
                }
            });
        }
    });
    drop(ledger);
    let loaded = Ledger::open(&path, Mode::Inline).unwrap().load().unwrap();
    for thread in 0..4 {
        assert_eq!(loaded.pending[&thread], [(FileId(1), 300u64.to_le_bytes().to_vec())]);
    }
}

#[test]
fn dropping_writes_what_is_queued() {
    let dir = tempfile::tempdir().unwrap();
    for (name, mode) in [("a.db", threaded()), ("b.db", Mode::Threaded(Arc::new(NeverRuns)))] {
        let path = dir.path().join(name);
        let ledger = Ledger::open(&path, mode).unwrap();
        ledger.submit(row(1));
        drop(ledger);
        assert_eq!(prefix(&Ledger::open(&path, Mode::Inline).unwrap()), Some(1), "{name}");
    }
}

struct NeverRuns;

impl Runtime for NeverRuns {
    fn spawn(&self, _task: BoxFuture<'static, ()>) {}
    fn blocking(&self, _work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
    fn sleep(&self, _millis: u64) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}

#[test]
fn every_kind_of_row_comes_back_and_goes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("box.db");
    let state = LayerState { size: u64::MAX >> 1, base_limit: 5, extents: vec![(0, 3), (7, u64::MAX >> 1)] };
    let derived = FileId::derived(9);
    let ledger = Ledger::open(&path, Mode::Inline).unwrap();
    ledger.submit(vec![
        Write::Pending { generation: 7, file: derived, delta: Some(vec![1]) },
        Write::Small { file: derived, generation: 7, bytes: Some(Arc::from([1, 2, 3])) },
        Write::Layer { file: FileId(5), generation: 7, state: Some(state.clone()) },
        Write::Meta { key: "device", value: Some(vec![9]) },
        Write::Pin { file: FileId(5), pin: Some(Pin::Online) },
        Write::LocalOnly { file: FileId(6), row: Some(vec![4]) },
    ]);
    ledger.close().unwrap();
    drop(ledger);
    let ledger = Ledger::open(&path, Mode::Inline).unwrap();
    let loaded = ledger.load().unwrap();
    assert_eq!(loaded.pending, BTreeMap::from([(7, vec![(derived, vec![1])])]));
    assert_eq!(loaded.small, [(derived, 7, 3)]);
    assert_eq!(loaded.layers, [(FileId(5), 7, state.clone())]);
    assert_eq!(loaded.meta, BTreeMap::from([("device".to_owned(), vec![9])]));
    assert_eq!(loaded.pins, [(FileId(5), Pin::Online)]);
    assert_eq!(loaded.local_only, [(FileId(6), vec![4])]);
    assert_eq!(ledger.small(derived, 7).unwrap().as_deref(), Some([1, 2, 3].as_slice()));
    assert_eq!(ledger.layer(FileId(5), 7).unwrap(), Some(state));
    ledger.submit(vec![
        Write::ClearGeneration { generation: 7 },
        Write::Meta { key: "device", value: None },
        Write::Pin { file: FileId(5), pin: None },
        Write::LocalOnly { file: FileId(6), row: None },
    ]);
    assert_eq!(ledger.small(derived, 7).unwrap(), None, "seen before it is written");
    assert_eq!(ledger.layer(FileId(5), 7).unwrap(), None);
    let loaded = ledger.load().unwrap();
    assert!(loaded.pending.is_empty() && loaded.small.is_empty() && loaded.layers.is_empty());
    assert!(loaded.meta.is_empty() && loaded.pins.is_empty() && loaded.local_only.is_empty());
    ledger.check().unwrap();
}

#[test]
fn what_was_submitted_is_read_before_it_is_written() {
    let ledger = Ledger::open_in_memory(None, Mode::Inline).unwrap();
    let small = |bytes: &[u8]| Write::Small { file: FileId(1), generation: 1, bytes: Some(bytes.into()) };
    ledger.submit(vec![small(b"old")]);
    let ticket = ledger.submit(vec![small(b"older"), small(b"new")]);
    assert!(!ledger.flushed(ticket));
    assert_eq!(ledger.small(FileId(1), 1).unwrap().as_deref(), Some(b"new".as_slice()));
    assert_eq!(ledger.small(FileId(1), 2).unwrap(), None);
    ledger.flush(ticket, false).unwrap();
    assert_eq!(ledger.small(FileId(1), 1).unwrap().as_deref(), Some(b"new".as_slice()));
}

#[test]
fn records_are_found_by_log_and_by_time() {
    let ledger = Ledger::open_in_memory(None, Mode::Inline).unwrap();
    let record = |device: u32, seq: u64, hlc: u64| RecordRow {
        device: DeviceNo(device),
        seq: Seq(seq),
        hlc: Hlc(hlc),
        bytes: vec![seq as u8],
    };
    let rows = [record(1, 1, 10), record(1, 2, 30), record(1, 3, u64::MAX), record(2, 1, 20), record(2, 2, 30)];
    for row in &rows {
        ledger.submit(vec![Write::Record {
            device: row.device,
            seq: row.seq,
            hlc: row.hlc,
            bytes: Some(row.bytes.clone()),
        }]);
    }
    assert_eq!(ledger.record(DeviceNo(1), Seq(2)).unwrap().as_ref(), Some(&rows[1]));
    assert_eq!(ledger.records_after(DeviceNo(1), Seq(1), 10).unwrap(), rows[1..3]);
    assert_eq!(ledger.records_after(DeviceNo(1), Seq(0), 2).unwrap(), rows[..2]);
    let by_time = ledger.records_by_time(Hlc(11), Hlc(30), 10).unwrap();
    assert_eq!(by_time, [rows[3].clone(), rows[1].clone(), rows[4].clone()]);
    assert_eq!(ledger.records_by_time(Hlc(0), Hlc(u64::MAX), 10).unwrap().last(), Some(&rows[2]));
    assert_eq!(ledger.logs().unwrap(), [(DeviceNo(1), Seq(1), Seq(3)), (DeviceNo(2), Seq(1), Seq(2))]);
    ledger.submit(vec![Write::Record { device: DeviceNo(1), seq: Seq(1), hlc: Hlc(10), bytes: None }]);
    assert_eq!(ledger.record(DeviceNo(1), Seq(1)).unwrap(), None);
    assert_eq!(ledger.logs().unwrap()[0], (DeviceNo(1), Seq(2), Seq(3)));
}

fn limit_pages(ledger: &Ledger, pages: i64) {
    ledger.shared.writer.lock().connection.execute_batch(&format!("PRAGMA max_page_count = {pages}")).unwrap();
}

fn big(n: u64) -> Vec<Write> {
    vec![Write::Small { file: FileId(n), generation: 1, bytes: Some(vec![n as u8; 60_000].into()) }]
}

#[test]
fn a_full_disk_stops_writing_with_the_reason_and_a_retry_loses_nothing() {
    for mode in [Mode::Inline, threaded()] {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(&dir.path().join("box.db"), mode).unwrap();
        let heard = Arc::new(Mutex::new(0));
        let count = heard.clone();
        ledger.on_error(Box::new(move |error| {
            assert!(error.is_full());
            *count.lock() += 1;
        }));
        ledger.flush(ledger.submit(big(1)), true).unwrap();
        limit_pages(&ledger, 60);
        let tickets: Vec<Ticket> = (2..10).map(|n| ledger.submit(big(n))).collect();
        let outcome = ledger.flush(tickets[7], false);
        assert!(matches!(outcome, Err(LedgerError::Full { .. })), "{outcome:?}");
        assert!(matches!(ledger.flush(tickets[7], true), Err(LedgerError::Full { .. })), "it stays said");
        assert!(ledger.failure().is_some_and(|f| f.is_full()));
        assert!(!ledger.flushed(tickets[7]));
        assert_eq!(ledger.small(FileId(9), 1).unwrap().map(|b| b.len()), Some(60_000), "still readable");
        assert!(ledger.retry().is_err());
        limit_pages(&ledger, 100_000);
        ledger.retry().unwrap();
        ledger.flush(tickets[7], true).unwrap();
        assert!(ledger.failure().is_none());
        assert_eq!(ledger.load().unwrap().small.len(), 9);
        // Told at least once for the failure and once for the retry that failed.
        assert!(*heard.lock() >= 2);
    }
}

#[test]
fn a_queue_that_overflows_while_stopped_is_never_written_with_a_gap() {
    let ledger = Ledger::open_in_memory(None, Mode::Inline).unwrap();
    ledger.flush(ledger.submit(row(1)), false).unwrap();
    limit_pages(&ledger, 30);
    let needed = (QUEUE_BYTES_MAX / 60_000) as u64 + 2;
    for n in 0..needed {
        ledger.submit(big(n));
    }
    ledger.submit(row(2));
    limit_pages(&ledger, 1 << 30);
    assert!(matches!(ledger.retry(), Err(LedgerError::Stopped)));
    assert!(matches!(ledger.flush(ledger.last(), false), Err(LedgerError::Stopped)));
    let image = Ledger::open_in_memory(Some(ledger.image().unwrap()), Mode::Inline).unwrap();
    assert_eq!(prefix(&image), Some(1));
}

#[test]
fn a_damaged_ledger_is_an_error_and_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("box.db");
    let garbage = vec![0x5a; 20_000];
    std::fs::write(&path, &garbage).unwrap();
    assert!(matches!(Ledger::open(&path, Mode::Inline), Err(LedgerError::Damaged { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), garbage);

    let other = dir.path().join("other.db");
    rusqlite::Connection::open(&other).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    assert!(matches!(Ledger::open(&other, Mode::Inline), Err(LedgerError::Damaged { .. })));

    let newer = dir.path().join("newer.db");
    rusqlite::Connection::open(&newer).unwrap().execute_batch("CREATE TABLE t (x); PRAGMA user_version = 99").unwrap();
    assert!(matches!(Ledger::open(&newer, Mode::Inline), Err(LedgerError::Newer { found: 99, .. })));
}

#[test]
fn damage_inside_is_found_when_read_and_by_check() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("box.db");
    let ledger = Ledger::open(&path, Mode::Inline).unwrap();
    for n in 1..=2000 {
        ledger.submit(row(n));
    }
    ledger.close().unwrap();
    drop(ledger);
    let mut bytes = std::fs::read(&path).unwrap();
    let half = bytes.len() / 2;
    bytes[half..].fill(0xa5);
    std::fs::write(&path, &bytes).unwrap();
    let ledger = Ledger::open(&path, Mode::Inline).unwrap();
    assert!(matches!(ledger.check(), Err(LedgerError::Damaged { .. })));
    assert!(matches!(ledger.load(), Err(LedgerError::Damaged { .. })));
}
