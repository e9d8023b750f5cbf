//! The command line: verbs, options and the texts of `--help`.

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Any storage you own, as a drive that mounts at once, works offline and remembers every state.
#[derive(Debug, Parser)]
#[command(name = "ourobox", version, max_term_width = 100, arg_required_else_help = true)]
#[command(after_help = "Start with:  ourobox init fs:///media/disk/box  and then  ourobox fuse ~/Box\n\
    Exit codes: 0 done; 1 failed, with one line saying what and what to do; 2 wrong usage.")]
pub(crate) struct Cli {
    /// Answer in JSON: one document on standard output, also for failures
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Say more on standard error; twice: everything
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,

    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Make a repository on a storage of yours, or join the one that is there
    Init(InitArgs),
    /// Join an existing repository on this device
    Join(JoinArgs),
    /// Mount boxes; returns once they are mounted
    Fuse(FuseArgs),
    /// Write everything down, unmount, and end the engine if nothing else needs it
    Umount(UmountArgs),
    /// Show how boxes, or some paths, stand
    Status {
        /// Files or directories in a mount; none: all boxes
        paths: Vec<PathBuf>,
    },
    /// List a directory with the state of each entry
    Ls {
        /// A directory or file in a mount
        #[arg(default_value = ".")]
        path: PathBuf,
    },
    /// Return when everything, or what is at a path, is safe on the remote
    Wait(WaitArgs),
    /// Keep files and directories on this device
    Pin(PinArgs),
    /// Take back what `pin` said: keep them here as needed
    Unpin {
        /// Files or directories in a mount
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
    /// Give the disk space of files back; refuses what is not on the remote yet
    Free {
        /// Files or directories in a mount
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
    /// Take a folder of this machine into a box at full speed, past the mount
    Import(ImportArgs),
    /// Show what was changed, by whom and when, newest first
    Log(LogArgs),
    /// Show what is different between two states of a box
    Diff(DiffArgs),
    /// Bring a file, a directory or the whole box back to what it was; what is there now stays in history
    Restore(RestoreArgs),
    /// Make everything changed so far a commit, under a name if you give one, and return when it is on the remote
    Snapshot(SnapshotArgs),
    /// List what devices changed without knowing of each other, with both sides
    Conflicts(ConflictsArgs),
    /// Tell conflicts as they come up and end, a line each, until the engine ends (with --json a document a line)
    Events(EventsArgs),
    /// End a conflict: keep this device's version, the other's, or both as files
    Resolve(ResolveArgs),
    /// Open a writable line of its own that begins at any state, or list those there are
    Branch(BranchArgs),
    /// Bring a branch back into the box, by the rules that hold between devices
    Merge(MergeArgs),
    /// Show requests and bytes since the engine's start, and the cost of the last commit
    Stats {
        /// Also what the remote holds: logical, stored, deduplicated and reclaimable bytes (lists the remote)
        #[arg(long)]
        remote: bool,
    },
    /// Thin the past to what is kept of it, and let go on the remote what nothing needs any more
    Gc(GcArgs),
    /// Verify what the remote holds; exits with 1 if something is wrong
    Check {
        /// Read every byte back instead of looking whether it is there
        #[arg(long)]
        read_data: bool,

        /// Put back what this device still has of what is missing or damaged; run it on other devices for the rest
        #[arg(long)]
        repair: bool,
    },
    /// List the devices that write to each box, or remove one
    Devices(DevicesArgs),
    /// Run the engine in the foreground, without a window; mounts come by `ourobox fuse`
    Service(ServiceArgs),
    /// Started by the engine beside itself: ends its mounts if it is killed and cannot end
    #[command(hide = true)]
    Guard(GuardArgs),
}

/// `gc`.
#[derive(Debug, Args)]
pub(crate) struct GcArgs {
    /// Only say what would go
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Least time between looking and deleting. Less than two days is safe only if no device joined lately that a list of the
    /// storage may not show yet; devices that are known are always waited for
    #[arg(long, value_name = "TIME", value_parser = span, default_value = "48h")]
    pub(crate) grace: u64,

    /// How long every single state stays; older ones are thinned to one an hour for a week, one a day for a month, one a week for a
    /// year; named ones stay
    #[arg(long, value_name = "TIME", value_parser = span, default_value = "24h")]
    pub(crate) keep_all: u64,

    /// The box [default: all]
    #[arg(long = "box", value_name = "NAME")]
    pub(crate) name: Option<String>,
}

/// Seconds of a span like `48h`, `30 min`, `0s`.
fn span(text: &str) -> Result<u64, String> {
    ouro_core::when::parse_ago(&format!("{} ago", text.trim()))
        .ok_or_else(|| "write a number and a unit (s, m, h, d, w), for example 48h".to_owned())
}

/// What `init` and `join` have in common.
#[derive(Debug, Args)]
pub(crate) struct RemoteArgs {
    /// URI of the storage: s3://bucket/prefix, webdav://host/path, sftp://host/path or fs:///directory.
    /// No secrets in it: they come from the environment or from --credentials-file
    pub(crate) remote: String,

    /// What the box is called on this device [default: the last part of the URI]
    #[arg(long = "box", value_name = "NAME")]
    pub(crate) name: Option<String>,

    /// What this device is called in the box [default: the host's name]
    #[arg(long, value_name = "NAME")]
    pub(crate) device_name: Option<String>,

    /// Read the passphrase from the first line of a file; without it, from OUROBOX_PASSPHRASE or the terminal
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,

    /// The repository is not encrypted: whoever can read the storage can read the files
    #[arg(long, conflicts_with = "passphrase_file")]
    pub(crate) no_encryption: bool,

    /// Read the storage's credentials from KEY=VALUE lines in a file instead of the environment
    #[arg(long, value_name = "FILE")]
    pub(crate) credentials_file: Option<PathBuf>,
}

/// `ourobox init`.
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

/// `ourobox join`.
#[derive(Debug, Args)]
pub(crate) struct JoinArgs {
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

/// `ourobox fuse`.
#[derive(Debug, Args)]
pub(crate) struct FuseArgs {
    /// An empty directory, or one to be made
    pub(crate) mountpoint: PathBuf,

    /// Which box; several become directories under the mount point [default: the only one]
    #[arg(long = "box", value_name = "NAME")]
    pub(crate) boxes: Vec<String>,

    /// Stay until it is unmounted or ended by a signal
    #[arg(long)]
    pub(crate) foreground: bool,

    /// Let other users in (needs root, or user_allow_other in /etc/fuse.conf)
    #[arg(long)]
    pub(crate) allow_other: bool,

    /// Let the kernel check permissions (implied by --allow-other)
    #[arg(long)]
    pub(crate) default_permissions: bool,
}

/// `ourobox umount`.
#[derive(Debug, Args)]
pub(crate) struct UmountArgs {
    /// Where it is mounted
    #[arg(required_unless_present = "all")]
    pub(crate) mountpoint: Option<PathBuf>,

    /// Unmount everything and end the engine
    #[arg(long, conflicts_with = "mountpoint")]
    pub(crate) all: bool,
}

/// `ourobox wait`.
#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    /// A file or directory in a mount; none: all boxes
    #[arg(conflicts_with = "all")]
    pub(crate) path: Option<PathBuf>,

    /// All boxes
    #[arg(long)]
    pub(crate) all: bool,

    /// Give up after so many seconds
    #[arg(long, value_name = "SECONDS")]
    pub(crate) timeout: Option<u64>,
}

/// `ourobox pin`.
#[derive(Debug, Args)]
pub(crate) struct PinArgs {
    /// Files or directories in a mount
    #[arg(required = true)]
    pub(crate) paths: Vec<PathBuf>,

    /// Keep them on the remote only
    #[arg(long)]
    pub(crate) online: bool,
}

/// How the past is named, in the help of every verb that asks for it.
const WHEN_HELP: &str = "WHEN is \"2h ago\", yesterday, now, 2026-11-22T14:30:05Z (or its date alone; UTC), a commit as \
    `ourobox log` shows it, or a snapshot's name";
/// `ourobox import`.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The folder to take in; it stays as it is
    pub(crate) source: PathBuf,

    /// What it becomes: a path in a mount [default: a directory of the same name in the box]
    pub(crate) into: Option<PathBuf>,

    /// Which box [default: the only one]
    #[arg(long = "box", value_name = "NAME", conflicts_with = "into")]
    pub(crate) name: Option<String>,
}

/// `ourobox log`.
#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    /// A file or directory in a mount, also one that was deleted; none: the whole box
    pub(crate) path: Option<PathBuf>,

