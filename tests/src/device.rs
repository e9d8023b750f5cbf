//! One installation of Ourobox with everything of its own.

use crate::place::Place;
use crate::watch::{EVER, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;
use tempfile::TempDir;

/// The user and group of nobody.
pub const NOBODY: u32 = 65_534;

/// A command that takes longer is ended, in seconds.
const COMMAND_SECONDS_MAX: &str = "240";
/// A device that lives longer is ended with everything that hangs on it.
const LIFE: Duration = Duration::from_secs(300);
const LIFE_LONG: Duration = Duration::from_secs(3 * 3_600);
/// Lines of the engine's log shown when a test fails.
const LOG_LINES: usize = 60;
/// Marks what was written when no FUSE was needed.
const WITHOUT_FUSE: &str = "OUROBOX_TESTS_WITHOUT_FUSE";

/// The passphrase of every repository.
const PASSPHRASE: &str = "correct horse battery staple";

/// How a command ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its exit code; `None` if it was ended by a signal.
    pub code: Option<i32>,
    /// What it wrote.
    pub stdout: String,
    /// What it complained.
    pub stderr: String,
}

/// The `ourobox` program of this build; built on first use unless `OUROBOX_BINARY` names one.
///
/// # Panics
///
/// If it cannot be built.
pub fn ourobox_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(path) = std::env::var_os("OUROBOX_BINARY") {
            return path.into();
        }
        // target/PROFILE/deps/TEST
        let test = std::env::current_exe().expect("a test has a file");
        let folder = test.ancestors().nth(2).expect("it lies in the target directory").to_owned();
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.args(["build", "--locked", "--quiet", "--package", "ouro-cli"]).current_dir(env!("CARGO_MANIFEST_DIR"));
        if folder.ends_with("release") {
            build.arg("--release");
        }
        assert!(build.status().expect("cargo runs").success(), "ourobox cannot be built");
        folder.join("ourobox")
    })
}

