//! Programs that look closely: git, SQLite.

use ouro_tests::{Device, EVER, Outcome, Place, Pseudo, is_long, run, until};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Stdio;

fn git(device: &Device, arguments: &[&str]) -> String {
    let mut command = device.command("git");
    command.arg("-C").arg(device.at("work")).args([
        "-c",
        "user.name=T",
        "-c",
        "user.email=t@example.org",
        "-c",
        "safe.directory=*",
    ]);
    command.args(arguments);
    let Outcome { code, stdout, stderr } = run(&command);
    assert_eq!(code, Some(0), "git {arguments:?}: {stdout} {stderr}");
    stdout
}

fn files_online(device: &Device) -> usize {
    device.states(&device.at("work/files")).iter().filter(|(_, state)| state == "online").count()
}

#[test]
fn git_status_reads_no_content_after_a_remount_nor_on_another_device() {
    if !Device::can_mount() {
        return;
    }
    let files = if is_long() { 3_000 } else { 150 };
    let place = Place::s3();
    let (a, b) = (Device::new("anna"), Device::new("berta"));
    a.init(&place);
    a.mount();
    fs::create_dir_all(a.at("work/files")).expect("made");
    let mut random = Pseudo::new(11);
    for number in 0..files {
        fs::write(a.at(format!("work/files/{number}")), random.bytes(70_000)).expect("written");
    }
    git(&a, &["init", "--quiet"]);
    git(&a, &["add", "."]);
    git(&a, &["commit", "--quiet", "--message", "all"]);
    // What was written in the same second as the index, or later, is read again by git whenever it looks.
    let second = |path: &Path| fs::metadata(path).expect("it is there").mtime();
    let newest = (0..files).map(|number| second(&a.at(format!("work/files/{number}")))).max();
    until(EVER, "git's index is younger than all files", || {
        git(&a, &["update-index", "-q", "--really-refresh", "--force-write-index"]);
        Some(second(&a.at("work/.git/index"))) > newest
    });
    a.wait();
    a.remount();
    a.ok(&["free".as_ref(), a.at("work/files").as_os_str()]);
    assert_eq!(files_online(&a), files, "all bytes were given back");
    assert_eq!(git(&a, &["status", "--porcelain"]), "");
    assert_eq!(files_online(&a), files, "git status read files after a remount");

    b.join(&place);
    b.mount();
    assert_eq!(files_online(&b), files);
    let before = b.stat("/bytes_in");
    assert_eq!(git(&b, &["status", "--porcelain"]), "");
    let fetched = b.stat("/bytes_in") - before;
    assert_eq!(files_online(&b), files, "git status read files on the other device ({fetched} bytes)");
    assert!(fetched < 2 << 20, "{fetched} bytes for git's own files");
    fs::write(b.at("work/files/0"), "changed").expect("written");
    assert_eq!(git(&b, &["status", "--porcelain"]).trim(), "M files/0");
    git(&b, &["fsck", "--strict"]);
}

/// Writes transactions without end; each keeps the sum of two accounts.
const WRITER: &str = r"
import sqlite3, sys
path, mode = sys.argv[1], sys.argv[2]
db = sqlite3.connect(path, isolation_level=None)
db.execute(f'pragma journal_mode={mode}')
db.execute('pragma synchronous=normal')
db.execute('create table if not exists t(id integer primary key, a integer, b integer, filler blob)')
db.execute('insert or ignore into t values (1, 1000, 1000, zeroblob(10))')
print('ready', flush=True)
n = 0
while True:
    n += 1
    db.execute('begin immediate')
    db.execute('update t set a = a - ?, b = b + ? where id = 1', (n % 7, n % 7))
    db.execute('insert into t(a, b, filler) values (?, ?, randomblob(?))', (n, -n, n * 37 % 3000))
    if n % 5 == 0:
        db.execute('delete from t where id > 1 and id % 3 = ?', (n % 3,))
    db.execute('commit')
";

/// Opens a copy of a database and says what is wrong with it.
const CHECKER: &str = r"
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
found = [row[0] for row in db.execute('pragma integrity_check')]
if found != ['ok']:
    print('integrity_check:', found[:3])
elif db.execute('select count(*) from sqlite_master').fetchone()[0]:
    row = db.execute('select a + b from t where id = 1').fetchone()
    if row and row[0] != 2000:
        print('half a transaction:', row)
";

fn database_under_writes(mode: &str) {
    if !Device::can_mount() {
        return;
    }
    let place = Place::folder();
    let a = Device::new("anna");
    a.init(&place);
    a.mount();
    fs::create_dir(a.at("db")).expect("made");
    let log = fs::File::create(a.beside("writer.log")).expect("made");
    let mut command = a.command("python3");
    command.args(["-c", WRITER]).arg(a.at("db/data.sqlite")).arg(mode);
    let mut writer = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("python3 runs");
    let (commits, snapshots) = if is_long() { (200, 150) } else { (12, 10) };
    until(10 * EVER, "enough commits were made under load", || {
        assert!(
            writer.try_wait().expect("asked").is_none(),
            "{}",
            fs::read_to_string(a.beside("writer.log")).unwrap_or_default()
        );
        a.stat("/commits") >= commits
    });
    writer.kill().expect("it runs");
    writer.wait().expect("waited");
    a.wait();
    let mut checked = 0;
    let mut wrong = BTreeMap::new();
    for entry in fs::read_dir(a.at(".snapshots")).expect("snapshots are listed") {
        let snapshot = entry.expect("listed").path();
        let copy = a.beside("copy");
        if !copy_database(&snapshot.join("db"), &copy) {
            continue;
        }
        let mut check = a.command("python3");
        check.args(["-c", CHECKER]).arg(copy.join("data.sqlite"));
        let Outcome { code, stdout, stderr } = run(&check);
        if code != Some(0) || !stdout.is_empty() {
            wrong.insert(snapshot.file_name().expect("named").to_owned(), stdout + &stderr);
        }
        checked += 1;
    }
    assert!(wrong.is_empty(), "{} of {checked} snapshots are damaged: {wrong:#?}", wrong.len());
    eprintln!("{checked} snapshots hold the database");
    assert!(checked >= snapshots, "only {checked} snapshots hold the database");
}

/// Copies a database with its journals, as it would be found after a power cut; says whether there is one.
fn copy_database(folder: &Path, copy: &Path) -> bool {
    if copy.exists() {
        fs::remove_dir_all(copy).expect("removed");
    }
    fs::create_dir(copy).expect("made");
    if !folder.join("data.sqlite").exists() {
        return false;
    }
    for name in ["data.sqlite", "data.sqlite-wal", "data.sqlite-journal"] {
        if folder.join(name).exists() {
            fs::write(copy.join(name), fs::read(folder.join(name)).expect("read")).expect("copied");
        }
    }
    true
}

#[test]
fn every_snapshot_of_a_database_with_a_write_ahead_log_is_sound() {
    database_under_writes("wal");
}

#[test]
fn every_snapshot_of_a_database_with_a_rollback_journal_is_sound() {
    database_under_writes("delete");
}
