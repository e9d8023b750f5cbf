//! The process that runs the engine: its socket, its mounts, its end.

mod mounts;
mod ready;

use crate::guard;
use crate::places::Places;
use crate::progress::Bar;
use crate::server::{Answers, LineSender, Server, Turn, Whose, take_turn};
use crate::wire::Line;
use anyhow::{Context, Result};
use mounts::{Mounts, Patience};
use ouro_core::port::BoxFuture;
use ouro_engine::api::{Failure, FailureKind, Progress, Request, Response};
use ouro_engine::{Engine, EngineDirs};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

/// Threads of the process's own runtime: it only passes requests on, each into a thread for blocking work.
const WORKERS: usize = 1;

/// How long an engine that was started for a mount waits for somebody to ask for one.
const FIRST_MOUNT_WITHIN: Duration = Duration::from_secs(60);

/// The engine cannot be told that its asker went away; so a long wait is asked for in pieces.
const WAIT_PIECE: Duration = Duration::from_secs(5);

/// How long a host stays.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lingers {
    /// Only when it is told to.
    Always,
    /// With its last mount.
    WhileMounted,
}

/// What is shared by everybody who may end the host.
struct Host {
    engine: Arc<Engine>,
    mounts: Arc<Mounts>,
    lingers: Lingers,
    work: Mutex<Work>,
    /// Somebody asked for the end.
    stop: Notify,
    /// Perhaps nothing is left to do.
    idle: Notify,
    /// It is ending.
    over: watch::Sender<bool>,
}

/// Answers one request by an engine that begins and ends with it; by the running one, if one has come up meanwhile.
///
/// # Errors
///
/// If the turn to run an engine does not come.
pub(crate) fn answer_here(places: &Places, request: Request, bar: &Bar) -> Result<Response> {
    let runtime = new_runtime()?;
    let turn = loop {
        match runtime.block_on(take_turn(places))? {
            Whose::Ours(turn) => break turn,
            Whose::Theirs(mut client) => {
                if let Some(response) = client.ask(request.clone(), &mut |step| bar.step(step))? {
                    return Ok(response);
                }
            }
        }
    };
    keep_turn(turn);
    let engine = match Engine::start(dirs(places)) {
        Ok(engine) => engine,
        Err(failure) => return Ok(Response::Failed(failure)),
    };
    let bar = bar.clone();
    let response = engine.call(request, Arc::new(move |progress| bar.step(&progress)));
    Ok(end(&engine, response))
}

/// Runs the engine until it is told to end; `detached` as `ourobox fuse` starts it: reports readiness and ends with its last mount.
///
/// # Errors
///
/// If the parent cannot be told how it went.
pub(crate) fn serve(places: &Places, detached: bool) -> Result<Response> {
    if detached && let Err(error) = rustix::process::setsid() {
        // Meant to leave the terminal, so that closing it does not end the mount; refused to who leads a group already.
        tracing::debug!(%error, "stays in its session");
    }
    let lingers = if detached { Lingers::WhileMounted } else { Lingers::Always };
    let started = start(places, lingers);
    if detached {
        let report = match &started {
            Ok(_) => Response::Done,
            Err(failure) => Response::Failed(failure.clone()),
        };
        ready::tell_parent(&report)?;
    }
    match started {
        Ok((runtime, server, signals, host)) => {
            ready::tell_systemd();
            Ok(run(runtime, server, signals, &host))
        }
        Err(failure) => Ok(Response::Failed(failure)),
    }
}

/// Mounts in this process and stays until the mount ends.
///
/// # Errors
///
/// Never; what fails is an answer.
pub(crate) fn mount_here(places: &Places, request: Request) -> Result<Response> {
    let (runtime, server, signals, host) = match start(places, Lingers::WhileMounted) {
        Ok(started) => started,
        Err(failure) => return Ok(Response::Failed(failure)),
    };
    let (lines, _nobody_looks) = tokio::sync::mpsc::channel(1);
    let response = runtime.block_on(host.carry_out(request, lines));
    match &response {
        Response::Mounted { mountpoint } => {
            tracing::info!(mountpoint = %mountpoint.display(), "mounted");
            ready::tell_systemd();
            Ok(run(runtime, server, signals, &host))
        }
        _ => Ok(end(&host.engine, response)),
    }
}