/// Runs a command to its end, but no longer than four minutes.
///
/// # Panics
///
/// If it cannot be started or takes too long.
pub fn run(command: &Command) -> Outcome {
    let mut limited = Command::new("timeout");
    limited.args(["--kill-after=5", COMMAND_SECONDS_MAX]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        limited.current_dir(directory);
    }
    let output = limited.stdin(Stdio::null()).output().expect("timeout runs");
    let outcome = Outcome {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    assert_ne!(outcome.code, Some(124), "{command:?} took too long: {outcome:?}");
    outcome
}

/// One installation: a home, a mount point, and the engine that belongs to them.
///
/// Dropping it ends its engine by its process id, unmounts and removes everything; a failing test shows the end of the engine's log first.
pub struct Device {
    name: String,
    folder: TempDir,
    variables: Vec<(String, String)>,
    user: Option<u32>,
    program: PathBuf,
    life: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Device {
    /// A fresh installation, called `name` in every box.
    ///
    /// # Panics
    ///
    /// If this machine cannot mount; `OUROBOX_TESTS_WITHOUT_FUSE=1` is answered by the caller, see [`Device::can_mount`].
    pub fn new(name: &str) -> Device {
        Device::with(name, None, &[])
    }

    /// A fresh installation with further environment variables.
    ///
    /// # Panics
    ///
    /// As [`Device::new`].
    pub fn with_variables(name: &str, variables: &[(&str, &str)]) -> Device {
        Device::with(name, None, variables)
    }

    /// A fresh installation of another user. Needs root.
    ///
    /// # Panics
    ///
    /// As [`Device::new`].
    pub fn of_user(name: &str, user: u32) -> Device {
        Device::with(name, Some(user), &[])
    }

    /// A fresh installation of another user with further environment variables. Needs root.
    ///
    /// # Panics
    ///
    /// As [`Device::new`].
    pub fn of_user_with(name: &str, user: u32, variables: &[(&str, &str)]) -> Device {
        Device::with(name, Some(user), variables)
    }

    fn with(name: &str, user: Option<u32>, variables: &[(&str, &str)]) -> Device {
        assert!(
            fs::metadata("/dev/fuse").is_ok(),
            "there is no /dev/fuse: these tests mount (in a container: --device /dev/fuse --cap-add SYS_ADMIN); \
             {WITHOUT_FUSE}=1 leaves them out"
        );
        let folder = tempfile::Builder::new().prefix("ouro-device-").tempdir().expect("a temporary folder");
        // mkdtemp makes it private; another user's engine has to get in.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("set");
        let mut program = ourobox_binary().to_owned();
        if user.is_some() {
            // The build may stand where only its owner can go.
            let copy = folder.path().join("ourobox");
            fs::copy(&program, &copy).expect("copied");
            program = copy;
        }
        for name in ["home", "run", "mount"] {
            let path = folder.path().join(name);
            fs::create_dir(&path).expect("made");
            if let Some(user) = user {
                std::os::unix::fs::chown(&path, Some(user), Some(user)).expect("root may");
            }
        }
        fs::write(folder.path().join("passphrase"), format!("{PASSPHRASE}\n")).expect("written");
        let variables = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let mut device = Device { name: name.to_owned(), folder, variables, user, program, life: None };
        device.life = Some(watch_over(device.home(), device.mountpoint()));
        device
    }

    /// Whether these tests can run. Where it says `false`, the user asked to leave them out, and it says so.
    ///
    /// # Panics
    ///
    /// Where they cannot run and nobody asked to leave them out.
    pub fn can_mount() -> bool {
        if std::env::var_os(WITHOUT_FUSE).is_some_and(|value| value == "1") {
            eprintln!("left out: {WITHOUT_FUSE}=1");
            return false;
        }
        assert!(rustix::process::geteuid().is_root(), "these tests mount as root; {WITHOUT_FUSE}=1 leaves them out");
        true
    }

    /// Its `OUROBOX_HOME`.
    pub fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// Where its box is mounted.
    pub fn mountpoint(&self) -> PathBuf {
        self.folder.path().join("mount")
    }

    /// A path inside the mount.
    pub fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        self.mountpoint().join(path)
    }

    /// A file beside the mount that tests may use.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A program run by this device's user in its environment.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = match self.user {
            None => Command::new(program),
            Some(user) => {
                let mut command = Command::new("setpriv");
                command
                    .args([format!("--reuid={user}"), format!("--regid={user}"), "--clear-groups".to_owned()])
                    .arg(program);
                command
            }
        };
        command
            .env("OUROBOX_HOME", self.home())
            .env("HOME", self.home())
            .env("XDG_RUNTIME_DIR", self.folder.path().join("run"));
        command.env_remove("OUROBOX_PASSPHRASE").env("LC_ALL", "C");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.current_dir("/");
        command
    }

    /// Runs `ourobox` with these arguments.
    ///
    /// # Panics
    ///
    /// If it takes longer than four minutes.
    pub fn ourobox<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Outcome {
        let mut command = self.command(&self.program);
        command.args(arguments);
        run(&command)
    }

    /// Runs `ourobox`; returns what it wrote.
    ///
    /// # Panics
    ///
    /// If it fails.
    pub fn ok<S: AsRef<OsStr>>(&self, arguments: &[S]) -> String {
        let outcome = self.ourobox(arguments);
        let shown: Vec<_> = arguments.iter().map(|a| a.as_ref().to_string_lossy()).collect();
        assert_eq!(outcome.code, Some(0), "{}: ourobox {}: {outcome:?}", self.name, shown.join(" "));
        outcome.stdout
    }

    /// Runs `ourobox --json`; returns its document.
    ///
    /// # Panics
    ///
    /// If it fails or writes something else.
    pub fn json<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Value {
        let mut all: Vec<&OsStr> = vec![OsStr::new("--json")];
        all.extend(arguments.iter().map(AsRef::as_ref));
        let text = self.ok(&all);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("no JSON ({error}): {text}"))
    }

    /// What `init` and `join` need to know of a place.
    pub fn remote_arguments(&self, place: &Place) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec![place.uri.clone().into(), "--box".into(), "box".into()];
        arguments.extend(["--device-name".into(), self.name.clone().into()]);
        arguments.extend(["--passphrase-file".into(), self.beside("passphrase").into()]);
        if !place.credentials.is_empty() {
            let file = self.beside("credentials");
            fs::write(&file, &place.credentials).expect("written");
            arguments.extend(["--credentials-file".into(), file.into()]);
        }
        arguments
    }

    /// Makes a repository.
    ///
    /// # Panics
    ///
    /// If that fails.
    pub fn init(&self, place: &Place) {
        let mut arguments = vec![OsString::from("init")];
        arguments.extend(self.remote_arguments(place));
        self.ok(&arguments);
    }

    /// Joins a repository.
    ///
    /// # Panics
    ///
    /// If that fails.
    pub fn join(&self, place: &Place) {
        let mut arguments = vec![OsString::from("join")];
        arguments.extend(self.remote_arguments(place));
        self.ok(&arguments);
    }

    /// Mounts by an engine in the background.
    ///
    /// # Panics
    ///
    /// If that fails.
    pub fn mount(&self) {
        self.ok(&[OsStr::new("fuse"), self.mountpoint().as_os_str()]);
    }

    /// Unmounts; the engine ends.
    ///
    /// # Panics
    ///
    /// If that fails or the engine stays.
    pub fn umount(&self) {
        self.ok(&[OsStr::new("umount"), self.mountpoint().as_os_str()]);
        until(EVER, "the engine ends after its last mount", || engines(&self.home()).is_empty());
    }

    /// Unmounts and mounts again: nothing is left in the kernel's cache.
    ///
    /// # Panics
    ///
    /// If that fails.
    pub fn remount(&self) {
        self.umount();
        self.mount();
    }

    /// Returns when everything is on the remote.
    ///
    /// # Panics
    ///
    /// If that fails.
    pub fn wait(&self) {
        self.ok(&["wait", "--all", "--timeout", "200"]);
    }

    /// Ends the engine at once (SIGKILL), as a crash would, and returns when it is gone. The dead mount stays.
    ///
    /// # Panics
    ///
    /// If there is none, or it does not go.
    pub fn kill_engine(&self) {
        let pids = engines(&self.home());
        assert!(!pids.is_empty(), "{}: no engine runs", self.name);
        end(&self.home());
    }

    /// Stops its engine in its tracks (SIGSTOP); [`Device::kill_engine`] ends it also then.
    ///
    /// # Panics
    ///
    /// If it does not stop.
    pub fn stop_engine(&self) {
        for pid in engines(&self.home()) {
            kill_process(pid, Signal::STOP).expect("it runs");
            until(EVER, "the engine stops", || threads_are(pid.as_raw_nonzero().get(), &['T', 't', 'Z', 'X']));
        }
    }

    /// Takes away a mount whose engine is gone.
    pub fn clear_dead_mount(&self) {
        detach(&self.mountpoint());
    }

    /// The process ids of its engine: one, or none.
    pub fn engines(&self) -> Vec<i32> {
        engines(&self.home()).into_iter().map(|pid| pid.as_raw_nonzero().get()).collect()
    }

    /// The process ids of the guards of its engines.
    pub fn guards(&self) -> Vec<i32> {
        let lock = self.home().join("run/engine.lock");
        let is_guard = |pid: &i32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let mut arguments = line.split(|byte| *byte == 0).skip(1);
            arguments.next() == Some(b"guard") && arguments.next() == Some(lock.as_os_str().as_bytes())
        };
        processes().filter(is_guard).collect()
    }

    /// The program it runs.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// A number from `ourobox stats` of its only box, by a JSON pointer such as `/bytes_in`.
    ///
    /// # Panics
    ///
    /// If there is no such number.
    pub fn stat(&self, pointer: &str) -> u64 {
        let stats = self.json(&["stats"]);
        let number = stats.pointer(&format!("/boxes/0{pointer}")).and_then(Value::as_u64);
        number.unwrap_or_else(|| panic!("no {pointer} in {stats}"))
    }

    /// The state of every entry of a directory by name, from `ourobox ls`.
    ///
    /// # Panics
    ///
    /// If that fails.
    pub fn states(&self, path: &Path) -> Vec<(String, String)> {
        let listing = self.json(&[OsStr::new("ls"), path.as_os_str()]);
        let entries = listing["entries"].as_array().unwrap_or_else(|| panic!("no entries in {listing}"));
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        entries.iter().map(|entry| (text(&entry["name"]), text(&entry["state"]))).collect()
    }

    /// The end of the engine's log.
    pub fn log(&self) -> String {
        let text = fs::read(self.home().join("data/log/engine.log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the engine's log of {}:\n{}\n---", self.name, self.log());
        }
        if let Some((living, watcher)) = self.life.take() {
            drop(living);
            // It ends nothing any more; should it have failed, the test has seen the consequences.
            let _ended = watcher.join();
        }
        end(&self.home());
        detach(&self.mountpoint());
    }
}

