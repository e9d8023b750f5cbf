//! The past for people.

use super::table::{Table, left, right};
use super::words::{bytes, clean};
use ouro_engine::api::{ChangeLine, CommitLine, ConflictLine, Deed, Event, KeepWish, Restored, SideLine, SnapshotLine};
use std::path::Path;

/// Commits, newest first.
pub(super) fn log(commits: &[CommitLine], note: Option<&str>) -> String {
    let mut text = String::new();
    if commits.is_empty() && note.is_none() {
        return "No changes yet.\n".to_owned();
    }
    if !commits.is_empty() {
        let columns =
            [left("COMMIT"), left("TIME"), left("DEVICE"), left("WHAT"), right("SIZE"), left("SNAPSHOT OR REMARK")];
        let mut table = Table::new(&columns);
        for commit in commits {
            let brought = commit.changes.iter().any(|change| change.size.is_some());
            table.row([
                clean(&commit.short),
                clean(&commit.time),
                clean(&commit.device),
                clean(&commit.what),
                if brought { bytes(commit.bytes) } else { "-".to_owned() },
                commit.snapshot.as_ref().map_or_else(|| clean(&commit.message), |name| clean(name)),
            ]);
        }
        text += &table.to_string();
    }
    if let Some(note) = note {
        text += &format!("({})\n", clean(note));
    }
    text
}

/// Changes in order of paths.
pub(super) fn diff(changes: &[ChangeLine]) -> String {
    if changes.is_empty() {
        return "No difference.\n".to_owned();
    }
    let mut table = Table::new(&[left("WHAT"), right("SIZE"), left("PATH")]);
    for change in changes {
        let slash = if change.kind == "directory" && change.path != "/" { "/" } else { "" };
        let from = change.from.as_ref().map(|from| format!(" (from {}{slash})", clean(from))).unwrap_or_default();
        table.row([
            change.what.iter().map(|deed| word(*deed)).collect::<Vec<_>>().join(", "),
            change.size.or(change.size_before).map_or_else(|| "-".to_owned(), bytes),
            format!("{}{slash}{from}", clean(&change.path)),
        ]);
    }
    table.to_string()
}

/// A commit that was asked for.
pub(super) fn snapshot(taken: &SnapshotLine) -> String {
    let mut text = match (&taken.snapshot, taken.made) {
        (Some(name), _) => {
            format!("Snapshot {:?} of box {} is commit {}.\n", clean(name), clean(&taken.box_name), taken.commit)
        }
        (None, true) => format!("Everything in box {} is in commit {}.\n", clean(&taken.box_name), taken.commit),
        (None, false) => format!("Nothing changed in box {} since commit {}.\n", clean(&taken.box_name), taken.commit),
    };
    if let Some(path) = &taken.path {
        text += &format!("Look at it in: {}\n", clean(&path.display().to_string()));
    }
    if let Some(why) = &taken.waiting {
        text +=
            &format!("It is on this device and goes to the remote as soon as that can be reached: {}\n", clean(why));
    }
    text
}

/// What a restore did.
pub(super) fn restored(done: &Restored) -> String {
    let parts =
        [(done.created, "made"), (done.edited, "changed"), (done.renamed, "moved back"), (done.removed, "removed")];
    let told: Vec<String> =
        parts.iter().filter(|(number, _)| *number > 0).map(|(number, what)| format!("{number} {what}")).collect();
    if told.is_empty() {
        return format!("Box {} is as it was then: nothing to do.\n", clean(&done.box_name));
    }
    let mut text = format!("Restored in box {}: {}.\n", clean(&done.box_name), told.join(", "));
    if let Some(before) = &done.before {
        text += &format!("What was there before is not lost: it is in commit {before}.\n");
    }
    if let Some(why) = &done.waiting {
        text +=
            &format!("It is on this device and goes to the remote as soon as that can be reached: {}\n", clean(why));
    }
    text
}

/// Conflicts, each with its sides.
pub(super) fn conflicts(conflicts: &[ConflictLine]) -> String {
    if conflicts.is_empty() {
        return "No conflicts.\n".to_owned();
    }
    format!("{}End one with: ourobox resolve PATH --keep mine|theirs|both\n", sides(conflicts))
}

/// The sides of conflicts.
pub(super) fn sides(conflicts: &[ConflictLine]) -> String {
    let mut table = Table::new(&[left("SIDE"), left("DEVICE"), left("TIME"), right("SIZE"), left("PATH")]);
    for conflict in conflicts {
        for side in &conflict.sides {
            let hidden = || format!("{} (this side is kept out of sight)", clean(&conflict.path));
            table.row([
                if side.mine { "mine" } else { "theirs" }.to_owned(),
                clean(&side.device),
                clean(&side.time),
                side.size.map_or_else(|| "-".to_owned(), bytes),
                side.path.as_ref().map_or_else(hidden, |path| clean(path)),
            ]);
        }
    }
    table.to_string()
}

