//! The engine's end of the private socket.

use crate::client::{Client, short_path};
use crate::holder;
use crate::places::Places;
use crate::wire::{CALL_BYTES_MAX, Call, Line, VERSION, to_line};
use anyhow::{Context, Result, bail};
use ouro_core::port::BoxFuture;
use ouro_engine::api::{Failure, FailureKind, Request, Response};
use ouro_fuse::Connection;
use rustix::fs::FlockOperation;
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// Clients served at once; more wait in the socket's queue.
const CLIENTS_MAX: usize = 64;

/// How long a process waits for its turn, and how often it looks.
const TURN_WITHIN: Duration = Duration::from_secs(15);
const TURN_EVERY: Duration = Duration::from_millis(50);

/// How long clients may still be written to when the engine ends.
const LAST_WORDS_WITHIN: Duration = Duration::from_secs(1);

/// Lines that may wait for a slow client. Of progress, what comes then is dropped, since the next one says more; events wait to be asked for.
const LINES_QUEUE: usize = 16;

/// Where lines before the answer go.
pub(crate) type LineSender = mpsc::Sender<Line>;

/// Who answers requests.
pub(crate) trait Answers: Send + Sync + 'static {
    /// Answers one request; `None` if it will not, because it is ending. The future is dropped when the client goes away.
    fn answer(self: Arc<Self>, request: Request, lines: LineSender) -> BoxFuture<'static, Option<Response>>;
}

/// The right to run the engine of some places: a lock that goes with the process.
pub(crate) struct Turn(File);

impl Turn {
    /// Writes down what this process has mounted, for whoever must end it if this process dies and cannot.
    pub(crate) fn note(&self, mounts: &[Connection]) {
        if let Err(error) = holder::note(&self.0, mounts) {
            tracing::warn!(%error, "if this engine is killed, its mounts may have to be taken down by hand");
        }
    }
}

/// Whose turn it is to run an engine.
pub(crate) enum Whose {
    /// This process's.
    Ours(Turn),
    /// Another process runs it and can be asked.
    Theirs(Client),
}

/// Waits for the turn to run the engine of these places: a while for a process that begins, ends, or does one short thing.
///
/// # Errors
///
/// If another process goes on running it without listening, or the lock cannot be had.
pub(crate) async fn take_turn(places: &Places) -> Result<Whose> {
    let deadline = Instant::now() + TURN_WITHIN;
    let mut ticks = interval(TURN_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Some(turn) = try_turn(places)? {
            return Ok(Whose::Ours(turn));
        }
        let stuck = holder::end_if_dying(&places.lock_file());
        if let Ok(false) = stuck
            && let Some(client) = Client::connect(places)?
        {
            return Ok(Whose::Theirs(client));
        }
        if Instant::now() >= deadline {
            stuck?;
            bail!("another process is busy with this engine; try again when it is done");
        }
    }
}

fn try_turn(places: &Places) -> Result<Option<Turn>> {
    places.make_run()?;
    let path = places.lock_file();
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {
            let turn = Turn(lock);
            turn.note(&[]);
            Ok(Some(turn))
        }
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(errno) => Err(std::io::Error::from(errno)).with_context(|| format!("cannot lock {}", path.display())),
    }
}

/// The engine's socket.
pub(crate) struct Server {
    listener: UnixListener,
    places: Places,
}

impl Server {
    /// Opens the socket. Inside a tokio runtime; `_turn` says that nobody else does so.
    ///
    /// # Errors
    ///
    /// If it cannot be made.
    pub(crate) fn open(places: &Places, _turn: &Turn) -> Result<Server> {
        // One that is there was left by an engine that died.
        remove_socket(places)?;
        let (_directory, path) = short_path(places)?.context("the run directory vanished")?;
        let listener =
            UnixListener::bind(&path).with_context(|| format!("cannot make a socket in {}", places.run.display()))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
            .context("cannot close the socket to others")?;
        Ok(Server { listener, places: places.clone() })
    }

