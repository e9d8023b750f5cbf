//! Measures how fast a folder becomes packs: `cargo run --release -p ouro-repo --example pipeline -- FOLDER [WORKERS]`.
//!
//! Nothing is kept: the store counts what it is given. Printed are megabytes (10^6 bytes) of file data per second and per second of CPU time.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;

use bytes::Bytes;
use futures::channel::oneshot;
use futures::executor::block_on;
use ouro_core::content::{BlobRef, Content, Locator};
use ouro_core::id::{BlobId, PackId};
use ouro_core::port::{BoxFuture, Clock, Rng, Runtime};
use ouro_remote::{ListedObject, MemoryStore, RemoteError, Store, Usage};
use ouro_repo::{
    Effort, InitOptions, Known, Pipeline, PipelineOptions, Ports, Repository, Secret, Sink, SinkError, Source,
};
use parking_lot::Mutex;

/// Forgets packs, remembers the rest.
struct Sieve(MemoryStore);

impl Store for Sieve {
    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, RemoteError>> {
        self.0.get(name)
    }
    fn get_range<'a>(
        &'a self,
        name: &'a str,
        from: u64,
        len: u64,
    ) -> BoxFuture<'a, Result<Option<Bytes>, RemoteError>> {
        self.0.get_range(name, from, len)
    }
    fn publish<'a>(&'a self, name: &'a str, bytes: Bytes) -> BoxFuture<'a, Result<(), RemoteError>> {
        if name.starts_with("packs/") { Box::pin(async { Ok(()) }) } else { self.0.publish(name, bytes) }
    }
    fn overwrite<'a>(&'a self, name: &'a str, bytes: Bytes) -> BoxFuture<'a, Result<(), RemoteError>> {
        self.0.overwrite(name, bytes)
    }
    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), RemoteError>> {
        self.0.delete(name)
    }
    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<ListedObject>, RemoteError>> {
        self.0.list(prefix)
    }
    fn usage(&self) -> Usage {
        self.0.usage()
    }
}

struct Now;

impl Clock for Now {
    fn wall_ns(&self) -> i64 {
        0
    }
    #[expect(clippy::disallowed_methods, reason = "a measurement needs the real clock")]
    fn monotonic_ns(&self) -> u64 {
        static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
        START.get_or_init(std::time::Instant::now).elapsed().as_nanos() as u64
    }
}

/// Numbers fit for a measurement, not for keys.
struct Counter(Mutex<u64>);

impl Rng for Counter {
    fn fill(&self, bytes: &mut [u8]) {
        let mut drawn = self.0.lock();
        *drawn += 1;
        blake3::Hasher::new().update(&drawn.to_le_bytes()).finalize_xof().fill(bytes);
    }
}

type Work = Box<dyn FnOnce() + Send>;

/// Some threads that take work in turn.
struct Threads(Mutex<mpsc::Sender<Work>>);

impl Threads {
    #[expect(clippy::disallowed_methods, reason = "this is the adapter of the Runtime port")]
    fn start(count: usize) -> Threads {
        let (sender, receiver) = mpsc::channel::<Work>();
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..count {
            let receiver = receiver.clone();
            std::thread::spawn(move || {
                loop {
                    let next = receiver.lock().recv();
                    match next {
                        Ok(work) => work(),
                        Err(_) => return,
                    }
                }
            });
        }
        Threads(Mutex::new(sender))
    }
}

impl Runtime for Threads {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        drop(self.blocking(Box::new(|| block_on(task))));
    }
    fn blocking(&self, work: Work) -> BoxFuture<'static, ()> {
        let (done, waits) = oneshot::channel();
        let work = Box::new(move || {
            work();
            let _ = done.send(());
        });
        self.0.lock().send(work).expect("the threads live as long as this");
        Box::pin(async move { waits.await.unwrap_or(()) })
    }
    fn sleep(&self, _millis: u64) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }
}

struct Nothing;

impl Known for Nothing {
    fn locate(&self, _blob: &BlobId) -> Option<Locator> {
        None
    }
}

impl Sink for Nothing {
    fn packed(&mut self, _pack: PackId, _blobs: &[BlobRef]) -> Result<(), SinkError> {
        Ok(())
    }
    fn stored(&mut self, _tag: u64, _content: io::Result<Content>) -> Result<(), SinkError> {
        Ok(())
    }
}

fn files_below(folder: &Path, files: &mut Vec<(PathBuf, u64)>) -> io::Result<()> {
    let mut entries: Vec<_> = std::fs::read_dir(folder)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(|entry| entry.file_name());
    for entry in entries {
        let about = entry.metadata()?;
        if about.is_dir() {
            files_below(&entry.path(), files)?;
        } else if about.is_file() {
            files.push((entry.path(), about.len()));
        }
    }
    Ok(())
}

/// Seconds of CPU time that this process has used, in steps of a hundredth.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    fields.iter().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("name a folder")?;
    let workers = match arguments.next() {
        Some(number) => number.parse()?,
        None => PipelineOptions::default().workers,
    };
    let mut files = Vec::new();
    files_below(Path::new(&folder), &mut files)?;
    let clock = Arc::new(Now);
    let runtime = Arc::new(Threads::start(workers + 1));
    let ports = Ports { clock: clock.clone(), rng: Arc::new(Counter(Mutex::new(0))), runtime };
    let secret = Secret::Passphrase("measured".to_owned().into());
    let store = Arc::new(Sieve(MemoryStore::new()));
    let repo = block_on(Repository::init(store, ports, &secret, InitOptions::default()))?;
    for effort in [Effort::Quick, Effort::Thorough] {
        let pipeline = Pipeline::new(repo.clone(), Arc::new(Nothing), PipelineOptions { workers, uploads: 3, effort });
        let (start, cpu_start) = (clock.monotonic_ns(), cpu_seconds());
        let sources = files.iter().enumerate().map(|(tag, (path, bytes))| {
            let path = path.clone();
            let open = Box::new(move || Ok(Box::new(File::open(path)?) as Box<dyn io::Read + Send>));
            Source { tag: tag as u64, bytes_expected: *bytes, open }
        });
        let totals = block_on(pipeline.run(sources, &mut Nothing))?;
        let (wall, cpu) = ((clock.monotonic_ns() - start) as f64 / 1e9, cpu_seconds() - cpu_start);
        let megabytes = totals.bytes_read as f64 / 1e6;
        println!(
            "{effort:?}, {workers} workers: {} files, {megabytes:.0} MB ({:.0} MB known) in {wall:.1} s, {cpu:.1} CPU s: {:.0} MB/s, {:.0} MB per CPU s; {} packs, {:.0} MB stored",
            totals.sources,
            totals.bytes_known as f64 / 1e6,
            megabytes / wall,
            megabytes / cpu,
            totals.packs,
            totals.bytes_uploaded as f64 / 1e6,
        );
    }
    Ok(())
}
