//! Real storage servers on this machine: rclone for S3, WebDAV and SFTP, and OpenSSH's sshd.
//!
//! Each listens on a free port of 127.0.0.1, serves a folder of its own, writes its log beside it, and ends with its guard. Tests call
//! [`rclone`] or [`sshd_is_installed`] first where a missing program should skip rather than fail.
//!
//! Many tests run at once, and a port that one has given up is soon another's. So a server counts as started when the port is its own, and
//! each has secrets of its own: who comes to a later owner of its port is turned away instead of working with a stranger's data.

use std::fs::{self, File, Permissions};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ouro_remote::Credentials;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// The access key of [`s3`] servers.
pub const S3_KEY: &str = "OUROBOXTESTACCESSKEY";
/// The bucket of [`s3`] servers.
pub const S3_BUCKET: &str = "bucket";
/// The user of [`webdav`] servers.
pub const WEBDAV_USER: &str = "tester";
/// Bytes of a server's secret: what S3 takes for one.
const SECRET_BYTES: usize = 40;

/// How often a starting server is asked whether it listens, and the pause between.
const READY_TRIES: u32 = 500;
const READY_PAUSE: Duration = Duration::from_millis(20);
/// How often a server is started again when somebody else took its port.
const START_TRIES: usize = 3;

/// A running server; dropping it ends it and removes its folder.
#[derive(Debug)]
pub struct Server {
    child: Child,
    folder: TempDir,
    port: u16,
    uri: String,
    credentials: Credentials,
}

impl Server {
    /// The URI of an empty place on it.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// What it takes to get in.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder it serves; for S3 the one above the buckets.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The certificate of a [`webdavs`] server, a PEM file.
    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("keys/tls.pem")
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        fs::read(self.folder.path().join("log"))
            .map(|log| String::from_utf8_lossy(&log).into_owned())
            .unwrap_or_default()
    }

    /// Stops it in its tracks (SIGSTOP): connections stay open and nothing is answered. Returns once every thread has stopped.
    pub fn stop(&self) {
        self.signal(Signal::STOP);
        for _ in 0..READY_TRIES {
            if family(self.child.id()).into_iter().all(has_stopped) {
                return;
            }
            pause();
        }
    }

    /// Lets it go on (SIGCONT).
    pub fn cont(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        for pid in family(self.child.id()) {
            // A member of the family may have ended by itself.
            let _ = kill_process(pid, signal);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        if let Err(error) = self.child.wait() {
            eprintln!("a test server could not be waited for: {error}");
        }
    }
}

/// Whether no thread of a process runs any more.
fn has_stopped(pid: Pid) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())) else { return true };
    threads.flatten().all(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // The state follows the program's name, which stands in brackets.
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['T', 't', 'Z', 'X']))
    })
}

/// A process and everything it started, parents first.
fn family(root: u32) -> Vec<Pid> {
    let mut found = Vec::new();
    let mut next = vec![root];
    while let Some(id) = next.pop() {
        found.extend(i32::try_from(id).ok().and_then(Pid::from_raw));
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        next.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
    }
    found
}

/// The rclone program: `OUROBOX_RCLONE`, or `target/tools/rclone` or `.tools/rclone` of the workspace, or the one on the `PATH`.
pub fn rclone() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("OUROBOX_RCLONE") {
        return Some(path.into());
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let ours = ["target/tools/rclone", ".tools/rclone"].map(|tool| workspace.join(tool));
    ours.into_iter().find(|path| path.is_file()).or_else(|| find("rclone"))
}

/// Whether [`sshd`] can run.
pub fn sshd_is_installed() -> bool {
    find("sshd").is_some() && find("ssh").is_some() && find("ssh-keygen").is_some()
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/bin".into()]);
    directories.map(|directory| directory.join(program)).find(|path| path.is_file())
}

fn missing(program: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{program} is not installed"))
}

/// Starts rclone's S3 server with one empty bucket.
///
/// # Errors
///
/// If rclone is missing or does not start.
pub fn s3() -> io::Result<Server> {
    s3_with(&[])
}

/// Starts rclone's S3 server with further options, such as `--read-only`.
///
/// # Errors
///
/// If rclone is missing or does not start.
pub fn s3_with(options: &[&str]) -> io::Result<Server> {
    start(
        |data, port| {
            fs::create_dir(data.join(S3_BUCKET))?;
            let mut command = rclone_serve("s3", data, port)?;
            command.args(["--auth-key", &format!("{S3_KEY},{}", secret(data))]).args(options);
            Ok(command)
        },
        |port, data| {
            let uri = format!("s3://{S3_BUCKET}/repo?endpoint=http://127.0.0.1:{port}&region=us-east-1");
            (uri, vec![("AWS_ACCESS_KEY_ID", S3_KEY.to_owned()), ("AWS_SECRET_ACCESS_KEY", secret(data))])
        },
    )
}

/// Starts rclone's WebDAV server.
///
/// # Errors
///
/// If rclone is missing or does not start.
pub fn webdav() -> io::Result<Server> {
    webdav_with(&[])
}