/// Ends the engine of a device that lives too long: whoever hangs in its mount is then answered with an error.
fn watch_over(home: PathBuf, mountpoint: PathBuf) -> (Sender<()>, JoinHandle<()>) {
    let (living, dead) = channel::<()>();
    let limit = if crate::is_long() { LIFE_LONG } else { LIFE };
    let watcher = std::thread::spawn(move || {
        if dead.recv_timeout(limit) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            eprintln!("a device lived longer than {limit:?}: ending its engine");
            end(&home);
            detach(&mountpoint);
        }
    });
    (living, watcher)
}

/// Every process there is.
fn processes() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").expect("/proc is mounted");
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Every process that runs `ourobox` with this home, but for guards: those run without an environment.
fn engines(home: &Path) -> Vec<Pid> {
    let wanted = [b"OUROBOX_HOME=", home.as_os_str().as_bytes()].concat();
    let ours = processes().filter(|number| {
        // A process may end while it is looked at.
        let environment = fs::read(format!("/proc/{number}/environ")).unwrap_or_default();
        let program = fs::read_link(format!("/proc/{number}/exe")).unwrap_or_default();
        // A program that was built anew meanwhile is shown as deleted.
        let is_ourobox = program.file_name().is_some_and(|name| name.as_bytes().starts_with(b"ourobox"));
        is_ourobox && environment.split(|byte| *byte == 0).any(|variable| variable == wanted)
    });
    ours.filter_map(Pid::from_raw).collect()
}

