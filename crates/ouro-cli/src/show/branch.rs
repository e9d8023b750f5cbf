//! Branches for people.

use super::history;
use super::table::{Table, left, right};
use super::words::{clean, count};
use ouro_engine::api::{BranchEnded, BranchLine, Branched, Merged};

/// A branch that is open now.
pub(super) fn branched(branched: &Branched) -> String {
    let (name, branch) = (clean(&branched.box_name), clean(&branched.branch));
    let mut text = match &branched.from {
        Some(from) => format!("Branch {branch} made from {}; it is box {name} here.\n", clean(from)),
        None => format!("Branch {branch} is box {name} here.\n"),
    };
    text += &match &branched.mountpoint {
        Some(path) => format!("Mounted at {}.\n", clean(&path.display().to_string())),
        None => format!("Mount it with: ourobox fuse DIRECTORY --box {}\n", quoted(&name)),
    };
    text + &format!("Bring it back with: ourobox merge {}\n", quoted(&branch))
}

/// A branch that is there no more.
pub(super) fn ended(ended: &BranchEnded) -> String {
    let mut text = format!("Branch {} is deleted.\n", clean(&ended.branch));
    if ended.discarded > 0 {
        text += &format!(
            "{} that {} not merged went with it.\n",
            count(ended.discarded, "commit"),
            if ended.discarded == 1 { "was" } else { "were" }
        );
    }
    if let Some(name) = &ended.box_name {
        text += &format!("Its box {} is gone from this device.\n", clean(name));
    }
    text
}

/// A name as the command line takes it.
fn quoted(name: &str) -> String {
    if name.contains(' ') { format!("\"{name}\"") } else { name.to_owned() }
}

/// All branches.
pub(super) fn branches(branches: &[BranchLine]) -> String {
    if branches.is_empty() {
        return "No branches. Make one with: ourobox branch NAME\n".to_owned();
    }
    let columns = [
        left("BRANCH"),
        left("MADE"),
        left("FROM"),
        left("WRITTEN BY"),
        left("LAST COMMIT"),
        right("AHEAD"),
        left("BOX"),
    ];
    let mut table = Table::new(&columns);
    for branch in branches {
        let state = match (branch.ahead, branch.merged) {
            (0, true) => "merged".to_owned(),
            (ahead, true) => format!("{ahead} since merged"),
            (ahead, false) => ahead.to_string(),
        };
        for (index, writer) in branch.writers.iter().enumerate() {
            let first = |text: &str| if index == 0 { clean(text) } else { String::new() };
            table.row([
                first(&branch.name),
                first(branch.made.as_deref().unwrap_or("-")),
                first(branch.from.as_deref().unwrap_or("-")),
                clean(&writer.device),
                clean(&writer.last_commit),
                first(&state),
                first(branch.box_name.as_deref().unwrap_or("-")),
            ]);
        }
    }
    table.to_string()
}

/// What a merge did, or would do.
pub(super) fn merged(merged: &Merged) -> String {
    let (name, branch) = (clean(&merged.box_name), clean(&merged.branch));
    if merged.commits == 0 && merged.commit.is_none() && merged.changes.is_empty() {
        return format!("Box {name} has everything of {branch} already.\n");
    }
    let commits = count(merged.commits, "commit");
    let mut text = if merged.preview {
        format!("Merging {branch} into box {name} would bring in {commits}; nothing was written.\n")
    } else {
        format!("Merged {branch} into box {name}: {commits}.\n")
    };
    text += &history::diff(&merged.changes);
    if !merged.conflicts.is_empty() {
        text += "In dispute by it:\n";
        let told = if merged.preview { history::sides } else { history::conflicts };
        text += &told(&merged.conflicts);
    }
    if let Some(before) = merged.before.as_ref().filter(|_| merged.commit.is_some()) {
        text +=
            &format!("What was there before is commit {before}: `ourobox restore / --at {before}` brings it back.\n");
    }
    if let Some(why) = &merged.waiting {
        text +=
            &format!("It is on this device and goes to the remote as soon as that can be reached: {}\n", clean(why));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use ouro_engine::api::{ChangeLine, Deed, WriterLine};

    #[test]
    fn branches_line_up_with_a_line_for_each_device() {
        assert!(branches(&[]).contains("ourobox branch NAME"));
        let writer = |device: &str, commits| WriterLine {
            device: device.into(),
            last_commit: "2026-11-22T14:30:05Z".into(),
            commits,
        };
        let draft = BranchLine {
            name: "draft".into(),
            box_name: Some("b@draft".into()),
            made: Some("2026-11-22T14:00:00Z".into()),
            from: Some("now".into()),
            writers: vec![writer("desk", 3), writer("lap\x1btop", 1)],
            ahead: 2,
            merged: true,
        };
        assert_eq!(
            branches(&[draft]),
            "BRANCH  MADE                  FROM  WRITTEN BY  LAST COMMIT                    AHEAD  BOX\n\
             draft   2026-11-22T14:00:00Z  now   desk        2026-11-22T14:30:05Z  2 since merged  b@draft\n\
             \u{20}                                   lap\u{fffd}top     2026-11-22T14:30:05Z\n"
        );
    }

    #[test]
    fn a_preview_says_that_nothing_was_written() {
        let change = ChangeLine {
            what: vec![Deed::Edited],
            path: "a".into(),
            from: None,
            kind: "file".into(),
            size: Some(5),
            size_before: None,
        };
        let mut told = Merged {
            box_name: "b".into(),
            branch: "draft".into(),
            preview: true,
            commits: 1,
            changes: vec![change],
            before: Some("17.3".into()),
            ..Merged::default()
        };
        let text = merged(&told);
        assert!(text.starts_with("Merging draft into box b would bring in 1 commit; nothing was written.\n"), "{text}");
        assert!(!text.contains("restore"), "{text}");
        (told.preview, told.commit) = (false, Some("17.4".into()));
        assert!(merged(&told).contains("`ourobox restore / --at 17.3` brings it back"), "{}", merged(&told));
        assert_eq!(
            merged(&Merged { branch: "x".into(), box_name: "b".into(), ..Merged::default() }),
            "Box b has everything of x already.\n"
        );
    }
}
