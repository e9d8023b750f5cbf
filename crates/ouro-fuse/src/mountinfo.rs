//! What is mounted where, as `/proc/self/mountinfo` tells it.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The type under which our mounts are listed.
pub(crate) const TYPE: &str = "fuse.ourobox";

/// One line of mountinfo, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MountLine {
    /// `major:minor` of the mounted file system; tells two mounts at one place apart.
    pub(crate) device: String,
    /// Where.
    pub(crate) mountpoint: PathBuf,
    /// For example `ext4` or `fuse.ourobox`.
    pub(crate) fs_type: String,
    /// The source, for people.
    pub(crate) source: String,
}

impl MountLine {
    /// Type and source in one word for messages.
    pub(crate) fn label(&self) -> String {
        format!("{} {}", self.fs_type, self.source).trim_end().to_owned()
    }
}

/// What is on top at `path`, which must be free of symlinks: of several mounts on one directory the last is seen.
pub(crate) fn at(path: &Path) -> io::Result<Option<MountLine>> {
    Ok(all()?.into_iter().rfind(|line| line.mountpoint == path))
}

/// Everything that is mounted, in the order of mounting.
pub(crate) fn all() -> io::Result<Vec<MountLine>> {
    Ok(parse(&std::fs::read("/proc/self/mountinfo")?))
}

/// Reads a whole table; lines that cannot be understood are left out.
pub(crate) fn parse(table: &[u8]) -> Vec<MountLine> {
    table.split(|&byte| byte == b'\n').filter_map(parse_line).collect()
}

/// `id parent major:minor root mountpoint options optional… - type source super-options` (proc(5)).
fn parse_line(line: &[u8]) -> Option<MountLine> {
    let mut fields = line.split(|&byte| byte == b' ');
    let device = fields.nth(2)?;
    let mountpoint = fields.nth(1)?;
    let mut rest = fields.skip_while(|field| *field != b"-").skip(1);
    let fs_type = rest.next()?;
    let source = rest.next()?;
    Some(MountLine {
        device: text(device),
        mountpoint: PathBuf::from(OsString::from_vec(unescape(mountpoint))),
        fs_type: text(fs_type),
        source: text(&unescape(source)),
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Turns `\040` and the like back into the byte.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        match (first, after.get(..3).and_then(octal)) {
            (b'\\', Some(byte)) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    bytes
}

fn octal(digits: &[u8]) -> Option<u8> {
    let digits = std::str::from_utf8(digits).ok()?;
    u8::from_str_radix(digits, 8).ok()
}

/// Whether `inner` is `outer` or lies below it, byte by byte.
pub(crate) fn lies_in(inner: &Path, outer: &Path) -> bool {
    debug_assert!(!outer.as_os_str().as_bytes().is_empty());
    inner.starts_with(outer)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"22 28 0:20 / /proc rw,nosuid shared:12 - proc proc rw\n\
        30 28 0:57 / /home/a/My\\040Box rw,nosuid,nodev shared:5 master:2 - fuse.ourobox ourobox rw,user_id=0\n\
        31 28 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n\
        32 30 0:58 / /home/a/My\\040Box rw - fuse.sshfs host:\\134x rw\n\
        broken line\n";

    #[test]
    fn a_table_is_read_with_escapes_and_optional_fields() {
        let lines = parse(TABLE);
        assert_eq!(lines.len(), 4);
        assert_eq!(
            lines[1],
            MountLine {
                device: "0:57".into(),
                mountpoint: "/home/a/My Box".into(),
                fs_type: TYPE.into(),
                source: "ourobox".into(),
            }
        );
        assert_eq!(lines[3].source, "host:\\x");
    }

    #[test]
    fn a_backslash_without_digits_stays() {
        assert_eq!(unescape(b"a\\9\\04"), b"a\\9\\04");
        assert_eq!(unescape(b"\\011\\134"), b"\t\\");
    }

    #[test]
    fn what_is_mounted_on_this_system_is_listed() {
        // The root would not do: in a plain chroot it is no mount.
        assert!(at(Path::new("/proc")).expect("mountinfo can be read").is_some());
        assert_eq!(at(Path::new("/no such place")).expect("mountinfo can be read"), None);
    }

    #[test]
    fn a_folder_lies_in_itself_and_not_in_its_neighbour_of_similar_name() {
        assert!(lies_in(Path::new("/a/b"), Path::new("/a")));
        assert!(lies_in(Path::new("/a"), Path::new("/a")));
        assert!(!lies_in(Path::new("/ab"), Path::new("/a")));
    }
}
