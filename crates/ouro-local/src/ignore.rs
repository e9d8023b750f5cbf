//! Names that never travel: `.ouroignore` files in gitignore's syntax, and defaults for what programs leave beside their files.
//!
//! Rules as in git: the `.ouroignore` nearest to a name decides first, its later lines before its earlier ones; `!` takes a name in again;
//! inside an ignored directory everything is ignored. The defaults come last, so that any rule overrides them.

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// The name of a rule file.
pub const RULES_NAME: &[u8] = b".ouroignore";
/// Rules longer than this are not read.
pub const RULES_BYTES_MAX: usize = 1 << 20;

/// Ignored everywhere unless a rule says otherwise.
pub const DEFAULT_RULES: &[&str] = &[
    ".*.sw[n-p]",       // vim
    ".*.un~",           // vim's undo
    ".*.kate-swp",      // Kate, KWrite, KDevelop
    ".#*",              // Emacs' locks
    "\\#*#",            // Emacs' autosave
    "*.part",           // downloads under way
    "*.crdownload",     // Chromium's
    ".~lock.*",         // LibreOffice's locks
    ".goutputstream-*", // GLib writing a file
];

/// How the trash of a user begins that desktops make in the root of a file system; the user's number follows.
const TRASH_PREFIX: &[u8] = b".Trash-";

/// Whether a name in the root is that of a user's trash: `.Trash-1000`.
pub fn is_trash(name: &[u8]) -> bool {
    let user = name.strip_prefix(TRASH_PREFIX);
    user.is_some_and(|user| !user.is_empty() && user.iter().all(u8::is_ascii_digit))
}

/// The rules of one box, kept in memory; the caller tells of every `.ouroignore` it sees.
pub struct Ignore {
    defaults: Gitignore,
    by_directory: RwLock<BTreeMap<Vec<Box<[u8]>>, Gitignore>>,
}

/// A line that is no rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRule {
    /// Line number, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

impl Default for Ignore {
    fn default() -> Ignore {
        Ignore::new()
    }
}

fn compile<'a>(lines: impl Iterator<Item = &'a [u8]>) -> (Gitignore, Vec<BadRule>) {
    let mut rules = GitignoreBuilder::new("");
    let mut bad = Vec::new();
    for (at, line) in lines.enumerate() {
        let added = match str::from_utf8(line) {
            Ok(line) => rules.add_line(None, line).map_err(|e| e.to_string()).map(drop),
            Err(_) => Err("is not UTF-8".to_owned()),
        };
        if let Err(reason) = added {
            bad.push(BadRule { line: at + 1, reason });
        }
    }
    match rules.build() {
        Ok(rules) => (rules, bad),
        Err(e) => {
            bad.push(BadRule { line: 0, reason: e.to_string() });
            (Gitignore::empty(), bad)
        }
    }
}

impl Ignore {
    /// The defaults only.
    pub fn new() -> Ignore {
        let (defaults, _) = compile(DEFAULT_RULES.iter().map(|rule| rule.as_bytes()));
        Ignore { defaults, by_directory: RwLock::default() }
    }

    /// Takes the content of the `.ouroignore` in a directory (components from the root), or `None` when it is gone. Returns the lines that
    /// are no rules; the others hold.
    pub fn set(&self, directory: &[&[u8]], content: Option<&[u8]>) -> Vec<BadRule> {
        let key: Vec<Box<[u8]>> = directory.iter().map(|name| Box::from(*name)).collect();
        let Some(content) = content else {
            self.by_directory.write().remove(&key);
            return Vec::new();
        };
        if content.len() > RULES_BYTES_MAX {
            self.by_directory.write().remove(&key);
            return vec![BadRule { line: 0, reason: format!("longer than {RULES_BYTES_MAX} bytes") }];
        }
        let (rules, bad) = compile(content.split(|&b| b == b'\n'));
        self.by_directory.write().insert(key, rules);
        bad
    }

    /// Whether there are rules beside the defaults.
    pub fn has_rules(&self) -> bool {
        !self.by_directory.read().is_empty()
    }

    /// Whether a path (components from the root) is ignored, by itself or by a directory above it. `is_dir`: of the last component.
    pub fn is_ignored(&self, path: &[&[u8]], is_dir: bool) -> bool {
        (1..=path.len()).any(|depth| self.ignores_last(&path[..depth], is_dir || depth < path.len()))
    }

