//! What the engine can be asked and what it answers: the only words that doors (CLI, tray, D-Bus) speak with it.
//!
//! Paths are absolute paths inside a mount. Everything here travels as JSON over the private socket.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A request to a running engine.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// Makes a repository on a remote and joins it as a box.
    Init(InitRequest),
    /// Joins an existing repository as a box.
    Join(JoinRequest),
    /// Mounts boxes.
    Mount(MountRequest),
    /// Unmounts; the engine ends when nothing needs it any more.
    Unmount {
        /// Where it is mounted.
        mountpoint: PathBuf,
    },
    /// How everything stands, or only these paths.
    Status {
        /// Paths inside mounts; empty for all boxes.
        paths: Vec<PathBuf>,
    },
    /// What is in a directory, with states.
    List {
        /// A directory or file inside a mount.
        path: PathBuf,
    },
    /// Returns when everything (or what is at or below the path) is durable on the remote.
    Wait {
        /// `None` for all boxes.
        path: Option<PathBuf>,
        /// Gives up after so many seconds.
        timeout_seconds: Option<u64>,
    },
    /// Says what the user wants of paths.
    Pin {
        /// Paths inside mounts.
        paths: Vec<PathBuf>,
        /// The wish.
        pin: PinWish,
    },
    /// Gives the space of paths back; refuses what is not on the remote yet.
    Free {
        /// Paths inside mounts.
        paths: Vec<PathBuf>,
    },
    /// The newest commits of the box at a path, or of that one path.
    Log {
        /// A path inside a mount; `None` for the only box.
        path: Option<PathBuf>,
        /// At most so many.
        limit: usize,
    },
    /// Figures since start and of the last commit.
    Stats,
    /// Verifies what the remote holds.
    Check {
        /// Reads every byte back.
        read_data: bool,
    },
    /// The devices of every box.
    Devices,
    /// Ends the engine after unmounting everything.
    Stop,
}

/// Makes a repository.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InitRequest {
    /// URI of the remote.
    pub remote: String,
    /// Name of the box; by default the last part of the URI.
    pub name: Option<String>,
    /// The passphrase; `None` for a repository that is not encrypted.
    pub passphrase: Option<Secret>,
    /// `KEY=VALUE` lines; `None` takes them from the environment.
    pub credentials: Option<Secret>,
    /// What this device is called; by default the host's name.
    pub device_name: Option<String>,
}

/// Joins a repository.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JoinRequest {
    /// URI of the remote.
    pub remote: String,
    /// Name of the box; by default the last part of the URI.
    pub name: Option<String>,
    /// The passphrase; `None` for a repository that is not encrypted.
    pub passphrase: Option<Secret>,
    /// `KEY=VALUE` lines; `None` takes them from the environment.
    pub credentials: Option<Secret>,
    /// What this device is called; by default the host's name.
    pub device_name: Option<String>,
}

/// A text that is never shown by `Debug`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

/// Mounts boxes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MountRequest {
    /// Where.
    pub mountpoint: PathBuf,
    /// Which; empty for the only one. Several become folders under one root.
    pub boxes: Vec<String>,
    /// Other users may enter (needs `user_allow_other` or root); the kernel then checks permissions.
    pub allow_other: bool,
    /// The kernel checks permissions.
    pub default_permissions: bool,
}

/// What the user wants of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PinWish {
    /// As needed.
    Auto,
    /// Always on this device.
    Keep,
    /// Only on the remote.
    Online,
}

/// One line of progress, any number of which may come before the answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Progress {
    /// What is being done, for people.
    pub what: String,
    /// Done so far.
    pub done: u64,
    /// Of how many, if known.
    pub total: Option<u64>,
    /// What is counted.
    pub unit: Unit,
}

/// What a progress counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Files.
    Files,
}

/// The answer to a request.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Response {
    /// Done; nothing to tell.
    Done,
    /// A box was made or joined.
    Joined(Joined),
    /// Mounted.
    Mounted {
        /// Where.
        mountpoint: PathBuf,
    },
    /// How things stand.
    Status(Status),
    /// Entries of a directory.
    Entries {
        /// Sorted by name.
        entries: Vec<EntryInfo>,
    },
    /// What [`Request::Free`] gave back.
    Freed {
        /// Bytes freed.
        bytes: u64,
        /// What was refused and why.
        refused: Vec<Refused>,
    },
    /// Commits, newest first.
    Log {
        /// The commits.
        commits: Vec<CommitLine>,
    },
    /// Figures.
    Stats {
        /// One per box.
        boxes: Vec<BoxStats>,
    },
    /// What a check found.
    Checked(CheckReport),
    /// Devices by box.
    Devices {
        /// All devices of all boxes.
        devices: Vec<DeviceLine>,
    },
    /// The request failed.
    Failed(Failure),
}

/// A failed request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// What to do about it.
    pub kind: FailureKind,
    /// One line: what failed and what to do.
    pub message: String,
}