/// An event, in one line.
pub(super) fn event(event: &Event) -> String {
    match event {
        Event::Listening { box_name } => format!("Listening to box {} (Ctrl-C ends it).", clean(box_name)),
        Event::Conflict(conflict) => {
            let side = |side: &SideLine| format!("{} ({})", clean(&side.device), clean(&side.time));
            let sides: Vec<String> = conflict.sides.iter().map(side).collect();
            format!("Conflict: {} by {}", clean(&conflict.path), sides.join(" and "))
        }
        Event::Resolved { path, .. } => format!("Resolved: {}", clean(path)),
        Event::Missed { why, .. } => {
            format!("Missed what happened last ({}): `ourobox conflicts` lists what there is.", clean(why))
        }
    }
}

/// The end of a conflict.
pub(super) fn resolved(path: &Path, keep: KeepWish) -> String {
    let kept = match keep {
        KeepWish::Mine => "kept this device's version",
        KeepWish::Theirs => "kept the other device's version",
        KeepWish::Both => "kept both",
    };
    format!("{}: {kept}.\n", clean(&path.display().to_string()))
}

/// What was done, in a word.
fn word(deed: Deed) -> &'static str {
    match deed {
        Deed::Created => "created",
        Deed::Renamed => "renamed",
        Deed::Edited => "edited",
        Deed::Linked => "linked",
        Deed::Attributes => "attributes",
        Deed::Settled => "settled",
        Deed::Deleted => "deleted",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(what: &[Deed], path: &str, from: Option<&str>, size: Option<u64>) -> ChangeLine {
        ChangeLine {
            what: what.to_vec(),
            path: path.into(),
            from: from.map(Into::into),
            kind: "file".into(),
            size,
            size_before: None,
        }
    }

    #[test]
    fn a_log_lines_up_and_says_what_was_done() {
        let commit = CommitLine {
            id: "1827364512.17".into(),
            short: "1827.17".into(),
            device: "desk".into(),
            time: "2026-11-22T14:30:05Z".into(),
            files: 1,
            forgotten: 0,
            what: "created a".into(),
            changes: vec![change(&[Deed::Created], "a", None, Some(5))],
            bytes: 5,
            message: String::new(),
            snapshot: Some("first".into()),
        };
        assert_eq!(
            log(&[commit], Some("older ones are away")),
            "COMMIT   TIME                  DEVICE  WHAT       SIZE  SNAPSHOT OR REMARK\n\
             1827.17  2026-11-22T14:30:05Z  desk    created a   5 B  first\n\
             (older ones are away)\n"
        );
        assert_eq!(log(&[], None), "No changes yet.\n");
    }

    #[test]
    fn a_diff_says_where_a_file_came_from() {
        let text = diff(&[
            change(&[Deed::Renamed, Deed::Edited], "d/b", Some("a\x1b"), Some(2048)),
            change(&[Deed::Deleted], "gone", None, None),
        ]);
        assert_eq!(
            text,
            "WHAT                SIZE  PATH\n\
             renamed, edited  2.0 KiB  d/b (from a\u{fffd})\n\
             deleted                -  gone\n"
        );
        assert_eq!(diff(&[]), "No difference.\n");
    }

    #[test]
    fn an_event_is_one_line_that_says_who_did_what() {
        let side = |device: &str, mine| SideLine {
            mine,
            device: device.into(),
            time: "2026-11-22T14:30:05Z".into(),
            size: Some(3),
            path: None,
        };
        let conflict = ConflictLine {
            box_name: "b".into(),
            path: "a\nb".into(),
            kind: "file".into(),
            settled: false,
            sides: vec![side("desk", true), side("laptop", false)],
        };
        assert_eq!(
            event(&Event::Conflict(conflict)),
            "Conflict: a\u{fffd}b by desk (2026-11-22T14:30:05Z) and laptop (2026-11-22T14:30:05Z)"
        );
        let ended = Event::Resolved { box_name: "b".into(), path: "a".into() };
        assert_eq!(event(&ended), "Resolved: a");
        let missed = Event::Missed { box_name: "b".into(), why: "a node is gone".into() };
        assert!(event(&missed).contains("(a node is gone): `ourobox conflicts`"), "{}", event(&missed));
    }
}
