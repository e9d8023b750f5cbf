//! Storage places of every kind.

use ouro_testkit::servers::{self, Server};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// An empty storage place; it vanishes when dropped.
pub struct Place {
    /// What it is called in messages.
    pub kind: &'static str,
    /// Its URI.
    pub uri: String,
    /// `KEY=VALUE` lines.
    pub credentials: String,
    server: Option<Server>,
    data: PathBuf,
    _folder: Option<TempDir>,
}

impl Place {
    /// A plain folder.
    pub fn folder() -> Place {
        let folder = tempfile::Builder::new().prefix("ouro-place-").tempdir().expect("a temporary folder");
        let data = folder.path().join("remote");
        std::fs::create_dir(&data).expect("made");
        let uri = format!("fs://{}", data.display());
        Place { kind: "fs", uri, credentials: String::new(), server: None, data, _folder: Some(folder) }
    }

    /// An S3 bucket served by rclone.
    pub fn s3() -> Place {
        Place::served("S3", servers::s3())
    }

    /// A WebDAV folder served by rclone.
    pub fn webdav() -> Place {
        Place::served("WebDAV", servers::webdav())
    }

    /// A folder reached by SFTP, served by OpenSSH.
    pub fn sftp() -> Place {
        Place::served("SFTP", servers::sshd())
    }

    fn served(kind: &'static str, server: std::io::Result<Server>) -> Place {
        let server =
            server.unwrap_or_else(|error| panic!("no {kind} server (scripts/bootstrap test installs it): {error}"));
        Place {
            kind,
            uri: server.uri().to_owned(),
            credentials: server.credentials().to_lines().to_string(),
            data: server.data(),
            server: Some(server),
            _folder: None,
        }
    }

    /// The server behind it.
    ///
    /// # Panics
    ///
    /// If it is a plain folder.
    pub fn server(&self) -> &Server {
        self.server.as_ref().expect("a plain folder has no server")
    }

    /// The folder in which everything it stores lies.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Bytes it stores.
    pub fn bytes_stored(&self) -> u64 {
        fn sum(folder: &Path) -> u64 {
            // Files come and go while the server works.
            let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
            let size = |entry: std::fs::DirEntry| match entry.file_type() {
                Ok(kind) if kind.is_dir() => sum(&entry.path()),
                _ => entry.metadata().map_or(0, |metadata| metadata.len()),
            };
            entries.flatten().map(size).sum()
        }
        sum(&self.data)
    }
}
