//! Answers for people and for machines.

mod branch;
mod history;
mod table;
mod words;

use ouro_engine::api::{
    BoxStats, BoxStatus, CheckReport, CollectedLine, CommitCost, DeviceLine, EntryInfo, Event, Imported, Joined,
    PathStatus, Refused, Response, Status,
};
use std::fmt::Write as _;
use table::{Table, left, right};
use words::{bytes, clean, count, date, state, wish};

/// Digits of a device's id that are shown: enough to name it by.
const ID_DIGITS: usize = 12;

/// What goes to standard output, with a line end if there is anything.
pub(crate) fn human(response: &Response) -> String {
    match response {
        Response::Done => String::new(),
        Response::Joined(joined) => show_joined(joined),
        Response::Mounted { mountpoint } => format!("Mounted at {}.\n", clean(&mountpoint.display().to_string())),
        Response::Status(status) => show_status(status),
        Response::Entries { entries } => show_entries(entries),
        Response::Freed { bytes: freed, .. } => format!("{} given back.\n", bytes(*freed)),
        Response::Imported(imported) => show_imported(imported),
        Response::Log { commits, note } => history::log(commits, note.as_deref()),
        Response::Diff { changes } => history::diff(changes),
        Response::Conflicts { conflicts } => history::conflicts(conflicts),
        Response::Resolved { path, keep } => history::resolved(path, *keep),
        Response::Restored(restored) => history::restored(restored),
        Response::Snapshot(taken) => history::snapshot(taken),
        Response::Branched(branched) => branch::branched(branched),
        Response::BranchEnded(ended) => branch::ended(ended),
        Response::Branches { branches } => branch::branches(branches),
        Response::Merged(merged) => branch::merged(merged),
        Response::Stats { boxes } => boxes.iter().map(show_stats).collect::<Vec<_>>().join("\n"),
        Response::Collected { boxes } => boxes.iter().map(show_collected).collect::<Vec<_>>().join("\n"),
        Response::Checked(report) => show_check(report),
        Response::Devices { devices } => show_devices(devices),
        Response::Failed(_) => String::new(), // goes to standard error
    }
}

/// An event, in one line without its end.
pub(crate) fn event(event: &Event) -> String {
    history::event(event)
}

/// Answers in which something failed though the request as a whole did not: one line each, for standard error.
pub(crate) fn failures(response: &Response) -> Vec<String> {
    match response {
        Response::Failed(failure) => vec![clean(&failure.message)],
        Response::Freed { refused, .. } => refused.iter().map(show_refused).collect(),
        Response::Imported(Imported { refused, left_out, .. }) => {
            let mut lines: Vec<String> = refused.iter().map(show_refused).collect();
            match left_out - refused.len() as u64 {
                0 => {}
                more => lines.push(format!("{more} more left out")),
            }
            lines
        }
        Response::Checked(report) => report.problems.iter().map(|problem| clean(problem)).collect(),
        _ => Vec::new(),
    }
}

fn show_refused(one: &Refused) -> String {
    format!("{}: {}", clean(&one.path.display().to_string()), clean(&one.why))
}

fn entries_of(number: u64) -> String {
    if number == 1 { "1 entry".to_owned() } else { format!("{number} entries") }
}

fn show_imported(imported: &Imported) -> String {
    let Imported { entries, files, bytes: read, same, ignored, left_out, .. } = imported;
    let mut text = format!("{} imported: {} with {}.", entries_of(*entries), count(*files, "file"), bytes(*read));
    for (number, what) in [(same, "there already"), (ignored, "ignored by name"), (left_out, "left out")] {
        if *number > 0 {
            text += &format!(" {number} {what}.");
        }
    }
    text + "\nAll of it is safe on the remote, and fetched when it is read; `ourobox pin` keeps it on this device.\n"
}

fn show_joined(joined: &Joined) -> String {
    let Joined { name, remote, created, device, files } = joined;
    let (name, remote, device) = (clean(name), clean(remote), clean(device));
    let first = if *created {
        format!("Box {name} made on {remote}; this device is called {device}.\n")
    } else {
        format!("Box {name} joined on {remote}: {}; this device is called {device}.\n", count(*files, "file"))
    };
    first + &format!("Mount it with: ourobox fuse DIRECTORY --box {name}\n")
}

fn show_status(status: &Status) -> String {
    let mut text = String::new();
    for one in &status.boxes {
        text += &show_box(one);
    }
    if status.boxes.is_empty() && status.paths.is_empty() {
        text += "No box yet. Make one with: ourobox init REMOTE\n";
    }
    let mut table = Table::new(&[left("STATE"), left("PIN"), left("PATH")]);
    for PathStatus { path, state: badge, pin } in &status.paths {
        table.row([state(*badge).into(), wish(*pin).into(), clean(&path.display().to_string())]);
    }
    if !status.paths.is_empty() {
        text += &table.to_string();
    }
    text
}

