//! What is written down of each box: where its repository is, who this device is in it, and apart from that the secrets.

use crate::api::Failure;
use crate::branch::OF;
use crate::engine::EngineDirs;
use ouro_core::id::{DeviceId, DeviceNo};
use serde::{Deserialize, Serialize};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A box as `<data>/boxes/<name>/box.json` has it. Holds no secret.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct BoxConfig {
    /// URI of the remote.
    pub(crate) remote: String,
    /// Bytes of the repository's `ourobox.json`, so that the box opens offline.
    pub(crate) repository: String,
    /// This device in it.
    pub(crate) device_id: String,
    pub(crate) device_number: u32,
    pub(crate) device_name: String,
    /// The remote proved that it creates only what is absent.
    pub(crate) write_once: bool,
    /// The branch that the box is; none for the main line.
    #[serde(default)]
    pub(crate) branch: Option<BoxBranch>,
}

/// What makes a box a branch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct BoxBranch {
    /// Its name.
    pub(crate) name: String,
    /// The box of the main line: it has the secrets and the caches.
    pub(crate) of: String,
}

/// `<data>/secrets/<name>.json`, mode 0600.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct BoxSecrets {
    /// The unwrapped master key, hex; none for a repository that is not encrypted.
    pub(crate) key: Option<String>,
    /// Credentials as `KEY=VALUE` lines.
    pub(crate) credentials: Option<String>,
}

impl Drop for BoxSecrets {
    fn drop(&mut self) {
        use zeroize::Zeroize;
        self.key.zeroize();
        self.credentials.zeroize();
    }
}

impl BoxConfig {
    pub(crate) fn device_id(&self) -> Option<DeviceId> {
        Some(DeviceId(from_hex(&self.device_id)?))
    }

    /// What people see as the author of what is written here.
    pub(crate) fn shown(&self) -> String {
        ouro_repo::author(&self.device_name, self.branch.as_ref().map(|branch| branch.name.as_str()))
    }

    pub(crate) fn device(&self) -> DeviceNo {
        DeviceNo(self.device_number)
    }
}

impl EngineDirs {
    pub(crate) fn box_data(&self, name: &str) -> PathBuf {
        self.data.join("boxes").join(name)
    }

    pub(crate) fn box_cache(&self, name: &str) -> PathBuf {
        self.cache.join("boxes").join(name)
    }

    fn box_json(&self, name: &str) -> PathBuf {
        self.box_data(name).join("box.json")
    }

    fn secrets(&self, name: &str) -> PathBuf {
        self.data.join("secrets").join(format!("{name}.json"))
    }

    /// Names of all boxes of this device, sorted; branches after all others, since they lean on these.
    pub(crate) fn box_names(&self) -> Result<Vec<String>, Failure> {
        let boxes = self.data.join("boxes");
        let entries = match fs::read_dir(&boxes) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Failure::io(&boxes, &error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| Failure::io(&boxes, &error))?;
            if entry.path().join("box.json").exists()
                && let Some(name) = entry.file_name().to_str()
            {
                names.push(name.to_owned());
            }
        }
        names.sort_by_cached_key(|name| (name.contains(OF), name.clone()));
        Ok(names)
    }

    pub(crate) fn load_box(&self, name: &str) -> Result<(BoxConfig, BoxSecrets), Failure> {
        let config = read_json(&self.box_json(name))?;
        let config: BoxConfig = config.ok_or_else(|| Failure::needs_user(format!("there is no box {name:?} here")))?;
        let keeper = config.branch.as_ref().map_or(name, |branch| &branch.of);
        let secrets = read_json(&self.secrets(keeper))?.unwrap_or_default();
        Ok((config, secrets))
    }

    /// Clears away what an attempt to open a branch left that was not carried through.
    pub(crate) fn clear_box(&self, name: &str) -> Result<(), Failure> {
        for folder in [self.box_data(name), self.box_cache(name)] {
            match fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Failure::io(&folder, &error)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes down a branch; its secrets are those of the box that it comes from.
    pub(crate) fn save_branch(&self, name: &str, config: &BoxConfig) -> Result<(), Failure> {
        write_json(&self.box_json(name), config)
    }

    /// Writes secrets first: a box without its key could not be opened.
    pub(crate) fn save_box(&self, name: &str, config: &BoxConfig, secrets: &BoxSecrets) -> Result<(), Failure> {
        write_json(&self.secrets(name), secrets)?;
        write_json(&self.box_json(name), config)
    }

    /// Forgets a box that could not be joined to the end.
    pub(crate) fn forget_box(&self, name: &str) {
        for result in [fs::remove_file(self.box_json(name)), fs::remove_file(self.secrets(name))] {
            if let Err(error) = result {
                tracing::debug!(%error, "nothing to forget");
            }
        }
    }
}

fn read_json<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<Option<T>, Failure> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::io(path, &error)),
    };
    let damaged =
        |_| Failure::needs_user(format!("{} is damaged: restore it from a backup or join again", path.display()));
    serde_json::from_slice(&bytes).map(Some).map_err(damaged)
}

/// Writes a private file whole or not at all, durably.
fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), Failure> {
    let write = || -> io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("."));
        create_private(folder)?;
        let temporary = path.with_extension("tmp");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(&serde_json::to_vec_pretty(value)?)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        fs::File::open(folder)?.sync_all()
    };
    write().map_err(|error| Failure::io(path, &error))
}

/// Makes a directory that only its owner may enter.
pub(crate) fn create_private(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

pub(crate) fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let bytes = text.as_bytes();
    if bytes.len() != 2 * N {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(bytes.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_goes_there_and_back_and_refuses_what_it_is_not() {
        assert_eq!(from_hex::<3>(&to_hex(&[0, 0x7f, 0xff])), Some([0, 0x7f, 0xff]));
        assert_eq!(from_hex::<3>("00ff"), None);
        assert_eq!(from_hex::<2>("zz00"), None);
    }
}
