//! What a reader trips over and no compiler sees: long files, forgotten markers, paths of one machine, missing headers.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Longest source file, in lines (docs: one concept, one file).
const SOURCE_LINES_MAX: usize = 800;
/// Longest decision record, in lines.
const ADR_LINES_MAX: usize = 60;

const SOURCE_ENDINGS: &[&str] = &["rs", "ts", "svelte", "cpp", "h", "py", "sh"];
/// Written by programs: neither read nor judged line by line.
const GENERATED: &[&str] = &["Cargo.lock", "package-lock.json"];

/// Put together here so that this file does not trip over itself.
const MARKERS: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")];
const MARKER_MACROS: &[&str] = &[concat!("to", "do!("), concat!("unimple", "mented!(")];
const UNWRAP: &str = concat!(".unw", "rap()");

/// Folders of one machine that must not be named in the project: where this clone stands, and its user's home.
struct Machine {
    paths: Vec<String>,
}

impl Machine {
    fn here(root: &Path) -> Machine {
        let home = std::env::var("HOME").unwrap_or_default();
        let paths = [root.display().to_string(), home];
        Machine { paths: paths.into_iter().filter(|path| path.len() > 1).collect() }
    }
}

/// Lists what is untidy in the files git knows, or would add, below `root`.
///
/// # Errors
///
/// When git cannot be asked or a file cannot be read.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("git cannot be started")?;
    ensure!(output.status.success(), "git ls-files failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    let names = String::from_utf8(output.stdout).context("a file name is not UTF-8")?;
    let machine = Machine::here(root);
    let mut violations = Vec::new();
    for name in names.split_terminator('\0') {
        let path = root.join(name);
        if !path.is_file() {
            continue; // deleted, but not yet in the index; or a symlink to a folder
        }
        let bytes = std::fs::read(&path).with_context(|| format!("{name} cannot be read"))?;
        if let Ok(text) = String::from_utf8(bytes) {
            violations.extend(judge(name, &text, &machine));
        }
    }
    Ok(violations)
}

/// Everything wrong with one text file, as `name:line: what`.
fn judge(name: &str, text: &str, machine: &Machine) -> Vec<String> {
    let file_name = name.rsplit('/').next().unwrap_or(name);
    if GENERATED.contains(&file_name) || text.contains('\0') {
        return Vec::new();
    }
    let source = file_name.rsplit_once('.').is_some_and(|(_, ending)| SOURCE_ENDINGS.contains(&ending));
    let mut found = Vec::new();
    let lines_max = if source {
        SOURCE_LINES_MAX
    } else if name.starts_with("docs/adr/") {
        ADR_LINES_MAX
    } else {
        usize::MAX
    };
    let line_count = text.lines().count();
    if line_count > lines_max {
        found.push(format!("{name}: {line_count} lines, at most {lines_max}"));
    }
    if is_crate_root(name) && !has_header(text) {
        found.push(format!("{name}: the crate's header must say what it is and what it never knows"));
    }
    let tests_from = if name.ends_with(".rs") { product_lines(name, text) } else { 0 };
    for (index, line) in text.lines().enumerate() {
        let mut say = |what: &str| found.push(format!("{name}:{}: {what}", index + 1));
        if line.ends_with([' ', '\t']) {
            say("trailing white space");
        }
        if source && (MARKERS.iter().any(|m| has_word(line, m)) || MARKER_MACROS.iter().any(|m| line.contains(m))) {
            say("a marker for later: do it or take it out");
        }
        if let Some(path) = machine.paths.iter().find(|path| names_path(line, path)) {
            say(&format!("names a folder of this machine ({path})"));
        }
        if index < tests_from && line.contains(UNWRAP) && !line.trim_start().starts_with("//") {
            say("unwrap outside tests: return the error or say with expect why it cannot fail");
        }
    }
    found
}

/// Is this the file that carries a product crate's header?
fn is_crate_root(name: &str) -> bool {
    let inside = name.strip_prefix("crates/").and_then(|rest| rest.split_once('/'));
    matches!(inside, Some((_, "src/lib.rs" | "src/main.rs")))
}

fn has_header(text: &str) -> bool {
    let header: Vec<_> = text.lines().take_while(|line| line.starts_with("//!")).collect();
    header.join(" ").to_lowercase().contains("never knows")
}

/// How many of the file's first lines belong to the product: all up to its test module, none in a file of tests.
fn product_lines(name: &str, text: &str) -> usize {
    let of_tests = name.starts_with("tests/")
        || name.starts_with("crates/ouro-testkit/")
        || name.split('/').any(|part| matches!(part, "tests" | "benches" | "examples" | "tests.rs"));
    if of_tests {
        return 0;
    }
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    let opens_tests = |pair: &[&str]| pair[0].starts_with("#[cfg(test)]") && pair[1].starts_with("mod ");
    lines.windows(2).position(opens_tests).unwrap_or(lines.len())
}

fn has_word(line: &str, word: &str) -> bool {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(part_of_word) && !line[at + word.len()..].starts_with(part_of_word))
}

fn names_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + path.len()..].chars().next();
        !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '/' | '.' | '_' | '-'))
            && !after.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '-'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine { paths: vec!["/srv/someone".into()] }
    }

    #[track_caller]
    fn finds(name: &str, text: &str, words: &str) {
        let found = judge(name, text, &machine());
        assert!(found.len() == 1 && found[0].contains(words), "{found:?}");
    }

    #[track_caller]
    fn passes(name: &str, text: &str) {
        assert_eq!(judge(name, text, &machine()), [""; 0]);
    }

    #[test]
    fn a_file_over_the_limit_is_found_and_one_at_it_is_not() {
        finds("xtask/src/long.rs", &"//\n".repeat(801), "801 lines, at most 800");
        passes("xtask/src/long.rs", &"//\n".repeat(800));
        passes("docs/format.md", &"text\n".repeat(2000));
    }

    #[test]
    fn a_long_decision_record_is_found() {
        finds("docs/adr/0001-x.md", &"text\n".repeat(61), "61 lines, at most 60");
    }

    #[test]
    fn markers_are_found_as_whole_words_only() {
        for marker in MARKERS {
            finds("xtask/src/a.rs", &format!("// {marker}: later\n"), "marker");
            passes("xtask/src/a.rs", &format!("// {marker}LIST\n"));
        }
        finds("xtask/src/a.rs", &format!("fn f() {{ {})\n", MARKER_MACROS[0]), "marker");
    }

    #[test]
    fn trailing_white_space_is_found_with_its_line() {
        finds("README.md", "one\ntwo \n", "README.md:2: trailing");
    }

    #[test]
    fn paths_of_this_machine_are_found() {
        finds("README.md", "see /srv/someone/notes\n", "names a folder");
        passes("README.md", "see /srv/someone-else and x/srv/someone\n");
    }

    #[test]
    fn unwrap_is_found_in_the_product_but_not_in_tests() {
        let call = format!("fn f() {{ x{UNWRAP}; }}\n");
        finds("crates/a/src/b.rs", &call, "unwrap outside tests");
        passes("crates/a/src/b.rs", &format!("#[cfg(test)]\nmod tests {{\n{call}}}\n"));
        passes("crates/a/tests/b.rs", &call);
    }

    #[test]
    fn a_crate_root_needs_its_header() {
        finds("crates/a/src/lib.rs", "//! Words.\n", "never knows");
        passes("crates/a/src/lib.rs", "//! Words.\n//!\n//! Never knows: the disk.\n");
    }
}
