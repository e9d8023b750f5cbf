//! Who may do what: the classic owner, group and others.

use crate::ports::Processes;
use crate::stop::Errno;
use crate::types::{ACCESS_EXECUTE, ACCESS_WRITE, Caller, Stat};
use ouro_core::state::Kind;

/// Set user id on execution.
pub(crate) const SET_UID: u16 = 0o4000;
/// Set group id on execution; on a directory: what is made in it gets its group.
pub(crate) const SET_GID: u16 = 0o2000;
/// On a directory: only owners remove and rename.
pub(crate) const STICKY: u16 = 0o1000;
const GROUP_EXECUTE: u16 = 0o010;

/// Judges one caller.
pub(crate) struct Judge<'a> {
    pub(crate) caller: &'a Caller,
    pub(crate) processes: Option<&'a dyn Processes>,
    /// False: the kernel has judged already.
    pub(crate) strict: bool,
}

impl Judge<'_> {
    fn is_root(&self) -> bool {
        self.caller.uid == 0
    }

    /// Whether the caller is in a group.
    pub(crate) fn in_group(&self, gid: u32) -> bool {
        self.caller.gid == gid || self.processes.is_some_and(|p| p.groups(self.caller.pid).contains(&gid))
    }

    /// Whether the caller owns a file, or may act as if.
    fn owns(&self, stat: &Stat) -> bool {
        self.is_root() || self.caller.uid == stat.uid
    }

    fn has(&self, stat: &Stat, mask: u32) -> bool {
        if self.is_root() {
            return mask & ACCESS_EXECUTE == 0 || stat.kind == Kind::Directory || stat.mode & 0o111 != 0;
        }
        let mode = u32::from(stat.mode);
        let granted = if self.caller.uid == stat.uid {
            mode >> 6
        } else if (mode >> 3) & 7 != mode & 7 && self.in_group(stat.gid) {
            mode >> 3
        } else {
            mode
        };
        granted & mask == mask
    }

    /// Checks the mode, asked or not: what access(2) wants.
    pub(crate) fn access(&self, stat: &Stat, mask: u32) -> Result<(), Errno> {
        if self.has(stat, mask) { Ok(()) } else { Err(Errno::Access) }
    }

    /// Checks the mode.
    pub(crate) fn may(&self, stat: &Stat, mask: u32) -> Result<(), Errno> {
        if self.strict { self.access(stat, mask) } else { Ok(()) }
    }

    /// Checks that an entry may be made in a directory.
    pub(crate) fn may_create(&self, directory: &Stat) -> Result<(), Errno> {
        self.may(directory, ACCESS_WRITE | ACCESS_EXECUTE)
    }

    /// Checks that an entry may be taken from a directory.
    pub(crate) fn may_remove(&self, directory: &Stat, entry: &Stat) -> Result<(), Errno> {
        self.may(directory, ACCESS_WRITE | ACCESS_EXECUTE)?;
        let sticky = self.strict && directory.mode & STICKY != 0;
        if sticky && !self.owns(entry) && !self.owns(directory) { Err(Errno::NotPermitted) } else { Ok(()) }
    }

    /// Checks that the caller is the owner.
    pub(crate) fn must_own(&self, stat: &Stat) -> Result<(), Errno> {
        if !self.strict || self.owns(stat) { Ok(()) } else { Err(Errno::NotPermitted) }
    }

    /// Checks a change of owner and group.
    pub(crate) fn may_give(&self, stat: &Stat, uid: Option<u32>, gid: Option<u32>) -> Result<(), Errno> {
        if !self.strict || self.is_root() {
            return Ok(());
        }
        let keeps_user = uid.is_none_or(|uid| uid == stat.uid);
        let owns = self.caller.uid == stat.uid;
        let group_allowed = gid.is_none_or(|gid| owns && (gid == stat.gid || self.in_group(gid)));
        let user_allowed = uid.is_none() || owns;
        if keeps_user && user_allowed && group_allowed { Ok(()) } else { Err(Errno::NotPermitted) }
    }

    /// The mode that chmod leaves: the set-group bit only for members of the group.
    pub(crate) fn chmod(&self, stat: &Stat, mode: u16, gid: u32) -> u16 {
        let drop = self.strict && stat.kind != Kind::Directory && !self.is_root() && !self.in_group(gid);
        if drop { mode & !SET_GID } else { mode }
    }
}

