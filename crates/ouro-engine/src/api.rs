//! What the engine can be asked and what it answers: the only words that doors (CLI, tray, D-Bus) speak with it.
//!
//! Paths are absolute paths inside a mount. Everything here travels as JSON over the private socket.

mod branches;
mod check;
mod conflicts;
mod devices;

pub use branches::{BranchEnded, BranchLine, Branched, Merged, WriterLine};
pub use check::CheckReport;
pub use conflicts::{ConflictLine, Event, KeepWish, SideLine};
pub use devices::DeviceLine;

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
    /// Takes a tree that stands elsewhere on this machine into a box, without going through the mount; returns when all of it is
    /// durable on the remote.
    Import {
        /// The tree.
        source: PathBuf,
        /// What it becomes: a path inside a mount. `None`: a directory of its own name in the root of the box.
        into: Option<PathBuf>,
        /// Which box, if `into` does not say; `None` for the only one.
        box_name: Option<String>,
    },
    /// The newest commits of a box, or those that did something to one path.
    Log {
        /// A path inside a mount; `None` for the whole box.
        path: Option<PathBuf>,
        /// The box; `None` for that of the path, or the only one.
        name: Option<String>,
        /// At most so many.
        limit: usize,
    },
    /// What is different between two states of a box.
    Diff {
        /// The earlier one: see [`ouro_core::when`].
        from: String,
        /// The later one.
        to: String,
        /// Only what is at or below this path inside a mount.
        path: Option<PathBuf>,
        /// The box; `None` for that of the path, or the only one.
        name: Option<String>,
    },
    /// Makes everything changed so far a commit, and returns when it is on the remote.
    Snapshot {
        /// What the user says about it; the first line is the snapshot's name. May be empty.
        message: String,
        /// A path inside a mount, to tell the box.
        path: Option<PathBuf>,
        /// The box; `None` for that of the path, or the only one.
        name: Option<String>,
    },
    /// Brings a path, or a whole box, back to what it was.
    Restore {
        /// A path inside a mount, also one where nothing is now; `None` for the whole box.
        path: Option<PathBuf>,
        /// The state: see [`ouro_core::when`].
        at: String,
        /// A directory of the same box into which copies are put instead.
        to: Option<PathBuf>,
        /// The box; `None` for that of the path, or the only one.
        name: Option<String>,
    },
    /// What concurrent work left at one name.
    Conflicts {
        /// Only what is at or below this path inside a mount.
        path: Option<PathBuf>,
        /// The box; `None` for that of the path, or the only one.
        name: Option<String>,
    },
    /// Tells conflicts as they come up and end, until the box or the engine goes. Answered by the host: see [`crate::Engine::events`].
    Events {
        /// The box; `None` for the only one.
        name: Option<String>,
    },
    /// Ends a conflict.
    Resolve {
        /// Any of the paths inside a mount at which a side of it is shown.
        path: PathBuf,
        /// What stays.
        keep: KeepWish,
    },
    /// Opens a branch as a box beside the one it comes from: a new one, or one that is there.
    Branch {
        /// Its name.
        branch: String,
        /// The state at which a new one begins: see [`ouro_core::when`]; `None` for now.
        at: Option<String>,
        /// The box that it comes from; `None` for the only one.
        name: Option<String>,
    },
    /// Deletes a branch.
    EndBranch {
        /// Its name.
        branch: String,
        /// Also if it has commits that the box does not have.
        discard: bool,
        /// The box that it comes from; `None` for the only one.
        name: Option<String>,
    },
    /// The branches of a box's repository.
    Branches {
        /// The box; `None` for the only one.
        name: Option<String>,
    },
    /// Brings a branch into a box.
    Merge {
        /// The branch; `main` for the main line.
        branch: String,
        /// Only says what would change.
        preview: bool,
        /// The box into which it is brought; `None` for the only one.
        name: Option<String>,
    },
    /// Figures since start and of the last commit.
    Stats {
        /// Also what the remote holds: lists it, and walks through all that is live.
        #[serde(default)]
        remote: bool,
    },
    /// Thins the past to what retention keeps, and lets go what nothing needs any more.
    Collect(CollectRequest),
    /// Verifies what the remote holds.
    Check {
        /// Reads every byte back.
        read_data: bool,
        /// Puts back what this device still has of what is missing or damaged.
        #[serde(default)]
        repair: bool,
    },
    /// The devices of every box.
    Devices,
    /// Removes a device from a box: what it did stays, and nobody waits for it any more.
    RemoveDevice {
        /// Its name, its number, or the beginning of its id.
        device: String,
        /// The box; `None` for the only one.
        name: Option<String>,
        /// It may be this device.
        this: bool,
    },
    /// Ends the engine after unmounting everything.
    Stop,
}