fn show_box(one: &BoxStatus) -> String {
    let mut text = format!("{}: {}\n", clean(&one.name), clean(&one.summary));
    let mut line = |label: &str, value: &str| {
        let _infallible = writeln!(text, "  {label:<9} {value}");
    };
    if let Some(problem) = &one.problem {
        line("stopped", &clean(problem));
    }
    if let Some(renewed) = &one.renewed {
        line("identity", &clean(renewed));
    }
    for path in &one.lost {
        line("lost", &format!("the newest bytes of {}: it is as it was committed last", clean(path)));
    }
    for path in &one.incomplete {
        line("zeros", &format!("in {}: parts of it that were never here were deleted everywhere", clean(path)));
    }
    let reach = if one.online { "" } else { " (not reached)" };
    line("remote", &format!("{}{reach}", clean(&one.remote)));
    match &one.mounted_at {
        Some(path) => line("mounted", &clean(&path.display().to_string())),
        None => line("mounted", "no"),
    }
    let whole = if one.index_complete { "" } else { " known so far" };
    line("files", &format!("{}{whole}; {} cached on this device", count(one.files, "file"), bytes(one.cached_bytes)));
    if one.pending_files > 0 {
        line("waiting", &format!("{} not on the remote yet", count(one.pending_files, "file")));
    }
    text
}

fn show_entries(entries: &[EntryInfo]) -> String {
    let mut table = Table::new(&[left("STATE"), left("PIN"), right("SIZE"), left("CHANGED (UTC)"), left("NAME")]);
    for entry in entries {
        let slash = if entry.kind == "directory" { "/" } else { "" };
        let size = if entry.kind == "directory" { "-".into() } else { bytes(entry.size) };
        table.row([
            state(entry.state).into(),
            wish(entry.pin).into(),
            size,
            date(entry.mtime),
            format!("{}{slash}", clean(&entry.name)),
        ]);
    }
    if entries.is_empty() { String::new() } else { table.to_string() }
}

fn show_stats(one: &BoxStats) -> String {
    let requests = &one.requests;
    let total = requests.get + requests.put + requests.list + requests.delete + requests.head;
    let mut text = format!("{}\n", clean(&one.name));
    let mut line = |label: &str, value: String| {
        let _infallible = writeln!(text, "  {label:<16} {value}");
    };
    line(
        "requests",
        format!(
            "{total} (GET {}, PUT {}, LIST {}, DELETE {}, HEAD {})",
            requests.get, requests.put, requests.list, requests.delete, requests.head
        ),
    );
    line("received", bytes(one.bytes_in));
    line("sent", format!("{}, of these {} index", bytes(one.bytes_out), bytes(one.index_bytes_out)));
    line("commits", one.commits.to_string());
    if let Some(cost) = &one.last_commit {
        line("last commit", show_cost(cost));
    }
    line("checkpoints", one.checkpoints.to_string());
    if let Some(cost) = &one.last_checkpoint {
        line("last checkpoint", show_cost(cost));
    }
    line("digest", one.digest.clone());
    line("requests a day", format!("{}, if it goes on like this", one.requests_a_day));
    if let Some(remote) = &one.remote {
        line("files", bytes(remote.logical_bytes));
        line("stored", format!("{} in {}", bytes(remote.stored_bytes), count(remote.objects, "object")));
        let percent = (remote.live_bytes * 100).checked_div(remote.logical_bytes).unwrap_or(100);
        line("live", format!("{}: {percent} % of the files, with all states that are kept", bytes(remote.live_bytes)));
        line("reclaimable", format!("{} by `ourobox gc`", bytes(remote.reclaimable_bytes)));
    }
    text
}

fn show_collected(one: &CollectedLine) -> String {
    let name = clean(&one.box_name);
    let states = format!("{} kept, {} thinned", count(one.kept, "state"), one.thinned);
    let forgotten = match one.purged {
        0 => String::new(),
        purged => format!("; {} of what was removed forgotten", count(purged, "record")),
    };
    let sizes = format!("{} stored, {} of it live", bytes(one.stored_bytes), bytes(one.live_bytes));
    let going = format!("{} in {}", bytes(one.reclaimed_bytes), count(one.gone, "object"));
    if one.nothing {
        format!("{name}: nothing to collect; {sizes}{forgotten}.\n")
    } else if one.ended {
        format!("{name}: {going} given back; {sizes} before; {states}{forgotten}.\n")
    } else if !one.waiting_for.is_empty() {
        let devices = one.waiting_for.iter().map(|device| clean(device)).collect::<Vec<_>>().join(", ");
        format!(
            "{name}: {going} can go once these devices have taken note, which they do when they are online: {devices}. \
             Run `ourobox gc` again then.\n"
        )
    } else if one.grace_seconds > 0 {
        let hours = one.grace_seconds.div_ceil(3_600);
        format!("{name}: {going} can go in {hours} h: run `ourobox gc` again then.\n")
    } else {
        format!("{name}: {going} would go; {sizes}; {states}.\n")
    }
}

fn show_cost(cost: &CommitCost) -> String {
    format!(
        "{}: {}, {} ({} of them index), {} ms until it was safe",
        count(cost.files, "file"),
        count(cost.puts, "PUT"),
        bytes(cost.bytes),
        bytes(cost.index_bytes),
        cost.millis
    )
}