/// Starts rclone's WebDAV server with further options, such as `--read-only`.
///
/// # Errors
///
/// If rclone is missing or does not start.
pub fn webdav_with(options: &[&str]) -> io::Result<Server> {
    start(
        |data, port| {
            let mut command = rclone_serve("webdav", data, port)?;
            command.args(["--user", WEBDAV_USER, "--pass", &secret(data)]).args(options);
            Ok(command)
        },
        |port, data| {
            let user = ("OUROBOX_WEBDAV_USER", WEBDAV_USER.to_owned());
            let password = ("OUROBOX_WEBDAV_PASSWORD", secret(data));
            (format!("webdav://127.0.0.1:{port}/repo"), vec![user, password])
        },
    )
}

/// Whether [`webdavs`] can run.
pub fn openssl_is_installed() -> bool {
    find("openssl").is_some()
}

/// Starts rclone's WebDAV server over HTTPS, with a certificate that nobody trusts yet.
///
/// # Errors
///
/// If rclone or openssl is missing or it does not start.
pub fn webdavs() -> io::Result<Server> {
    start(
        |data, port| {
            let keys = make_certificate(data)?;
            let mut command = rclone_serve("webdav", data, port)?;
            command.args(["--user", WEBDAV_USER, "--pass", &secret(data)]);
            command.arg("--cert").arg(keys.join("tls.pem")).arg("--key").arg(keys.join("tls.key"));
            Ok(command)
        },
        |port, data| {
            let user = ("OUROBOX_WEBDAV_USER", WEBDAV_USER.to_owned());
            let password = ("OUROBOX_WEBDAV_PASSWORD", secret(data));
            (format!("webdavs://127.0.0.1:{port}/repo"), vec![user, password])
        },
    )
}

/// Starts rclone's SFTP server, with a key of its own.
///
/// # Errors
///
/// If rclone or ssh-keygen is missing or it does not start.
pub fn rclone_sftp() -> io::Result<Server> {
    start(
        |data, port| {
            let keys = make_keys(data)?;
            let mut command = rclone_serve("sftp", data, port)?;
            command.arg("--authorized-keys").arg(keys.join("user.pub")).arg("--key").arg(keys.join("host"));
            Ok(command)
        },
        |port, data| {
            let uri = format!("sftp://tester@127.0.0.1:{port}/repo?known_hosts=accept");
            (uri, vec![("OUROBOX_SFTP_KEY", user_key(data))])
        },
    )
}

/// Starts OpenSSH's sshd for the current user, with keys of its own.
///
/// # Errors
///
/// If OpenSSH is missing or does not start.
pub fn sshd() -> io::Result<Server> {
    let program = find("sshd").ok_or_else(|| missing("sshd"))?;
    let user = user_name()?;
    start(
        |data, port| {
            let keys = make_keys(data)?;
            if rustix::process::geteuid().is_root() {
                fs::create_dir_all("/run/sshd")?;
            }
            let config = keys.join("sshd_config");
            let keys = keys.display();
            fs::write(
                &config,
                format!(
                    "Port {port}\nListenAddress 127.0.0.1\nHostKey {keys}/host\nAuthorizedKeysFile {keys}/user.pub\nPidFile none\n\
                     StrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n\
                     MaxStartups 200\nMaxSessions 200\nSubsystem sftp internal-sftp\n"
                ),
            )?;
            let mut command = Command::new(&program);
            command.args(["-D", "-e", "-f"]).arg(config);
            Ok(command)
        },
        |port, data| {
            let uri = format!("sftp://{user}@127.0.0.1:{port}{}/repo?known_hosts=accept", data.display());
            (uri, vec![("OUROBOX_SFTP_KEY", user_key(data))])
        },
    )
}

fn rclone_serve(protocol: &str, data: &Path, port: u16) -> io::Result<Command> {
    let mut command = Command::new(rclone().ok_or_else(|| missing("rclone"))?);
    command.args(["serve", protocol]).arg(data).args(["--addr", &format!("127.0.0.1:{port}"), "-vv"]);
    // Without a configuration of the user's and without a cache that outlives the test.
    command.args(["--config", ""]).arg("--cache-dir").arg(data.with_file_name("cache"));
    Ok(command)
}

/// The secret of the server of this data: made from the name of its folder, which no other has.
fn secret(data: &Path) -> String {
    let name = data.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    name.chars().rev().chain(std::iter::repeat('x')).take(SECRET_BYTES).collect()
}

/// The private key of the user, from [`make_keys`].
fn user_key(data: &Path) -> String {
    data.with_file_name("keys").join("user").to_string_lossy().into_owned()
}

/// Makes `keys/user` and `keys/host` beside the data.
fn make_keys(data: &Path) -> io::Result<PathBuf> {
    let program = find("ssh-keygen").ok_or_else(|| missing("ssh-keygen"))?;
    let keys = data.with_file_name("keys");
    fs::create_dir(&keys)?;
    fs::set_permissions(&keys, Permissions::from_mode(0o700))?;
    for name in ["user", "host"] {
        let mut command = Command::new(&program);
        command.args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"]).arg(keys.join(name));
        if !command.stdin(Stdio::null()).status()?.success() {
            return Err(io::Error::other("ssh-keygen failed"));
        }
    }
    Ok(keys)
}

