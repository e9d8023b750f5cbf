//! Starts an engine that outlives this command.

use crate::places::{Places, make_private};
use anyhow::{Context, Result, bail};
use ouro_engine::api::Response;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

/// The log is put aside when it has grown beyond this, in bytes; one older log is kept.
const LOG_BYTES_MAX: u64 = 10 * 1024 * 1024;

/// Starts the same program as an engine in the background and returns when it listens.
///
/// The child says on its standard output that it listens, or why it does not, and writes to the log from then on.
///
/// # Errors
///
/// Why it did not start, in its own words.
pub(crate) fn start_detached(places: &Places) -> Result<()> {
    let log_file = places.log_file();
    let log = open_log(&log_file)?;
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let mut command = Command::new(program);
    command
        .args(["service", "--internal-detached"])
        .current_dir("/") // so that it keeps no directory busy
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log);
    if let Some(home) = std::env::var_os("OUROBOX_HOME").filter(|home| !home.is_empty()) {
        command.env("OUROBOX_HOME", std::path::absolute(home)?);
    }
    let mut child = command.spawn().context("cannot start the engine")?;
    let mut line = String::new();
    if let Some(output) = child.stdout.take() {
        BufReader::new(output).read_line(&mut line).context("cannot hear from the engine")?;
    }
    match serde_json::from_str(&line) {
        Ok(Response::Failed(failure)) => bail!("{}", failure.message),
        Ok(_) => Ok(()),
        Err(_) => {
            let status = child.wait().context("cannot hear from the engine")?;
            bail!("the engine ended before it was ready ({status}); see {}", log_file.display())
        }
    }
}

fn open_log(path: &Path) -> Result<File> {
    if let Some(folder) = path.parent() {
        make_private(folder)?;
    }
    let open = || -> std::io::Result<File> {
        if std::fs::metadata(path).is_ok_and(|metadata| metadata.len() > LOG_BYTES_MAX) {
            std::fs::rename(path, path.with_extension("log.old"))?;
        }
        File::options().create(true).append(true).open(path)
    };
    open().with_context(|| format!("cannot open the log {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_has_grown_is_put_aside_once() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("log/engine.log");
        open_log(&path).expect("made").set_len(LOG_BYTES_MAX + 1).expect("grown");
        assert_eq!(open_log(&path).expect("made anew").metadata().expect("there").len(), 0);
        assert!(folder.path().join("log/engine.log.old").exists());
        open_log(&path).expect("a small one stays");
        assert!(path.exists());
    }
}
