//! Passphrases and credentials: from a file, the environment, or the terminal without echo.

use crate::args::RemoteArgs;
use anyhow::{Context, Result, bail, ensure};
use ouro_engine::api::Secret;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;

const PASSPHRASE_VARIABLE: &str = "OUROBOX_PASSPHRASE";

/// Longest secret file that is read, in bytes.
const SECRET_BYTES_MAX: u64 = 1024 * 1024;

/// Variables in which storages' own tools look for credentials; what is set travels to the engine, whose own environment is another.
const CREDENTIAL_VARIABLES: &[&str] = &[
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_ENDPOINT_URL",
    "OUROBOX_WEBDAV_USER",
    "OUROBOX_WEBDAV_PASSWORD",
    "OUROBOX_WEBDAV_TOKEN",
    "OUROBOX_SFTP_KEY",
];

/// How a missing passphrase is meant.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A new repository: no passphrase has to be said aloud, and one that is typed is typed twice.
    Init,
    /// One that is there: an empty line means that it is not encrypted.
    Join,
}

/// The passphrase; `None` for a repository that is not encrypted.
pub(crate) fn passphrase(args: &RemoteArgs, purpose: Purpose) -> Result<Option<Secret>> {
    if args.no_encryption {
        return Ok(None);
    }
    if let Some(path) = &args.passphrase_file {
        let text = read_file(path)?;
        let line = text.lines().next().unwrap_or_default();
        ensure!(!line.is_empty(), "the passphrase file {} begins with an empty line", path.display());
        return Ok(Some(Secret(line.to_owned())));
    }
    if let Some(value) = std::env::var_os(PASSPHRASE_VARIABLE) {
        let value = value.into_string().ok().filter(|value| !value.is_empty());
        let value = value.with_context(|| format!("{PASSPHRASE_VARIABLE} is empty or not UTF-8"))?;
        return Ok(Some(Secret(value)));
    }
    ask(purpose)
}

/// Credentials for the remote; `None` if neither file nor environment has any.
pub(crate) fn credentials(args: &RemoteArgs) -> Result<Option<Secret>> {
    if let Some(path) = &args.credentials_file {
        return read_file(path).map(|text| Some(Secret(text)));
    }
    let set = CREDENTIAL_VARIABLES.iter().filter_map(|name| Some((name, std::env::var(name).ok()?)));
    let lines: Vec<String> = set.map(|(name, value)| format!("{name}={value}")).collect();
    Ok((!lines.is_empty()).then(|| Secret(lines.join("\n"))))
}

fn read_file(path: &Path) -> Result<String> {
    let read = || -> std::io::Result<String> {
        let mut text = String::new();
        File::open(path)?.take(SECRET_BYTES_MAX).read_to_string(&mut text)?;
        Ok(text)
    };
    read().with_context(|| format!("cannot read {}", path.display()))
}

fn ask(purpose: Purpose) -> Result<Option<Secret>> {
    let Ok(terminal) = File::options().read(true).write(true).open("/dev/tty") else {
        return match purpose {
            Purpose::Init => {
                bail!("no passphrase: give --passphrase-file or {PASSPHRASE_VARIABLE}, or say --no-encryption")
            }
            Purpose::Join => Ok(None), // the engine says so if one is needed
        };
    };
    match purpose {
        Purpose::Join => {
            let typed = prompt(&terminal, "Passphrase of the repository (empty if it is not encrypted): ")?;
            Ok((!typed.0.is_empty()).then_some(typed))
        }
        Purpose::Init => {
            let typed = prompt(&terminal, "New passphrase (without it nobody can ever read the files again): ")?;
            ensure!(!typed.0.is_empty(), "the passphrase is empty: to go without encryption, say --no-encryption");
            let again = prompt(&terminal, "Once more: ")?;
            ensure!(typed.0 == again.0, "the two passphrases differ");
            Ok(Some(typed))
        }
    }
}

/// Reads a line that is not shown while it is typed.
fn prompt(mut terminal: &File, text: &str) -> Result<Secret> {
    write!(terminal, "{text}")?;
    let quiet = Quiet::new(terminal)?;
    let mut line = String::new();
    BufReader::new(terminal).take(SECRET_BYTES_MAX).read_line(&mut line)?;
    drop(quiet);
    writeln!(terminal)?;
    Ok(Secret(line.trim_end_matches(['\r', '\n']).to_owned()))
}

/// A terminal that does not echo, until dropped.
struct Quiet<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> Quiet<'a> {
    fn new(terminal: &'a File) -> Result<Quiet<'a>> {
        let before = tcgetattr(terminal).context("cannot ask the terminal")?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(terminal, OptionalActions::Flush, &quiet).context("cannot hide what is typed")?;
        Ok(Quiet { terminal, before })
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        if let Err(error) = tcsetattr(self.terminal, OptionalActions::Now, &self.before) {
            tracing::warn!(%error, "the terminal still hides what is typed: `stty echo` mends it");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> RemoteArgs {
        RemoteArgs {
            remote: "fs:///x".into(),
            name: None,
            device_name: None,
            passphrase_file: None,
            no_encryption: false,
            credentials_file: None,
        }
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(text.as_bytes()).expect("written");
        file
    }

    #[test]
    fn the_passphrase_is_the_first_line_of_its_file() {
        let file = file("correct horse \nbattery\n");
        let args = RemoteArgs { passphrase_file: Some(file.path().into()), ..args() };
        let secret = passphrase(&args, Purpose::Init).expect("readable").expect("there");
        assert_eq!(secret.0, "correct horse ", "spaces belong to it");
    }

    #[test]
    fn an_empty_passphrase_file_is_not_taken_for_no_encryption() {
        let file = file("\nsecret\n");
        let args = RemoteArgs { passphrase_file: Some(file.path().into()), ..args() };
        assert!(passphrase(&args, Purpose::Join).is_err());
        let args = RemoteArgs { no_encryption: true, ..args };
        assert!(passphrase(&args, Purpose::Init).expect("said aloud").is_none());
    }

    #[test]
    fn a_credentials_file_goes_before_the_environment_and_a_missing_one_is_an_error() {
        let file = file("A=b\n");
        let args = RemoteArgs { credentials_file: Some(file.path().into()), ..args() };
        assert_eq!(credentials(&args).expect("readable").expect("there").0, "A=b\n");
        let args = RemoteArgs { credentials_file: Some("/no such file".into()), ..args };
        let error = credentials(&args).expect_err("missing");
        assert!(format!("{error:#}").contains("/no such file"), "{error:#}");
    }
}