fn show_check(report: &CheckReport) -> String {
    let read = if report.bytes > 0 { format!(", {} read back", bytes(report.bytes)) } else { String::new() };
    let verdict = if report.problems.is_empty() {
        "all is well".to_owned()
    } else {
        count(report.problems.len() as u64, "problem")
    };
    let mended: String = report.repaired.iter().map(|line| format!("mended: {}\n", clean(line))).collect();
    format!(
        "{mended}{}, {}, {} checked{read}: {verdict}.\n",
        count(report.records, "record"),
        count(report.nodes, "index node"),
        count(report.blobs, "blob")
    )
}

fn show_devices(devices: &[DeviceLine]) -> String {
    if devices.is_empty() {
        return "No devices.\n".to_owned();
    }
    let columns = [
        left("BOX"),
        left("DEVICE"),
        left("ID"),
        right("NUMBER"),
        left("JOINED"),
        right("COMMITS"),
        left("LAST COMMIT"),
        left("LAST SEEN"),
        right("BEHIND THEN"),
    ];
    let mut table = Table::new(&columns);
    for device in devices {
        let this = match (device.this, &device.removed) {
            (_, Some(when)) => format!(" (removed {})", clean(when)),
            (true, None) => " (this one)".to_owned(),
            (false, None) => String::new(),
        };
        let time = |time: &Option<String>| time.as_deref().map_or_else(|| "-".to_owned(), clean);
        table.row([
            clean(&device.box_name),
            format!("{}{this}", clean(&device.name)),
            clean(device.id.get(..ID_DIGITS).unwrap_or(&device.id)),
            device.number.to_string(),
            time(&device.joined),
            device.commits.to_string(),
            time(&device.last_commit),
            time(&device.last_seen),
            device.behind.map_or_else(|| "-".to_owned(), |behind| behind.to_string()),
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ouro_engine::api::{Failure, FailureKind, PathState, PinWish, Refused};

    fn a_box() -> BoxStatus {
        BoxStatus {
            name: "photos".into(),
            remote: "s3://b/p".into(),
            mounted_at: Some("/m".into()),
            summary: "up to date".into(),
            online: true,
            pending_files: 0,
            index_complete: true,
            files: 1,
            cached_bytes: 2048,
            problem: None,
            lost: Vec::new(),
            incomplete: Vec::new(),
            renewed: None,
        }
    }

    #[test]
    fn a_box_that_is_fine_says_so_in_its_first_line() {
        let status = Status { boxes: vec![a_box()], paths: Vec::new() };
        let text = human(&Response::Status(status));
        assert_eq!(
            text,
            "photos: up to date\n  remote    s3://b/p\n  mounted   /m\n  files     1 file; 2.0 KiB cached on this device\n"
        );
    }

    #[test]
    fn what_is_wrong_with_a_box_is_shown() {
        let broken = BoxStatus {
            problem: Some("disk full".into()),
            lost: Vec::new(),
            incomplete: Vec::new(),
            renewed: None,
            online: false,
            pending_files: 3,
            index_complete: false,
            ..a_box()
        };
        let text = human(&Response::Status(Status { boxes: vec![broken], paths: Vec::new() }));
        for part in ["stopped   disk full", "(not reached)", "known so far", "3 files not on the remote yet"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn entries_line_up_and_control_characters_cannot_reach_the_terminal() {
        let entry = |name: &str, kind: &str, size| EntryInfo {
            name: name.into(),
            kind: kind.into(),
            size,
            mtime: 1_795_357_805,
            state: PathState::Online,
            pin: PinWish::Auto,
        };
        let text =
            human(&Response::Entries { entries: vec![entry("a\x1b[2Jb", "file", 5), entry("d", "directory", 0)] });
        assert_eq!(
            text,
            "STATE   PIN   SIZE  CHANGED (UTC)     NAME\n\
             online  auto   5 B  2026-11-22 14:30  a\u{fffd}[2Jb\n\
             online  auto     -  2026-11-22 14:30  d/\n"
        );
    }

    #[test]
    fn what_was_refused_is_a_failure_line_each() {
        let freed = Response::Freed {
            bytes: 10,
            refused: vec![Refused { path: "/m/a".into(), why: "not on the remote yet".into() }],
        };
        assert_eq!(failures(&freed), ["/m/a: not on the remote yet"]);
        assert_eq!(human(&freed), "10 B given back.\n");
        let failed = Response::Failed(Failure { kind: FailureKind::Offline, message: "no\nway".into() });
        assert_eq!(failures(&failed), ["no\u{fffd}way"], "one line, whatever the message holds");
        assert_eq!(human(&failed), "");
    }

    #[test]
    fn a_check_tells_what_it_did_and_what_it_found() {
        let mut report =
            CheckReport { records: 1, nodes: 2, blobs: 3, bytes: 0, repaired: Vec::new(), problems: Vec::new() };
        assert_eq!(show_check(&report), "1 record, 2 index nodes, 3 blobs checked: all is well.\n");
        report.problems.push("pack 7 is torn".into());
        assert!(show_check(&report).ends_with(": 1 problem.\n"));
        assert_eq!(failures(&Response::Checked(report)), ["pack 7 is torn"]);
    }
}