    /// Which box [default: that of the path, or the only one]
    #[arg(long = "box", value_name = "NAME", conflicts_with = "path")]
    pub(crate) name: Option<String>,

    /// Show at most so many
    #[arg(short = 'n', long, default_value_t = 20, value_name = "COUNT")]
    pub(crate) limit: usize,
}

/// `ourobox diff`.
#[derive(Debug, Args)]
#[command(after_help = WHEN_HELP)]
pub(crate) struct DiffArgs {
    /// The earlier state
    #[arg(value_name = "WHEN")]
    pub(crate) from: String,

    /// The later state
    #[arg(value_name = "WHEN", default_value = "now")]
    pub(crate) to: String,

    /// Only what is at or below this path in a mount
    pub(crate) path: Option<PathBuf>,

    /// Which box [default: that of the path, or the only one]
    #[arg(long = "box", value_name = "NAME", conflicts_with = "path")]
    pub(crate) name: Option<String>,
}

/// `ourobox restore`.
#[derive(Debug, Args)]
#[command(after_help = WHEN_HELP)]
pub(crate) struct RestoreArgs {
    /// A path in a mount, also one where nothing is now; / for the whole box
    pub(crate) path: PathBuf,

    /// To which state
    #[arg(long, value_name = "WHEN")]
    pub(crate) at: String,