    /// Serves until `end` resolves. Then nobody can connect any more, and who is being answered gets a moment to hear it.
    pub(crate) async fn serve<T>(self, host: Arc<dyn Answers>, end: impl Future<Output = T>) -> T {
        let mut clients = JoinSet::new();
        let outcome = {
            let mut end = pin!(end);
            loop {
                tokio::select! {
                    biased;
                    outcome = &mut end => break outcome,
                    Some(_) = clients.join_next() => {}
                    accepted = self.listener.accept(), if clients.len() < CLIENTS_MAX => match accepted {
                        Ok((stream, _)) => {
                            clients.spawn(serve_client(stream, Arc::clone(&host)));
                        }
                        Err(error) => tracing::warn!(%error, "a client could not connect"),
                    }
                }
            }
        };
        if let Err(error) = remove_socket(&self.places) {
            tracing::warn!(%error, "the socket stays behind");
        }
        drop(self.listener);
        let heard = async { while clients.join_next().await.is_some() {} };
        if timeout(LAST_WORDS_WITHIN, heard).await.is_err() {
            tracing::info!("somebody waits for an answer that will not come: the engine ends");
        }
        outcome
    }
}

fn remove_socket(places: &Places) -> Result<()> {
    let Some((_directory, path)) = short_path(places)? else {
        return Ok(());
    };
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).context("cannot remove an old socket"),
        _ => Ok(()),
    }
}

async fn serve_client(stream: UnixStream, host: Arc<dyn Answers>) {
    if let Err(error) = try_serve_client(stream, host).await {
        tracing::debug!(%error, "a client went away");
    }
}

async fn try_serve_client(stream: UnixStream, host: Arc<dyn Answers>) -> Result<()> {
    let ours = rustix::process::geteuid().as_raw();
    let peer = stream.peer_cred()?.uid();
    if peer != ours {
        bail!("user {peer} may not talk to this engine");
    }
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader.take(CALL_BYTES_MAX));
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line).await?;
    let (sender, mut lines) = mpsc::channel(LINES_QUEUE);
    let response = match read_call(&line) {
        Ok(request) => {
            let mut answer = Arc::clone(&host).answer(request, sender);
            let mut rest = [0; 1];
            loop {
                tokio::select! {
                    biased;
                    response = &mut answer => break response,
                    Some(line) = lines.recv() => writer.write_all(&to_line(&line)?).await?,
                    // The client sends nothing after its call: this is its end. Dropping the answer ends the work.
                    gone = reader.read(&mut rest) => {
                        gone?;
                        return Ok(());
                    }
                }
            }
        }
        Err(message) => Some(Response::Failed(Failure { kind: FailureKind::Unsupported, message })),
    };
    // What was told before the answer comes before it.
    while let Ok(line) = lines.try_recv() {
        writer.write_all(&to_line(&line)?).await?;
    }
    let last = response.map_or(Line::Ending, |response| Line::Answer(Box::new(response)));
    writer.write_all(&to_line(&last)?).await?;
    Ok(writer.shutdown().await?)
}