/// Ends them and returns when they are gone, with everything they held.
fn end(home: &Path) {
    let mut ended: Vec<Pid> = Vec::new();
    until(EVER, "a killed engine is gone", || {
        let running = engines(home);
        for pid in &running {
            // It may have ended by itself.
            let _gone = kill_process(*pid, Signal::KILL);
        }
        ended.extend(&running);
        running.is_empty() && ended.iter().all(|pid| is_gone(pid.as_raw_nonzero().get()))
    });
}

/// Whether no thread of a process is left: its files and sockets are closed then, also if nobody has waited for it yet.
pub fn is_gone(pid: i32) -> bool {
    threads_are(pid, &['Z', 'X'])
}

/// Whether every thread of a process is in one of these states; one that is gone is in all.
fn threads_are(pid: i32, states: &[char]) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    threads.flatten().all(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // The state follows the program's name, which stands in brackets.
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(states))
    })
}

/// Takes away whatever is mounted there.
fn detach(mountpoint: &Path) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let path = mountpoint.display().to_string();
    for _ in mounts.lines().filter(|line| line.split(' ').nth(1) == Some(&path)) {
        let quiet = Command::new("umount").arg("-l").arg(mountpoint).stderr(Stdio::null()).status();
        if !quiet.is_ok_and(|status| status.success()) {
            eprintln!("{path} cannot be unmounted");
        }
    }
}