/// What kind of failure, that is what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// Try again.
    Retry,
    /// The remote cannot be reached.
    Offline,
    /// The user must do something; the message says what.
    NeedsUser,
    /// Something else stands there.
    Conflict,
    /// Data is damaged.
    Corrupt,
    /// Not possible with this remote or system.
    Unsupported,
    /// A mistake in Ourobox.
    Bug,
}

/// A box that was made or joined.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Joined {
    /// Its name.
    pub name: String,
    /// The remote.
    pub remote: String,
    /// Whether the repository was made just now.
    pub created: bool,
    /// What this device is called in it.
    pub device: String,
    /// Files in it, as far as known.
    pub files: u64,
}

/// How everything stands.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// The boxes.
    pub boxes: Vec<BoxStatus>,
    /// The paths asked for.
    pub paths: Vec<PathStatus>,
}

/// How a box stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BoxStatus {
    /// Its name.
    pub name: String,
    /// URI of its remote.
    pub remote: String,
    /// Where it is mounted.
    pub mounted_at: Option<PathBuf>,
    /// One line that is always true: "up to date", "3 files waiting: offline".
    pub summary: String,
    /// Whether the remote answered last time.
    pub online: bool,
    /// Files changed and not on the remote yet.
    pub pending_files: u64,
    /// Whether the whole index is on this device; a fraction until then.
    pub index_complete: bool,
    /// Files in the box, as far as known.
    pub files: u64,
    /// Bytes in the clean cache.
    pub cached_bytes: u64,
    /// Why the box is stopped, if it is.
    pub problem: Option<String>,
    /// Files whose newest bytes were lost on this device since the start: they are as they were committed last.
    #[serde(default)]
    pub lost: Vec<String>,
}

/// How a path stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PathStatus {
    /// The path.
    pub path: PathBuf,
    /// Its badge.
    pub state: PathState,
    /// What the user wants.
    pub pin: PinWish,
}

/// What a badge shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PathState {
    /// On the remote and here.
    Synced,
    /// On the remote only, or partly here.
    Online,
    /// Kept here by wish.
    Kept,
    /// Changed here, not on the remote yet.
    Pending,
    /// On its way to the remote.
    Uploading,
    /// On its way here.
    Downloading,
    /// Shown beside a conflicting copy.
    Conflict,
    /// Something is wrong.
    Error,
    /// Never synced.
    Ignored,
}

/// One entry of a directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EntryInfo {
    /// Its name, with bytes that are no UTF-8 replaced.
    pub name: String,
    /// `file`, `directory`, `symlink`, …
    pub kind: String,
    /// Size in bytes.
    pub size: u64,
    /// Last change, seconds since 1970.
    pub mtime: i64,
    /// Its badge.
    pub state: PathState,
    /// What the user wants.
    pub pin: PinWish,
}

/// Something that was not freed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Refused {
    /// The path.
    pub path: PathBuf,
    /// Why.
    pub why: String,
}

/// One commit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CommitLine {
    /// `<device number>.<seq>`.
    pub id: String,
    /// Name of the device.
    pub device: String,
    /// Time, RFC 3339, UTC.
    pub time: String,
    /// Files changed.
    pub files: u64,
    /// What the user said about it.
    pub message: String,
}

/// Figures of a box.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct BoxStats {
    /// Its name.
    pub name: String,
    /// Requests since start, by kind.
    pub requests: Requests,
    /// Bytes received from the remote since start.
    pub bytes_in: u64,
    /// Bytes sent to the remote since start.
    pub bytes_out: u64,
    /// Of these, records and index nodes.
    pub index_bytes_out: u64,
    /// Of the last commit: requests and bytes it took, without a checkpoint.
    pub last_commit: Option<CommitCost>,
    /// Of the last checkpoint written here.
    pub last_checkpoint: Option<CommitCost>,
    /// Commits published since start.
    pub commits: u64,
    /// Checkpoints published since start.
    pub checkpoints: u64,
}

/// Requests by kind.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Requests {
    /// Reads.
    pub get: u64,
    /// Writes.
    pub put: u64,
    /// Listings.
    pub list: u64,
    /// Deletions.
    pub delete: u64,
    /// Looks at size or existence.
    pub head: u64,
}

/// What a commit took.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct CommitCost {
    /// Objects written.
    pub puts: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Of these, the record without file data.
    pub index_bytes: u64,
    /// Files changed.
    pub files: u64,
    /// From sealing to durable, in milliseconds.
    pub millis: u64,
}

/// What a check found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CheckReport {
    /// Commit records read.
    pub records: u64,
    /// Index nodes read.
    pub nodes: u64,
    /// Blobs seen to exist (or read back, with `read_data`).
    pub blobs: u64,
    /// Bytes read back.
    pub bytes: u64,
    /// What is wrong, one line each; empty if all is well.
    pub problems: Vec<String>,
}

/// One device of a box.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeviceLine {
    /// The box.
    pub box_name: String,
    /// The device's name.
    pub name: String,
    /// Its number.
    pub number: u32,
    /// Whether it is this one.
    pub this: bool,
    /// Commits known.
    pub commits: u64,
    /// Its last commit, RFC 3339, UTC.
    pub last_commit: Option<String>,
}
