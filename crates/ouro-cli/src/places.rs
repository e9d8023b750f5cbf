//! Where things are on this device, and which socket belongs to them.

use anyhow::{Context, Result};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The directories of one engine. `OUROBOX_HOME` moves them all, else they are the XDG base directories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Places {
    /// Settings.
    pub(crate) config: PathBuf,
    /// What must not be lost: journals, unsent changes, keys.
    pub(crate) data: PathBuf,
    /// What can be fetched again.
    pub(crate) cache: PathBuf,
    /// The socket's directory.
    pub(crate) run: PathBuf,
    /// The socket's name in it: two engines of one user may share a run directory.
    pub(crate) socket_name: String,
}

impl Places {
    /// From this process's environment.
    ///
    /// # Errors
    ///
    /// If neither `OUROBOX_HOME` nor `HOME` is set.
    pub(crate) fn from_environment() -> Result<Places> {
        Places::from(|name| std::env::var_os(name).filter(|value| !value.is_empty()))
    }

    fn from(variable: impl Fn(&str) -> Option<OsString>) -> Result<Places> {
        if let Some(home) = variable("OUROBOX_HOME") {
            let home = std::path::absolute(home).context("OUROBOX_HOME is no usable path")?;
            return Ok(Places {
                config: home.join("config"),
                data: home.join("data"),
                cache: home.join("cache"),
                run: home.join("run"),
                socket_name: "engine.sock".to_owned(),
            });
        }
        let home = variable("HOME").map(PathBuf::from).context("neither HOME nor OUROBOX_HOME is set")?;
        // The specification of the base directories: what is not absolute is ignored.
        let base = |name: &str, default: &str| {
            let named = variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
            named.unwrap_or_else(|| home.join(default)).join("ourobox")
        };
        let data = base("XDG_DATA_HOME", ".local/share");
        let runtime = variable("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
        Ok(Places {
            config: base("XDG_CONFIG_HOME", ".config"),
            cache: base("XDG_CACHE_HOME", ".cache"),
            run: runtime.map_or_else(|| data.join("run"), |runtime| runtime.join("ourobox")),
            socket_name: format!("{}.sock", &blake3::hash(data.as_os_str().as_bytes()).to_hex()[..16]),
            data,
        })
    }

    /// Held by the one process that runs the engine.
    pub(crate) fn lock_file(&self) -> PathBuf {
        self.run.join(&self.socket_name).with_extension("lock")
    }

    /// Where the engine writes when it runs detached.
    pub(crate) fn log_file(&self) -> PathBuf {
        self.data.join("log/engine.log")
    }

    /// Makes the socket's directory, readable by this user only.
    ///
    /// # Errors
    ///
    /// If it cannot be made.
    pub(crate) fn make_run(&self) -> Result<()> {
        make_private(&self.run)
    }

    /// The folders a mount must neither contain nor lie in.
    pub(crate) fn own_folders(&self) -> Vec<PathBuf> {
        vec![self.config.clone(), self.data.clone(), self.cache.clone(), self.run.clone()]
    }
}

/// Makes a directory, with its parents, that only this user can enter. One that is there keeps its mode.
pub(crate) fn make_private(path: &Path) -> Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot make the directory {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn places(variables: &[(&str, &str)]) -> Result<Places> {
        let variables: BTreeMap<_, _> = variables.iter().map(|(k, v)| ((*k).to_owned(), OsString::from(v))).collect();
        Places::from(|name| variables.get(name).cloned())
    }

    #[test]
    fn one_variable_moves_everything() {
        let places = places(&[("OUROBOX_HOME", "/o"), ("HOME", "/h"), ("XDG_RUNTIME_DIR", "/r")]).expect("complete");
        assert_eq!(places.config, Path::new("/o/config"));
        assert_eq!(places.run, Path::new("/o/run"));
        assert_eq!(places.lock_file(), Path::new("/o/run/engine.lock"));
    }

    #[test]
    fn without_it_the_base_directories_apply() {
        let places =
            places(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/c"), ("XDG_CONFIG_HOME", "relative")]).expect("complete");
        assert_eq!(places.config, Path::new("/h/.config/ourobox"));
        assert_eq!(places.data, Path::new("/h/.local/share/ourobox"));
        assert_eq!(places.cache, Path::new("/c/ourobox"));
        assert_eq!(places.run, Path::new("/h/.local/share/ourobox/run"));
    }

    #[test]
    fn two_homes_that_share_a_runtime_directory_have_different_sockets() {
        let a = places(&[("HOME", "/a"), ("XDG_RUNTIME_DIR", "/r")]).expect("complete");
        let b = places(&[("HOME", "/b"), ("XDG_RUNTIME_DIR", "/r")]).expect("complete");
        assert_eq!(a.run, b.run);
        assert_ne!(a.socket_name, b.socket_name);
    }

    #[test]
    fn without_a_home_there_is_no_guess() {
        assert!(places(&[]).is_err());
    }
}
