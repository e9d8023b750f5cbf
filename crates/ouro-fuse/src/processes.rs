//! Who asks: processes as `/proc` knows them.

use ouro_vfs::Processes;
use std::path::{Path, PathBuf};

/// The processes of this machine, by the ids that the kernel's requests carry.
pub(crate) struct SystemProcesses;

impl Processes for SystemProcesses {
    fn groups(&self, pid: u32) -> Vec<u32> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        groups_in(&status)
    }

    fn command_line(&self, pid: u32) -> Vec<Vec<u8>> {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        arguments(&line)
    }
}

/// Users of a mount that are named.
pub const USERS_MAX: usize = 5;

/// Programs that have something open below a path, or stand there. Asks the kernel for names only, never the mount.
pub(crate) fn users_of(path: &Path) -> Vec<String> {
    let own = std::process::id();
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids: Vec<u32> = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    let users = pids.into_iter().filter(|pid| *pid != own && uses(*pid, path));
    let named = users.map(|pid| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        format!("{} ({pid})", name.trim_end())
    });
    named.take(USERS_MAX).collect()
}

fn uses(pid: u32, path: &Path) -> bool {
    let leads_there = |link: &Path| std::fs::read_link(link).is_ok_and(|target| target.starts_with(path));
    let process = PathBuf::from(format!("/proc/{pid}"));
    let open = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    ["cwd", "root", "exe"].iter().any(|link| leads_there(&process.join(link)))
        || open.map(|fd| fd.path()).any(|fd| leads_there(&fd))
}

/// The supplementary groups in a `/proc/PID/status`.
fn groups_in(status: &str) -> Vec<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap_or_default();
    line.split_whitespace().filter_map(|group| group.parse().ok()).collect()
}

/// The arguments in a `/proc/PID/cmdline`: each ends with NUL.
fn arguments(line: &[u8]) -> Vec<Vec<u8>> {
    let line = line.strip_suffix(b"\0").unwrap_or(line);
    if line.is_empty() { Vec::new() } else { line.split(|&byte| byte == 0).map(<[u8]>::to_vec).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_read_from_their_line_only() {
        assert_eq!(groups_in("Name:\tx\nGid:\t5\t5\t5\t5\nGroups:\t4 24 1000 \nNStgid:\t1\n"), [4, 24, 1000]);
        assert_eq!(groups_in("Groups:\t \n"), []);
    }

    #[test]
    fn arguments_may_be_empty_and_a_process_that_is_gone_has_none() {
        assert_eq!(arguments(b"ls\0\0-l\0"), [b"ls".to_vec(), Vec::new(), b"-l".to_vec()]);
        assert!(arguments(b"").is_empty());
        assert!(SystemProcesses.command_line(u32::MAX - 1).is_empty());
    }

    #[test]
    fn whoever_stands_in_a_folder_or_has_a_file_open_in_it_uses_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().canonicalize().expect("it exists");
        assert_eq!(users_of(&path), Vec::<String>::new());
        let mut command = std::process::Command::new("sleep");
        let mut child = command.arg("60").current_dir(&path).spawn().expect("it runs");
        let named = format!("sleep ({})", child.id());
        // Until it has become another program it bears the name of this one.
        while users_of(&path) != [named.as_str()] {
            std::thread::yield_now();
        }
        child.kill().and_then(|()| child.wait()).expect("it ends");
        assert_eq!(users_of(&path), Vec::<String>::new());
    }

    #[test]
    fn this_process_knows_its_own_command_line() {
        let line = SystemProcesses.command_line(std::process::id());
        assert!(line[0].windows(9).any(|part| part == b"ouro_fuse"), "{line:?}");
    }
}