    /// Put copies into this directory of the same box, and leave what is there now as it is
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) to: Option<PathBuf>,

    /// Which box, with / as the path [default: the only one]
    #[arg(long = "box", value_name = "NAME")]
    pub(crate) name: Option<String>,
}

/// `ourobox snapshot`.
#[derive(Debug, Args)]
pub(crate) struct SnapshotArgs {
    /// What to say about it; the first line is the snapshot's name, by which it is found in .snapshots on every device
    #[arg(short, long, value_name = "MESSAGE", default_value = "")]
    pub(crate) message: String,

    /// A path in the mount of the box [default: the only box]
    pub(crate) path: Option<PathBuf>,

    /// Which box [default: that of the path, or the only one]
    #[arg(long = "box", value_name = "NAME", conflicts_with = "path")]
    pub(crate) name: Option<String>,
}

/// `ourobox branch`.
#[derive(Debug, Args)]
#[command(after_help = WHEN_HELP)]
pub(crate) struct BranchArgs {
    /// Its name; a branch that is there, also one of another device, is opened. None: list all branches
    pub(crate) branch: Option<String>,

    /// The state at which a new branch begins [default: now]
    #[arg(long, value_name = "WHEN", requires = "branch")]
    pub(crate) at: Option<String>,

    /// Mount it there at once
    #[arg(long, value_name = "DIRECTORY", requires = "branch")]
    pub(crate) mount: Option<PathBuf>,

    /// Delete it: its box goes from this device, and nobody writes it any more. What was merged stays
    #[arg(long, requires = "branch", conflicts_with_all = ["at", "mount"])]
    pub(crate) delete: bool,

    /// Delete it although it has commits that were not merged
    #[arg(long, requires = "delete")]
    pub(crate) discard: bool,

    /// Which box it comes from [default: the only one]
    #[arg(long = "box", value_name = "NAME")]
    pub(crate) name: Option<String>,
}

/// `ourobox merge`.
#[derive(Debug, Args)]
pub(crate) struct MergeArgs {
    /// The branch to bring in; main for the main line
    pub(crate) branch: String,

    /// Only say what would change
    #[arg(long)]
    pub(crate) preview: bool,

    /// Into which box: BOX, or BOX@BRANCH [default: the only box]
    #[arg(long = "box", value_name = "NAME")]
    pub(crate) name: Option<String>,
}

/// `ourobox conflicts`.
#[derive(Debug, Args)]
pub(crate) struct ConflictsArgs {
    /// Only what is at or below this path in a mount
    pub(crate) path: Option<PathBuf>,

    /// Which box [default: that of the path, or the only one]
    #[arg(long = "box", value_name = "NAME", conflicts_with = "path")]
    pub(crate) name: Option<String>,
}