fn dirs(places: &Places) -> EngineDirs {
    EngineDirs { data: places.data.clone(), cache: places.cache.clone(), config: places.config.clone() }
}

fn new_runtime() -> Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(WORKERS).thread_name("ourobox-door").enable_all();
    builder.build().context("cannot start threads")
}

/// Gives the turn back only with the process: the engine may hold things until then.
fn keep_turn(turn: Turn) -> Arc<Turn> {
    let turn = Arc::new(turn);
    std::mem::forget(Arc::clone(&turn));
    turn
}

/// An engine with its door and what ends it.
type Started = (Runtime, Server, Signals, Arc<Host>);

/// Makes socket and engine.
fn start(places: &Places, lingers: Lingers) -> Result<Started, Failure> {
    let failed = |error: anyhow::Error| Failure { kind: FailureKind::NeedsUser, message: format!("{error:#}") };
    let runtime = new_runtime().map_err(failed)?;
    let signals = {
        let _inside = runtime.enter();
        Signals::catch().map_err(failed)?
    };
    let turn = match runtime.block_on(take_turn(places)).map_err(failed)? {
        Whose::Ours(turn) => turn,
        Whose::Theirs(_) => {
            let message = "an engine is running already: `ourobox fuse` without --foreground uses it".to_owned();
            return Err(Failure { kind: FailureKind::Conflict, message });
        }
    };
    let engine = Engine::start(dirs(places))?;
    let server = {
        let _inside = runtime.enter();
        Server::open(places, &turn).map_err(failed)?
    };
    let turn = keep_turn(turn);
    if let Err(error) = guard::start(&places.lock_file()) {
        tracing::warn!("{error:#}");
    }
    let mounts = Arc::new(Mounts::new(Arc::clone(&engine), turn, places.own_folders()));
    let host = Host {
        engine,
        mounts,
        lingers,
        work: Mutex::default(),
        stop: Notify::new(),
        idle: Notify::new(),
        over: watch::Sender::new(false),
    };
    Ok((runtime, server, signals, Arc::new(host)))
}

/// Serves until the end, then takes everything down in good order.
fn run(runtime: Runtime, server: Server, mut signals: Signals, host: &Arc<Host>) -> Response {
    let end_of_service = async {
        tokio::select! {
            biased;
            () = signals.next() => {}
            () = host.stop.notified() => {}
            () = host.until_idle() => {}
        }
    };
    let end_of_service = async {
        end_of_service.await;
        host.work.lock().ending = true;
        host.over.send_replace(true);
    };
    runtime.block_on(server.serve(Arc::clone(host) as Arc<dyn Answers>, end_of_service));
    // What was asked for through the socket may still be at work in a thread; the engine's end makes it harmless.
    runtime.block_on(host.mounts.end_all());
    let response = end(&host.engine, Response::Done);
    runtime.shutdown_background();
    response
}

/// Ends the engine; a failure in that goes before what went well.
fn end(engine: &Engine, response: Response) -> Response {
    match engine.shutdown() {
        Err(failure) if !matches!(response, Response::Failed(_)) => Response::Failed(failure),
        _ => response,
    }
}