/// Collects.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CollectRequest {
    /// The box; `None` for all.
    pub name: Option<String>,
    /// Nothing is written and nothing goes: only what would is told.
    pub dry_run: bool,
    /// Least time between marking and deleting, in seconds; `None` for two days.
    pub grace_seconds: Option<u64>,
    /// How long every single commit stays, in seconds; `None` for a day. What follows (hours, days, weeks) is as ever.
    pub keep_all_seconds: Option<u64>,
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
    /// What [`Request::Import`] took in.
    Imported(Imported),
    /// Commits, newest first.
    Log {
        /// The commits.
        commits: Vec<CommitLine>,
        /// Why older ones are not shown, if they should have been.
        note: Option<String>,
    },
    /// What is different between two states, in order of paths.
    Diff {
        /// The changes.
        changes: Vec<ChangeLine>,
    },
    /// A commit was made on request.
    Snapshot(SnapshotLine),
    /// Conflicts in order of paths.
    Conflicts {
        /// The conflicts.
        conflicts: Vec<ConflictLine>,
    },
    /// A conflict is ended.
    Resolved {
        /// The path that was asked about.
        path: PathBuf,
        /// What stayed.
        keep: KeepWish,
    },
    /// Something is again what it was.
    Restored(Restored),
    /// A branch is open.
    Branched(Branched),
    /// A branch is deleted.
    BranchEnded(BranchEnded),
    /// Branches in order of their names.
    Branches {
        /// The branches.
        branches: Vec<BranchLine>,
    },
    /// A branch was brought in, or what that would do.
    Merged(Merged),
    /// Figures.
    Stats {
        /// One per box.
        boxes: Vec<BoxStats>,
    },
    /// What a collection did.
    Collected {
        /// One per box.
        boxes: Vec<CollectedLine>,
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
    /// Files published since the start of which a collection took parts that were never on this device: zeros stand there.
    #[serde(default)]
    pub incomplete: Vec<String>,
    /// Why this device goes on under another identity since the start, and under which.
    #[serde(default)]
    pub renewed: Option<String>,
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
    /// The same with as few digits of the device number as tell it from the others: at least four.
    pub short: String,
    /// Name of the device.
    pub device: String,
    /// Time, RFC 3339, UTC.
    pub time: String,
    /// Files changed.
    pub files: u64,
    /// Records that it forgot because nobody could see them any more; not among the files. Not counted in commits of a path.
    pub forgotten: u64,
    /// What it did, in a few words.
    pub what: String,
    /// What it did to which files, the first of them: all files of the box, or those asked for.
    pub changes: Vec<ChangeLine>,
    /// Bytes of the contents that it brought.
    pub bytes: u64,
    /// What the user said about it.
    pub message: String,
    /// Its name, if it is a snapshot with one.
    pub snapshot: Option<String>,
}

/// What was done to a file, or how it differs between two states.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ChangeLine {
    /// What: at least one, each once.
    pub what: Vec<Deed>,
    /// Where it stands in the box; where it stood if it is gone. Slashes between names; bytes that are no UTF-8 replaced.
    pub path: String,
    /// Where it stood before, if it was renamed.
    pub from: Option<String>,
    /// `file`, `directory`, `symlink`, …
    pub kind: String,
    /// Size of its content, in bytes; not for directories and what is gone.
    pub size: Option<u64>,
    /// Size of the content before, in bytes, where that is known.
    pub size_before: Option<u64>,
}