/// `ourobox events`.
#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Which box [default: the only one]
    #[arg(long = "box", value_name = "NAME")]
    pub(crate) name: Option<String>,
}

/// `ourobox resolve`.
#[derive(Debug, Args)]
pub(crate) struct ResolveArgs {
    /// The file in conflict, or its copy
    pub(crate) path: PathBuf,

    /// What stays; what does not is still in history
    #[arg(long)]
    pub(crate) keep: KeepArg,
}

/// What of a conflict is kept.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum KeepArg {
    /// What this device wrote
    Mine,
    /// What the other device wrote
    Theirs,
    /// Both, as two files
    Both,
}

/// `ourobox devices`.
#[derive(Debug, Args)]
pub(crate) struct DevicesArgs {
    #[command(subcommand)]
    pub(crate) verb: Option<DevicesVerb>,
}

/// What to do with a device.
#[derive(Debug, Subcommand)]
pub(crate) enum DevicesVerb {
    /// Remove a device: what it did stays, and nobody waits for it any more. If it comes back, it goes on as a new one
    Remove {
        /// Its name, its number, or the first digits of its id
        device: String,

        /// Which box [default: the only one]
        #[arg(long = "box", value_name = "NAME")]
        name: Option<String>,

        /// Remove it although it is this device
        #[arg(long)]
        this_device: bool,
    },
}

/// `ourobox service`.
#[derive(Debug, Args)]
pub(crate) struct ServiceArgs {
    /// Started by `ourobox fuse`: report readiness on standard output, write to the log, end with the last mount
    #[arg(long, hide = true)]
    pub(crate) internal_detached: bool,
}

/// `ourobox guard`.
#[derive(Debug, Args)]
pub(crate) struct GuardArgs {
    /// The lock file of the engine
    pub(crate) lock_file: PathBuf,
    /// The engine's process id
    pub(crate) engine: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_definitions_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_of_the_manual_is_understood() {
        for line in [
            "ourobox init fs:///x --box b --device-name d --passphrase-file p --credentials-file c",
            "ourobox init fs:///x --no-encryption",
            "ourobox join s3://b/p?region=x",
            "ourobox fuse /m --box a --box b --foreground --allow-other --default-permissions",
            "ourobox umount /m",
            "ourobox umount --all",
            "ourobox status",
            "ourobox --json status a b",
            "ourobox ls --json",
            "ourobox wait",
            "ourobox wait --all --timeout 5",
            "ourobox wait a/b",
            "ourobox pin a --online",
            "ourobox unpin a",
            "ourobox free a b",
            "ourobox import /x",
            "ourobox import /x /m/y",
            "ourobox import /x --box b",
            "ourobox log -n 3 a",
            "ourobox log --box b",
            "ourobox diff 2026-11-22",
            "ourobox diff 17.3 17.4 a --json",
            "ourobox conflicts",
            "ourobox conflicts a --json",
            "ourobox resolve a --keep theirs",
            "ourobox snapshot",
            "ourobox restore a --at yesterday --to d",
            "ourobox restore / --at 17.3 --box b",
            "ourobox snapshot -m before --box b",
            "ourobox branch",
            "ourobox branch draft --at yesterday --mount /m --box b",
            "ourobox merge draft --preview",
            "ourobox merge main --box b@draft",
            "ourobox stats",
            "ourobox check --read-data",
            "ourobox devices",
            "ourobox --json devices",
            "ourobox devices remove desk --box b",
            "ourobox devices remove 17 --this-device",
            "ourobox service -vv",
        ] {
            assert!(parse(line).is_ok(), "{line}");
        }
    }

    #[test]
    fn contradictions_and_omissions_are_wrong_usage() {
        for line in [
            "ourobox init fs:///x --no-encryption --passphrase-file p",
            "ourobox init",
            "ourobox umount",
            "ourobox umount /m --all",
            "ourobox wait a --all",
            "ourobox pin",
            "ourobox free",
            "ourobox restore a",
            "ourobox branch --at yesterday",
            "ourobox merge",
            "ourobox resolve a",
            "ourobox resolve a --keep ours",
            "ourobox devices remove",
            "ourobox devices frobnicate",
            "ourobox import",
            "ourobox import /x /m/y --box b",
            "ourobox frobnicate",
        ] {
            let error = parse(line).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