/// The signals that end the engine, caught from before anything is mounted: one that comes early is not lost.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Must be called inside a runtime.
    fn catch() -> Result<Signals> {
        let catch = |kind| signal(kind).context("signals cannot be caught");
        Ok(Signals {
            terminate: catch(SignalKind::terminate())?,
            interrupt: catch(SignalKind::interrupt())?,
            hangup: catch(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = self.hangup.recv() => {}
        }
        tracing::info!("ending on a signal");
    }
}

/// What keeps a host from ending.
#[derive(Default)]
struct Work {
    /// Requests under way.
    requests: usize,
    /// No more are taken.
    ending: bool,
}

impl Host {
    /// Resolves when the host has nothing left to do; never for one that stays.
    async fn until_idle(&self) {
        if self.lingers == Lingers::Always {
            return std::future::pending().await;
        }
        // A client that started this engine and died before it asked shall not leave it behind.
        let first = timeout(FIRST_MOUNT_WITHIN, self.mounts.first());
        if first.await.is_err() {
            tracing::info!("nobody asked for a mount");
            return;
        }
        loop {
            let idle = self.idle.notified();
            let gone = self.mounts.changed();
            if self.end_if_idle() {
                return;
            }
            tokio::select! {
                () = idle => {}
                () = gone => {}
            }
        }
    }

    /// Takes no more requests if nothing is mounted and nothing under way; says whether that is so.
    fn end_if_idle(&self) -> bool {
        let mut work = self.work.lock();
        work.ending = work.ending || (work.requests == 0 && self.mounts.is_empty());
        work.ending
    }

    async fn carry_out(&self, request: Request, lines: LineSender) -> Response {
        match request {
            Request::Mount(request) => {
                let mounts = Arc::clone(&self.mounts);
                blocking(move || mounts.mount(&request)).await
            }
            Request::Unmount { mountpoint } => self.mounts.unmount(&mountpoint, Patience::Short).await,
            Request::Stop => {
                self.mounts.end_all().await;
                self.stop.notify_one();
                Response::Done
            }
            Request::Wait { path, timeout_seconds } => self.wait(path, timeout_seconds, lines).await,
            request => self.call(request, lines).await,
        }
    }

    async fn call(&self, request: Request, lines: LineSender) -> Response {
        let engine = Arc::clone(&self.engine);
        // A client that is slow to read misses steps, not the answer.
        let tell = move |step: Progress| drop(lines.try_send(Line::Progress(step)));
        blocking(move || engine.call(request, Arc::new(tell))).await
    }

    /// Tells events until the box or this engine goes. Who listens does not keep an engine from ending.
    async fn tell_events(&self, name: Option<String>, lines: LineSender) -> Response {
        let engine = Arc::clone(&self.engine);
        let mut events = match engine.events(name.as_deref()) {
            Ok(events) => events,
            Err(failure) => return Response::Failed(failure),
        };
        let mut over = self.over.subscribe();
        let tell_all = async {
            while let Some(event) = events.next().await {
                // A client that is slow to read is told the next one later; nobody else waits for it.
                if lines.send(Line::Event(Box::new(event))).await.is_err() {
                    break;
                }
            }
        };
        tokio::select! {
            biased;
            _ = over.wait_for(|over| *over) => {}
            () = tell_all => {}
        }
        Response::Done
    }

    /// Asks again and again for a short wait, so that nothing waits on when this future is dropped.
    async fn wait(&self, path: Option<std::path::PathBuf>, seconds: Option<u64>, lines: LineSender) -> Response {
        let began = Instant::now();
        loop {
            let left = seconds.map(|seconds| Duration::from_secs(seconds).saturating_sub(began.elapsed()));
            let piece = left.map_or(WAIT_PIECE, |left| left.min(WAIT_PIECE));
            let piece_began = Instant::now();
            let request = Request::Wait { path: path.clone(), timeout_seconds: Some(whole_seconds(piece)) };
            let response = self.call(request, lines.clone()).await;
            let ran_out = matches!(&response, Response::Failed(f) if f.kind == FailureKind::Offline)
                && piece_began.elapsed() + Duration::from_millis(100) >= piece;
            let more = left.is_none_or(|left| left > WAIT_PIECE);
            if !(ran_out && more) {
                return response;
            }
        }
    }
}

/// Rounded up.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

/// Runs what blocks off the runtime's own thread.
async fn blocking(work: impl FnOnce() -> Response + Send + 'static) -> Response {
    let mut one = tokio::task::JoinSet::new();
    one.spawn_blocking(work);
    match one.join_next().await {
        Some(Ok(response)) => response,
        _ => {
            let message = "the request broke off: this is a mistake in Ourobox; the log says more".to_owned();
            Response::Failed(Failure { kind: FailureKind::Bug, message })
        }
    }
}

impl Answers for Host {
    fn answer(self: Arc<Self>, request: Request, lines: LineSender) -> BoxFuture<'static, Option<Response>> {
        Box::pin(async move {
            if let Request::Events { name } = request {
                return Some(self.tell_events(name, lines).await);
            }
            let _busy = Busy::new(&self)?;
            Some(self.carry_out(request, lines).await)
        })
    }
}

/// A request under way.
struct Busy<'a>(&'a Host);

impl<'a> Busy<'a> {
    fn new(host: &'a Host) -> Option<Busy<'a>> {
        let mut work = host.work.lock();
        if work.ending {
            return None;
        }
        work.requests += 1;
        Some(Busy(host))
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.work.lock().requests -= 1;
        self.0.idle.notify_one();
    }
}