fn read_call(line: &[u8]) -> Result<Request, String> {
    #[derive(serde::Deserialize)]
    struct Version {
        version: u32,
    }
    match serde_json::from_slice::<Version>(line) {
        Ok(Version { version }) if version == VERSION => {}
        Ok(Version { .. }) => {
            return Err("the running engine is of another version: end it with `ourobox umount --all` of that version, or its process".into());
        }
        Err(error) => return Err(format!("the call cannot be understood: {error}")),
    }
    let call: Call = serde_json::from_slice(line).map_err(|error| format!("the call cannot be understood: {error}"))?;
    Ok(call.call)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Client;
    use ouro_engine::api::{Progress, Unit};
    use std::path::Path;
    use std::sync::Mutex;

    fn places(home: &Path) -> Places {
        Places {
            config: home.join("config"),
            data: home.join("data"),
            cache: home.join("cache"),
            run: home.join("a directory whose name alone is longer than the address of a socket may be on any Linux system, and then some more of it"),
            socket_name: "engine.sock".into(),
        }
    }

    /// Counts to three and answers; refuses `Devices` as if it were ending, and never answers `Wait`.
    #[derive(Default)]
    struct Counter {
        dropped: Arc<Mutex<Vec<mpsc::UnboundedSender<()>>>>,
    }

    impl Answers for Counter {
        fn answer(self: Arc<Self>, request: Request, lines: LineSender) -> BoxFuture<'static, Option<Response>> {
            let guard = self.dropped.lock().expect("not poisoned").pop();
            Box::pin(async move {
                if matches!(request, Request::Wait { .. }) {
                    let _guard = guard;
                    return std::future::pending().await;
                }
                for done in 1..=3 {
                    let step = Progress { what: "counting".into(), done, total: Some(3), unit: Unit::Files };
                    lines.send(Line::Progress(step)).await.expect("the client listens");
                }
                (!matches!(request, Request::Devices)).then_some(Response::Done)
            })
        }
    }

    fn with_server(host: Counter, test: impl FnOnce(&Places) + Send + 'static) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let places = places(folder.path());
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let Whose::Ours(turn) = take_turn(&places).await.expect("free") else { panic!("nobody else is there") };
            let server = Server::open(&places, &turn).expect("the socket is free");
            let mut tests = JoinSet::new();
            let for_test = places.clone();
            tests.spawn_blocking(move || test(&for_test));
            let done = server.serve(Arc::new(host), tests.join_next()).await;
            done.expect("one test").expect("the test passes");
        });
    }

    #[test]
    fn a_request_is_answered_after_its_progress() {
        with_server(Counter::default(), |places| {
            let mut client = Client::connect(places).expect("reachable").expect("it runs");
            let mut steps = Vec::new();
            let answer =
                client.ask(Request::Stats { remote: false }, &mut |step| steps.push(step.done)).expect("an answer");
            assert!(matches!(answer, Some(Response::Done)));
            assert!(steps.len() <= 3 && steps.is_sorted(), "{steps:?}");
        });
    }

    #[test]
    fn an_engine_that_is_ending_leaves_the_call_to_the_next_one() {
        with_server(Counter::default(), |places| {
            let mut client = Client::connect(places).expect("reachable").expect("it runs");
            assert!(client.ask(Request::Devices, &mut |_| {}).expect("heard").is_none());
        });
    }

    #[test]
    fn a_call_that_was_never_read_is_left_to_the_next_one() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let places = places(folder.path());
        places.make_run().expect("made");
        let (_directory, path) = short_path(&places).expect("readable").expect("there");
        let listener = std::os::unix::net::UnixListener::bind(path).expect("free");
        let mut client = Client::connect(&places).expect("reachable").expect("it listens");
        let closer = std::thread::scope(|scope| {
            let asked = scope.spawn(|| client.ask(Request::Stats { remote: false }, &mut |_| {}));
            drop(listener);
            asked.join().expect("no panic")
        });
        assert!(closer.expect("not an error").is_none());
    }

    #[test]
    fn an_answer_nobody_waits_for_any_more_is_dropped() {
        let (sender, mut dropped) = mpsc::unbounded_channel();
        let host = Counter { dropped: Arc::new(Mutex::new(vec![sender])) };
        with_server(host, move |places| {
            use std::io::Write;
            let (_directory, path) = short_path(places).expect("readable").expect("there");
            let mut stream = std::os::unix::net::UnixStream::connect(path).expect("it listens");
            let call = Call { version: VERSION, call: Request::Wait { path: None, timeout_seconds: None } };
            stream.write_all(&to_line(&call).expect("plain")).expect("sent");
            drop(stream);
            assert_eq!(dropped.blocking_recv(), None, "the future, and the guard in it, falls");
        });
    }

    #[test]
    fn a_client_of_another_version_is_told_so() {
        let error = read_call(br#"{"version":999,"call":{"request":"from-the-future"}}"#).expect_err("unknown");
        assert!(error.contains("another version"), "{error}");
        assert!(read_call(b"hello").is_err());
        assert!(matches!(read_call(br#"{"version":1,"call":{"request":"stats"}}"#), Ok(Request::Stats { .. })));
    }

    #[test]
    fn who_comes_second_is_led_to_who_came_first() {
        with_server(Counter::default(), |places| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let Ok(Whose::Theirs(mut client)) = runtime.block_on(take_turn(places)) else { panic!("somebody listens") };
            let answer = client.ask(Request::Stats { remote: false }, &mut |_| {}).expect("an answer");
            assert!(matches!(answer, Some(Response::Done)));
        });
    }

    #[test]
    fn a_dead_engines_socket_is_no_obstacle_and_an_ending_one_is_waited_for() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let places = places(folder.path());
        assert!(Client::connect(&places).expect("nothing there").is_none());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let Whose::Ours(turn) = take_turn(&places).await.expect("free") else { panic!("nobody else is there") };
            drop(Server::open(&places, &turn).expect("free")); // dies without a word
            assert!(Client::connect(&places).expect("refused").is_none(), "the socket is there, nobody listens");
            let second = take_turn(&places);
            let mut second = pin!(second);
            assert!(timeout(Duration::from_millis(120), &mut second).await.is_err(), "the turn is still taken");
            drop(turn);
            let Whose::Ours(turn) = second.await.expect("free again") else { panic!("nobody listens") };
            Server::open(&places, &turn).expect("free again");
        });
    }
}