/// What can be done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Deed {
    /// It was made.
    Created,
    /// It was moved or got another name.
    Renamed,
    /// It got another content.
    Edited,
    /// It got a further name or lost one of several.
    Linked,
    /// Its mode or extended attributes were changed.
    Attributes,
    /// What was shown by rule was written down.
    Settled,
    /// It was deleted.
    Deleted,
}

/// A commit that was made on request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SnapshotLine {
    /// The box.
    pub box_name: String,
    /// The commit: `<device number>.<seq>`.
    pub commit: String,
    /// Its name, if it has one.
    pub snapshot: Option<String>,
    /// Where it can be looked at, if the box is mounted.
    pub path: Option<PathBuf>,
    /// Whether it was made now; else nothing had changed since that commit.
    pub made: bool,
    /// Why it is not on the remote yet, if it is not; it goes there by itself.
    pub waiting: Option<String>,
}

/// What a restore did.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Restored {
    /// The box.
    pub box_name: String,
    /// Files and directories that were made.
    pub created: u64,
    /// Those that got their old content or attributes.
    pub edited: u64,
    /// Those that were moved back.
    pub renamed: u64,
    /// Those that were not there then, and are not there any more.
    pub removed: u64,
    /// The commit that holds all of it; `None` if nothing was different, or if it is still to be made: see `waiting`.
    pub commit: Option<String>,
    /// The commit that holds what was there before.
    pub before: Option<String>,
    /// Why it is not on the remote yet, if it is not; it goes there by itself.
    pub waiting: Option<String>,
}

/// What an import did.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Imported {
    /// Entries taken in: files, directories, symlinks and the rest.
    pub entries: u64,
    /// Of these, files whose bytes were read.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Entries that the box had already, the same.
    pub same: u64,
    /// Entries whose names the box ignores.
    pub ignored: u64,
    /// Entries that were left out.
    pub left_out: u64,
    /// The first hundred of these, and why.
    pub refused: Vec<Refused>,
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
    /// Digest of the committed state, 32 hexadecimal digits: devices that know the same commits have the same.
    pub digest: String,
    /// Requests a day, if it goes on as since start.
    pub requests_a_day: u64,
    /// What the remote holds, if that was asked.
    pub remote: Option<RemoteStats>,
}

/// What the remote holds of a box.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct RemoteStats {
    /// Bytes of all files that are committed, each as often as it has a name.
    pub logical_bytes: u64,
    /// Bytes of all packs, node packs and records.
    pub stored_bytes: u64,
    /// Of these, what something refers to: the present, and every state of the past that stays.
    pub live_bytes: u64,
    /// What `gc` would give back now.
    pub reclaimable_bytes: u64,
    /// Packs, node packs and records.
    pub objects: u64,
}

/// What a collection of a box did.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CollectedLine {
    /// The box.
    pub box_name: String,
    /// What was condemned is gone.
    pub ended: bool,
    /// There was nothing to collect.
    pub nothing: bool,
    /// Devices that must take note first; `gc` goes on when they have.
    pub waiting_for: Vec<String>,
    /// Seconds until it may go on.
    pub grace_seconds: u64,
    /// Objects it was about.
    pub objects: u64,
    /// Their bytes before.
    pub stored_bytes: u64,
    /// Bytes of what is live in them.
    pub live_bytes: u64,
    /// Bytes of all files that are committed.
    pub logical_bytes: u64,
    /// Bytes that go, less what was copied.
    pub reclaimed_bytes: u64,
    /// Objects that go.
    pub gone: u64,
    /// States of the past with a tree of their own.
    pub kept: u64,
    /// Commits whose state is kept no more.
    pub thinned: u64,
    /// Records of the index that showed nothing any more, of removed directories above all, and are forgotten.
    pub purged: u64,
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