    /// As [`Ignore::is_ignored`], for a path of which no directory above is ignored.
    pub fn ignores_last(&self, path: &[&[u8]], is_dir: bool) -> bool {
        let below = |from: usize| path[from..].iter().map(|name| OsStr::from_bytes(name)).collect::<PathBuf>();
        let decide = |rules: &Gitignore, from: usize| match rules.matched(below(from), is_dir) {
            Match::None => None,
            Match::Ignore(_) => Some(true),
            Match::Whitelist(_) => Some(false),
        };
        let by_directory = self.by_directory.read();
        if !by_directory.is_empty() {
            for from in (0..path.len()).rev() {
                let key: Vec<Box<[u8]>> = path[..from].iter().map(|name| Box::from(*name)).collect();
                if let Some(decided) = by_directory.get(&key).and_then(|rules| decide(rules, from)) {
                    return decided;
                }
            }
        }
        if let [name] = path
            && is_dir
            && is_trash(name)
        {
            return true;
        }
        // None of the defaults speaks of directories on the way.
        path.last().is_some_and(|name| may_be_a_leftover(name))
            && decide(&self.defaults, path.len().saturating_sub(1)) == Some(true)
    }
}

/// False for nearly all names, and only for those of which none of the [`DEFAULT_RULES`] speaks: that is seen much sooner than matched.
fn may_be_a_leftover(name: &[u8]) -> bool {
    matches!(name.first(), Some(b'.' | b'#')) || name.ends_with(b".part") || name.ends_with(b".crdownload")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_default_rule_speaks_of_what_is_seen_to_be_no_leftover() {
        for rule in DEFAULT_RULES {
            // What a name begins or ends with, whatever its stars stand for.
            let name = rule.replace('\\', "").replace('*', "x").replace("[n-p]", "p");
            let ends = rule.strip_prefix('*').is_some_and(|end| !end.contains(['*', '[', '?']));
            let begins = rule.trim_start_matches('\\').starts_with(['.', '#']);
            assert!(ends || begins, "{rule}: say here how its names look");
            assert!(may_be_a_leftover(name.as_bytes()), "{rule}");
        }
    }

    fn ignored(rules: &Ignore, path: &str) -> bool {
        let is_dir = path.ends_with('/');
        let parts: Vec<&[u8]> = path.trim_end_matches('/').split('/').map(str::as_bytes).collect();
        rules.is_ignored(&parts, is_dir)
    }

    #[test]
    fn programs_leftovers_are_ignored_by_default_and_documents_are_not() {
        let rules = Ignore::new();
        for path in [
            ".a.txt.swp",
            "d/.a.swo",
            ".a.txt.un~",
            "d/.notes.md.kate-swp",
            ".#a",
            "#a#",
            "d/film.mkv.part",
            "x.crdownload",
            ".~lock.brief.odt#",
            "d/e/.goutputstream-AB12",
            "film.part/inside",
        ] {
            assert!(ignored(&rules, path), "{path}");
        }
        for path in ["a.txt", ".bashrc", "a.swp", "part", "4913", "a.txt~", "goutputstream-1", "d/", "#a"] {
            assert!(!ignored(&rules, path), "{path}");
        }
    }

    #[test]
    fn the_nearest_rule_file_decides_and_may_overrule_the_defaults() {
        let rules = Ignore::new();
        assert_eq!(rules.set(&[], Some(b"# comment\n*.log\n/build/\n!keep.part\n")), []);
        assert_eq!(rules.set(&[b"src"], Some(b"!important.log\n")), []);
        assert!(ignored(&rules, "a.log") && ignored(&rules, "src/deep/a.log"));
        assert!(!ignored(&rules, "src/important.log") && !ignored(&rules, "src/deep/important.log"));
        assert!(ignored(&rules, "important.log"));
        assert!(ignored(&rules, "build/") && ignored(&rules, "build/x/y") && !ignored(&rules, "build"));
        assert!(!ignored(&rules, "src/build/"));
        assert!(!ignored(&rules, "keep.part") && ignored(&rules, "other.part"));
        rules.set(&[], None);
        assert!(!ignored(&rules, "a.log"));
    }

    #[test]
    fn inside_an_ignored_directory_nothing_is_taken_in_again() {
        let rules = Ignore::new();
        rules.set(&[], Some(b"cache/\n!cache/keep\n"));
        assert!(ignored(&rules, "cache/keep") && ignored(&rules, "a/cache/b"));
    }

    #[test]
    fn the_trash_in_the_root_is_ignored_unless_a_rule_says_otherwise() {
        let rules = Ignore::new();
        assert!(ignored(&rules, ".Trash-1000/") && ignored(&rules, ".Trash-1000/files/letter"));
        for path in [".Trash-1000", "d/.Trash-1000/", ".Trash-/", ".Trash-x/", ".Trash/"] {
            assert!(!ignored(&rules, path), "{path}");
        }
        rules.set(&[], Some(b"!.Trash-*\n"));
        assert!(!ignored(&rules, ".Trash-1000/files/letter"));
    }

    #[test]
    fn lines_that_are_no_rules_are_named_and_the_others_hold() {
        let rules = Ignore::new();
        let bad = rules.set(&[], Some(b"*.a\n\xff\xfe\n*.b\n"));
        assert_eq!(bad.iter().map(|b| b.line).collect::<Vec<_>>(), [2]);
        assert!(ignored(&rules, "x.a") && ignored(&rules, "x.b"));
        assert!(!rules.is_ignored(&[b"\xff\xfe"], false));
    }
}