/// The mode after the bytes or the owner of a file changed: no more set-id bits.
pub(crate) fn without_privileges(mode: u16) -> u16 {
    let mode = mode & !SET_UID;
    if mode & GROUP_EXECUTE != 0 { mode & !SET_GID } else { mode }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{ACCESS_READ, NodeNo};

    struct Groups(Vec<u32>);
    impl Processes for Groups {
        fn groups(&self, _pid: u32) -> Vec<u32> {
            self.0.clone()
        }
        fn command_line(&self, _pid: u32) -> Vec<Vec<u8>> {
            Vec::new()
        }
    }

    fn stat(kind: Kind, mode: u16, uid: u32, gid: u32) -> Stat {
        let (atime_ns, mtime_ns, ctime_ns) = (0, 0, 0);
        Stat {
            node: NodeNo(9),
            kind,
            mode,
            links: 1,
            uid,
            gid,
            rdev: 0,
            size: 0,
            blocks: 0,
            atime_ns,
            mtime_ns,
            ctime_ns,
        }
    }

    fn judge<'a>(caller: &'a Caller, groups: &'a Groups) -> Judge<'a> {
        Judge { caller, processes: Some(groups), strict: true }
    }

    #[test]
    fn the_first_class_that_fits_decides() {
        let groups = Groups(vec![50]);
        let table = [
            // (uid, gid, mode, mask, allowed) of a file of user 10, group 20
            (10, 20, 0o400, ACCESS_READ, true),
            (10, 20, 0o077, ACCESS_READ, false),
            (11, 20, 0o040, ACCESS_READ, true),
            (11, 20, 0o707, ACCESS_READ, false),
            (11, 21, 0o004, ACCESS_READ, true),
            (11, 21, 0o770, ACCESS_WRITE, false),
            (11, 21, 0o006, ACCESS_READ | ACCESS_WRITE, true),
            (11, 21, 0o004, ACCESS_READ | ACCESS_WRITE, false),
            (0, 0, 0o000, ACCESS_READ | ACCESS_WRITE, true),
            (0, 0, 0o666, ACCESS_EXECUTE, false),
            (0, 0, 0o001, ACCESS_EXECUTE, true),
        ];
        for (uid, gid, mode, mask, allowed) in table {
            let caller = Caller { uid, gid, pid: 1 };
            let verdict = judge(&caller, &groups).may(&stat(Kind::File, mode, 10, 20), mask);
            assert_eq!(verdict.is_ok(), allowed, "{uid}:{gid} {mode:o} {mask}");
        }
        let caller = Caller { uid: 11, gid: 21, pid: 1 };
        assert!(
            judge(&caller, &groups).may(&stat(Kind::File, 0o040, 10, 50), ACCESS_READ).is_ok(),
            "supplementary group"
        );
        let lax = Judge { caller: &caller, processes: None, strict: false };
        assert!(lax.may(&stat(Kind::File, 0, 10, 20), ACCESS_WRITE).is_ok());
        assert_eq!(lax.access(&stat(Kind::File, 0, 10, 20), ACCESS_WRITE), Err(Errno::Access));
    }

    #[test]
    fn in_a_sticky_directory_only_owners_remove() {
        let groups = Groups(Vec::new());
        let directory = stat(Kind::Directory, 0o1777, 1, 1);
        let entry = stat(Kind::File, 0o666, 10, 20);
        for (uid, allowed) in [(0, true), (1, true), (10, true), (11, false)] {
            let caller = Caller { uid, gid: 99, pid: 1 };
            assert_eq!(judge(&caller, &groups).may_remove(&directory, &entry).is_ok(), allowed, "{uid}");
        }
    }

    #[test]
    fn owners_give_their_files_to_their_own_groups_only() {
        let groups = Groups(vec![50]);
        let file = stat(Kind::File, 0o6755, 10, 20);
        let table = [
            (10, None, Some(20), true),
            (10, None, Some(50), true),
            (10, Some(10), Some(50), true),
            (10, None, Some(51), false),
            (10, Some(11), None, false),
            (11, Some(11), None, false),
            (11, None, Some(50), false),
            (0, Some(99), Some(99), true),
        ];
        for (uid, to_uid, to_gid, allowed) in table {
            let caller = Caller { uid, gid: 21, pid: 1 };
            assert_eq!(
                judge(&caller, &groups).may_give(&file, to_uid, to_gid).is_ok(),
                allowed,
                "{uid} {to_uid:?} {to_gid:?}"
            );
        }
    }

    #[test]
    fn set_id_bits_go_when_they_would_be_misused() {
        assert_eq!(without_privileges(0o6755), 0o755);
        assert_eq!(without_privileges(0o2644), 0o2644, "mandatory locking, not a privilege");
        let groups = Groups(Vec::new());
        let caller = Caller { uid: 10, gid: 21, pid: 1 };
        let file = stat(Kind::File, 0o644, 10, 20);
        assert_eq!(judge(&caller, &groups).chmod(&file, 0o2755, 20), 0o755);
        assert_eq!(judge(&caller, &groups).chmod(&file, 0o2755, 21), 0o2755);
    }
}
