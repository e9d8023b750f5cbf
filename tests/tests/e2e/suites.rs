//! The judges of others: pjdfstest and fsx. Run with `OUROBOX_LONG=1`; scripts/bootstrap test-long builds them.

use ouro_tests::{Device, Outcome, Place, is_long, run};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::process::Command;

/// Cases that fail on some runs, for a reason that stands in docs/semantics.md.
///
/// etxtbsy: by O_RDONLY with O_TRUNC the kernel has the file emptied before it sees that the file is being run; a program that is still
/// being loaded dies of that, and then the file is busy no more.
const KNOWN: &[&str] = &["open::etxtbsy"];
/// Seeds of fsx.
const SEEDS: &[&str] = &["1", "2", "3", "4", "5", "6", "7"];

fn mounted(flags: &[&str]) -> Device {
    let device = Device::new("anna");
    let place = Place::folder();
    device.init(&place);
    let mut arguments = vec![OsStr::new("fuse").to_owned(), device.mountpoint().into_os_string()];
    arguments.extend(flags.iter().map(|flag| OsStr::new(flag).to_owned()));
    device.ok(&arguments);
    // The suites look at the mount, not at what is on the remote, which may go.
    drop(place);
    device
}

/// Two users with their groups that are no root.
fn dummies() -> Vec<(String, String)> {
    let users = fs::read_to_string("/etc/passwd").expect("readable");
    let groups = fs::read_to_string("/etc/group").expect("readable");
    let group = |id: &str| {
        let line = groups.lines().find(|line| line.split(':').nth(2) == Some(id))?;
        Some(line.split(':').next()?.to_owned())
    };
    let pair = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        (fields.len() > 3 && fields[2] != "0" && fields[3] != "0")
            .then(|| Some((fields[0].to_owned(), group(fields[3])?)))?
    };
    let mut found: Vec<(String, String)> = users.lines().filter_map(pair).collect();
    found.sort_by_key(|(name, _)| name != "nobody");
    found.truncate(2);
    found
}

#[test]
fn pjdfstest_finds_a_posix_file_system() {
    if !is_long() || !Device::can_mount() {
        return;
    }
    let device = mounted(&["--allow-other", "--default-permissions"]);
    let mut config = String::from(
        "[features]\n[features.posix_fallocate]\n[features.rename_ctime]\n[features.utimensat]\n[features.utime_now]\n\
         [settings]\nnaptime = 0.01\nallow_remount = false\n[dummy_auth]\nentries = [\n",
    );
    for (user, group) in dummies() {
        writeln!(config, "  [{user:?}, {group:?}],").expect("a string grows");
    }
    config.push_str("]\n");
    let file = device.beside("pjdfstest.toml");
    fs::write(&file, config).expect("written");
    let mut suite = Command::new("pjdfstest");
    suite.arg("-c").arg(&file).arg("-p").arg(device.mountpoint());
    let Outcome { code, stdout, stderr } = run(&suite);
    let summary =
        stdout.lines().find(|line| line.starts_with("Summary: ")).unwrap_or_else(|| panic!("{stdout} {stderr}"));
    // The reason of a skipped case stands indented below it.
    let reasons: BTreeSet<&str> = stdout.lines().filter(|line| line.starts_with('\t')).map(str::trim).collect();
    eprintln!("{summary}; skipped because: {reasons:#?}");
    let failed = stdout.lines().filter_map(|line| line.strip_suffix("FAILED")).map(str::trim);
    let unexpected: Vec<&str> = failed.filter(|name| !KNOWN.contains(name)).collect();
    let ended_well = code == Some(0) || summary.starts_with("Summary: 1 failed");
    assert!(ended_well && unexpected.is_empty(), "{unexpected:?} {stdout}");
}

fn fsx(flags: &[&str]) {
    if !is_long() || !Device::can_mount() {
        return;
    }
    let device = mounted(flags);
    for seed in SEEDS {
        let mut command = Command::new("fsx");
        command.args(["-q", "-N", "20000", "-S", seed]).arg(device.at("fsx"));
        let outcome = run(&command);
        assert_eq!(outcome.code, Some(0), "seed {seed}: {outcome:?}");
    }
}

#[test]
fn fsx_reads_what_it_wrote_when_the_kernel_checks_permissions() {
    fsx(&["--allow-other", "--default-permissions"]);
}

#[test]
fn fsx_reads_what_it_wrote_when_the_mount_checks_permissions() {
    fsx(&[]);
}