/// Makes `keys/tls.pem` and `keys/tls.key` beside the data, for 127.0.0.1.
fn make_certificate(data: &Path) -> io::Result<PathBuf> {
    let program = find("openssl").ok_or_else(|| missing("openssl"))?;
    let keys = data.with_file_name("keys");
    fs::create_dir(&keys)?;
    let config = keys.join("tls.conf");
    fs::write(
        &config,
        "[req]\ndistinguished_name=name\nx509_extensions=extensions\nprompt=no\n[name]\nCN=test\n[extensions]\n\
         subjectAltName=IP:127.0.0.1\nbasicConstraints=critical,CA:FALSE\n",
    )?;
    let mut command = Command::new(program);
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]);
    command.arg("-config").arg(config).arg("-out").arg(keys.join("tls.pem")).arg("-keyout").arg(keys.join("tls.key"));
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        Ok(keys)
    } else {
        Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()))
    }
}

fn user_name() -> io::Result<String> {
    let output = Command::new("id").arg("-un").output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn start(
    command: impl Fn(&Path, u16) -> io::Result<Command>,
    describe: impl Fn(u16, &Path) -> (String, Vec<(&'static str, String)>),
) -> io::Result<Server> {
    let mut last = io::Error::other("never tried");
    for _ in 0..START_TRIES {
        let folder = tempfile::Builder::new().prefix("ouro-server-").tempdir()?;
        let data = folder.path().join("data");
        fs::create_dir(&data)?;
        // The port is free now; should somebody take it before the server does, the next try takes another.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let log = File::create(folder.path().join("log"))?;
        let mut child = command(&data, port)?.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        match until_it_listens(&mut child, port) {
            Ok(()) => {
                let (uri, pairs) = describe(port, &data);
                let mut credentials = Credentials::none();
                for (key, value) in pairs {
                    credentials.set(key, &value);
                }
                return Ok(Server { child, folder, port, uri, credentials });
            }
            Err(error) => {
                let log = fs::read_to_string(folder.path().join("log")).unwrap_or_default();
                last = io::Error::other(format!("{error}; its log: {log}"));
            }
        }
    }
    Err(last)
}

fn until_it_listens(child: &mut Child, port: u16) -> io::Result<()> {
    for _ in 0..READY_TRIES {
        if let Some(status) = child.try_wait()? {
            return Err(io::Error::other(format!("the server ended at once ({status})")));
        }
        if listens(child.id(), port) {
            return Ok(());
        }
        pause();
    }
    child.kill()?;
    child.wait()?;
    Err(io::Error::other("the server does not listen"))
}

/// Whether it is this process, or one that it started, that listens on a port. To connect would not tell: somebody else may answer.
fn listens(process: u32, port: u16) -> bool {
    let table = fs::read_to_string(format!("/proc/{process}/net/tcp")).unwrap_or_default();
    let port = format!(":{port:04X}");
    let socket = |line: &str| {
        // Number, local address, remote address, state (0A listens), queues, timer, retransmits, user, timeout, inode.
        let fields: Vec<&str> = line.split_whitespace().collect();
        let listening = fields.len() > 9 && fields[1].ends_with(&port) && fields[3] == "0A";
        listening.then(|| PathBuf::from(format!("socket:[{}]", fields[9])))
    };
    let sockets: Vec<PathBuf> = table.lines().filter_map(socket).collect();
    let files = |pid: Pid| fs::read_dir(format!("/proc/{}/fd", pid.as_raw_nonzero())).into_iter().flatten().flatten();
    let mut open = family(process).into_iter().flat_map(files).filter_map(|file| fs::read_link(file.path()).ok());
    open.any(|target| sockets.contains(&target))
}

#[expect(
    clippy::disallowed_methods,
    reason = "a foreign process tells nobody when it is ready or stopped; the tries are counted"
)]
fn pause() {
    std::thread::sleep(READY_PAUSE);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_on_which_somebody_else_answers_is_not_a_servers_own() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut other = Command::new("sleep").arg("60").spawn().unwrap();
        assert!(listens(std::process::id(), port));
        assert!(!listens(other.id(), port), "it has no port at all");
        other.kill().unwrap();
        other.wait().unwrap();
        drop(listener);
        assert!(!listens(std::process::id(), port));
    }

    #[test]
    fn two_servers_have_different_secrets_of_the_length_that_s3_takes() {
        let secrets = ["/t/ouro-server-AbCdEf/data", "/t/ouro-server-AbCdEg/data"].map(|data| secret(Path::new(data)));
        assert_ne!(secrets[0], secrets[1]);
        assert!(secrets.iter().all(|secret| secret.len() == SECRET_BYTES), "{secrets:?}");
    }
}
