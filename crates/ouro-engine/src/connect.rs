//! From a URI to a repository: init and join.

use crate::api::{Failure, FailureKind, InitRequest, JoinRequest, Joined, Secret as ApiSecret};
use crate::config::{BoxConfig, BoxSecrets, to_hex};
use crate::engine::EngineDirs;
use ouro_core::port::Runtime;
use ouro_remote::{Credentials, Limits, Remote, RemoteUri, Store};
use ouro_repo::{InitOptions, Ports, RepoError, Repository, Secret};
use ouro_sync::{device_info, draw_identity};
use std::sync::Arc;
use zeroize::Zeroizing;

/// Longest name of a box, or of a branch, in bytes.
const NAME_BYTES_MAX: usize = 100;

/// What a URI and credentials give.
pub(crate) struct RemoteParts {
    pub(crate) remote: Arc<Remote>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) uri: RemoteUri,
}

/// Opens a storage place; nothing is sent yet. Credentials given here win over those of the environment.
pub(crate) fn open_store(
    uri: &str,
    credentials: Option<&str>,
    runtime: &Arc<dyn Runtime>,
) -> Result<RemoteParts, Failure> {
    let uri: RemoteUri = uri.parse()?;
    let given = match credentials {
        Some(lines) => Credentials::parse(lines)?,
        None => Credentials::none(),
    };
    let credentials = given.or(&Credentials::from_env());
    let remote = Remote::open(&uri, &credentials, &Limits::default())?.with_runtime(Arc::clone(runtime));
    let remote = Arc::new(remote);
    Ok(RemoteParts { store: Arc::clone(&remote) as Arc<dyn Store>, remote, uri })
}

/// What init and join have in common.
pub(crate) struct Wanted {
    pub(crate) remote: String,
    pub(crate) name: Option<String>,
    pub(crate) passphrase: Option<ApiSecret>,
    pub(crate) credentials: Option<ApiSecret>,
    pub(crate) device_name: Option<String>,
    /// Make the repository if there is none.
    pub(crate) create: bool,
}

impl From<InitRequest> for Wanted {
    fn from(r: InitRequest) -> Wanted {
        let InitRequest { remote, name, passphrase, credentials, device_name } = r;
        Wanted { remote, name, passphrase, credentials, device_name, create: true }
    }
}

impl From<JoinRequest> for Wanted {
    fn from(r: JoinRequest) -> Wanted {
        let JoinRequest { remote, name, passphrase, credentials, device_name } = r;
        Wanted { remote, name, passphrase, credentials, device_name, create: false }
    }
}

/// Connects, makes or opens the repository, writes a new device down there, and everything on this device. A crash in between leaves a
/// device on the remote that never writes.
pub(crate) async fn connect(dirs: &EngineDirs, ports: &Ports, wanted: Wanted) -> Result<Joined, Failure> {
    let credentials = wanted.credentials.as_ref().map(|s| s.0.as_str());
    let RemoteParts { remote, store, uri } = open_store(&wanted.remote, credentials, &ports.runtime)?;
    let name = box_name(&wanted, &uri)?;
    if dirs.box_names()?.contains(&name) {
        return Err(Failure::new(
            FailureKind::Conflict,
            format!("there is a box {name:?} on this device already: choose another name with --box"),
        ));
    }
    let probe = remote.probe().await?;
    if !probe.writable {
        let why = probe.refusal.map_or_else(String::new, |refusal| format!(": {refusal}"));
        return Err(Failure::needs_user(format!("{uri} can be read but not written{why}")));
    }
    let secret = match &wanted.passphrase {
        Some(passphrase) => Secret::Passphrase(Zeroizing::new(passphrase.0.clone())),
        None => Secret::None,
    };
    let (repo, created) = open_or_make(store, ports, &secret, wanted.create).await?;
    let others = repo.devices().await?;
    let name_wanted = wanted.device_name.clone().unwrap_or_else(host_name);
    let device = device_info(draw_identity(ports, &others, &name_wanted, &|_| false)?, None);
    repo.register_device(&device).await?;
    let config = BoxConfig {
        remote: uri.to_string(),
        repository: String::from_utf8_lossy(repo.config_bytes()).into_owned(),
        device_id: to_hex(&device.id.0),
        device_number: device.number.0,
        device_name: device.name,
        write_once: probe.write_once,
        branch: None,
    };
    let credentials = match credentials {
        Some(lines) => Some(lines.to_owned()),
        // What came from the environment is needed again when the box opens by itself.
        None => Some(Credentials::from_env()).filter(|c| !c.is_empty()).map(|c| c.to_lines().to_string()),
    };
    let secrets = BoxSecrets { key: repo.master_key().map(|key| to_hex(key.as_bytes())), credentials };
    dirs.save_box(&name, &config, &secrets)?;
    Ok(Joined { name, remote: config.remote, created, device: config.device_name, files: 0 })
}

async fn open_or_make(
    store: Arc<dyn Store>,
    ports: &Ports,
    secret: &Secret,
    create: bool,
) -> Result<(Repository, bool), Failure> {
    if create {
        match Repository::init(Arc::clone(&store), ports.clone(), secret, InitOptions::default()).await {
            Ok(repo) => return Ok((repo, true)),
            Err(RepoError::AlreadyRepository { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok((Repository::open(store, ports.clone(), secret).await?, false))
}

/// The name asked for, or the last part of the URI.
fn box_name(wanted: &Wanted, uri: &RemoteUri) -> Result<String, Failure> {
    let shown = uri.to_string();
    let path = shown.split('?').next().unwrap_or_default().trim_end_matches('/');
    let last = path.rsplit('/').next().filter(|part| !part.is_empty() && !part.ends_with(':')).unwrap_or("box");
    let name = wanted.name.clone().unwrap_or_else(|| last.to_owned());
    if !is_name(&name) {
        return Err(Failure::needs_user(format!(
            "{name:?} is no name for a box: use letters, digits, spaces, '-', '_' and '.'; choose one with --box"
        )));
    }
    Ok(name)
}

/// Whether a box or a branch can be called so.
pub(crate) fn is_name(name: &str) -> bool {
    let fine = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | ' ');
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.starts_with('.') && name.chars().all(fine)
}

fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "this device".to_owned() } else { name }
}
