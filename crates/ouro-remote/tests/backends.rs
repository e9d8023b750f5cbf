//! One suite of behaviour, run against memory, a folder, and real S3, WebDAV and SFTP servers on this machine.
#![expect(clippy::unwrap_used, reason = "a test says what went wrong by ending there")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use ouro_remote::{Credentials, Limits, ListedObject, Remote, RemoteError, RemoteUri, Store};
use ouro_testkit::servers::{self, Server};

/// Objects in the test of many at once.
const MANY: usize = 300;

fn open(uri: &str, credentials: &Credentials, limits: &Limits) -> Remote {
    Remote::open(&uri.parse::<RemoteUri>().unwrap(), credentials, limits).unwrap()
}

fn connect(server: &Server) -> Remote {
    open(server.uri(), server.credentials(), &Limits::default())
}

/// Limits that give up soon.
fn impatient() -> Limits {
    let short = Duration::from_secs(1);
    Limits { progress_timeout: short, connect_timeout: short, retries_max: 1, ..Limits::default() }
}

fn data(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// What every store does, `write_once` being whether a publish notices a name that is taken.
async fn behaves(remote: &Remote, write_once: bool) {
    absent_objects_are_none_and_not_errors(remote).await;
    what_is_published_is_read_back(remote).await;
    ranges_are_exact_or_torn(remote).await;
    a_second_publish_of_the_same_bytes_succeeds(remote, write_once).await;
    a_hint_is_overwritten_and_deleted(remote).await;
    lists_go_all_the_way_down(remote).await;
    many_objects_at_once_all_arrive(remote).await;
    bad_names_are_refused(remote).await;
}

async fn absent_objects_are_none_and_not_errors(remote: &Remote) {
    assert_eq!(remote.get("packs/00/none").await.unwrap(), None);
    assert_eq!(remote.get_range("packs/00/none", 3, 4).await.unwrap(), None);
    assert_eq!(remote.get_range("packs/00/none", 0, 0).await.unwrap(), None);
    remote.delete("packs/00/none").await.unwrap();
    assert_eq!(remote.list("nothing/here/").await.unwrap(), []);
}

async fn what_is_published_is_read_back(remote: &Remote) {
    let big: Bytes = (0..3_000_000u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let odd = "log/some device/Ünïcode & 100% #1?";
    for (name, bytes) in [("packs/ab/big", big.clone()), ("empty", Bytes::new()), (odd, data("odd name"))] {
        remote.publish(name, bytes.clone()).await.unwrap();
        assert_eq!(remote.get(name).await.unwrap().unwrap(), bytes, "{name}");
    }
    let middle = remote.get_range("packs/ab/big", 1_000_000, 70_000).await.unwrap().unwrap();
    assert_eq!(middle, big.slice(1_000_000..1_070_000));
}

async fn ranges_are_exact_or_torn(remote: &Remote) {
    remote.publish("nodes/aa/ten", data("0123456789")).await.unwrap();
    let range = |offset, len| remote.get_range("nodes/aa/ten", offset, len);
    assert_eq!(range(0, 10).await.unwrap().unwrap(), data("0123456789"));
    assert_eq!(range(9, 1).await.unwrap().unwrap(), data("9"));
    assert_eq!(range(4, 0).await.unwrap().unwrap(), Bytes::new());
    for (offset, len) in [(8, 3), (10, 1), (50, 5), (0, 11), (11, 0), (u64::MAX, 2)] {
        let answer = range(offset, len).await;
        assert!(matches!(answer, Err(RemoteError::Torn { .. })), "{offset}+{len}: {answer:?}");
    }
}

async fn a_second_publish_of_the_same_bytes_succeeds(remote: &Remote, write_once: bool) {
    remote.publish("log/d/1", data("a record")).await.unwrap();
    remote.publish("log/d/1", data("a record")).await.unwrap();
    if write_once {
        let answer = remote.publish("log/d/1", data("another")).await;
        assert!(matches!(answer, Err(RemoteError::Taken { .. })), "{answer:?}");
    }
    assert_eq!(remote.get("log/d/1").await.unwrap().unwrap(), data("a record"));
    // A write that was cut off is completed.
    remote.overwrite("log/d/2", data("half a rec")).await.unwrap();
    remote.publish("log/d/2", data("half a record")).await.unwrap();
    assert_eq!(remote.get("log/d/2").await.unwrap().unwrap(), data("half a record"));
}

async fn a_hint_is_overwritten_and_deleted(remote: &Remote) {
    remote.overwrite("heads/d", data("a long first hint")).await.unwrap();
    remote.overwrite("heads/d", data("second")).await.unwrap();
    assert_eq!(remote.get("heads/d").await.unwrap().unwrap(), data("second"));
    remote.delete("heads/d").await.unwrap();
    remote.delete("heads/d").await.unwrap();
    assert_eq!(remote.get("heads/d").await.unwrap(), None);
}

async fn lists_go_all_the_way_down(remote: &Remote) {
    for name in ["list/a", "list/b/c", "list/b/d/e f", "listing"] {
        remote.publish(name, data(name)).await.unwrap();
    }
    let object = |name: &str| ListedObject { name: name.to_owned(), bytes: name.len() as u64 };
    assert_eq!(remote.list("list/").await.unwrap(), ["list/a", "list/b/c", "list/b/d/e f"].map(object));
    assert_eq!(remote.list("list/b/d/").await.unwrap(), ["list/b/d/e f"].map(object));
    let all = remote.list("").await.unwrap();
    assert!(all.contains(&object("listing")) && all.contains(&object("list/a")), "{all:?}");
    assert!(all.iter().all(|object| !object.name.contains(".ouro-tmp-")), "{all:?}");
}

async fn many_objects_at_once_all_arrive(remote: &Remote) {
    let names: Vec<String> = (0..MANY).map(|number| format!("packs/{:02x}/many-{number}", number % 7)).collect();
    let results = join_all(names.iter().map(|name| remote.publish(name, data(name)))).await;
    assert_eq!(results.into_iter().filter_map(Result::err).collect::<Vec<_>>(), []);
    let read = join_all(names.iter().map(|name| remote.get(name))).await;
    for (name, bytes) in names.iter().zip(read) {
        assert_eq!(bytes.unwrap().unwrap(), data(name));
    }
    let listed = remote.list("packs/").await.unwrap();
    assert_eq!(listed.iter().filter(|object| object.name.contains("/many-")).count(), MANY);
}

async fn bad_names_are_refused(remote: &Remote) {
    for name in ["", "../up", "/etc/passwd", "a//b"] {
        assert!(matches!(remote.get(name).await, Err(RemoteError::BadName { .. })), "{name}");
        assert!(matches!(remote.publish(name, data("x")).await, Err(RemoteError::BadName { .. })), "{name}");
        assert!(matches!(remote.delete(name).await, Err(RemoteError::BadName { .. })), "{name}");
    }
    assert!(matches!(remote.list("heads").await, Err(RemoteError::BadName { .. })));
}

/// A server that stopped answers nothing: the call ends within its time limit, and all is well again once the server goes on.
async fn a_stopped_server_is_unreachable_in_time(server: &Server) {
    let remote = open(server.uri(), server.credentials(), &impatient());
    remote.publish("log/d/before", data("before")).await.unwrap();
    server.stop();
    let bound = Duration::from_secs(20);
    let (read, written) = tokio::time::timeout(bound, async {
        (remote.get("log/d/before").await, remote.publish("log/d/during", data("during")).await)
    })
    .await
    .expect("a call took longer than its limits allow");
    server.cont();
    assert!(matches!(read, Err(RemoteError::Unreachable { .. })), "{read:?}");
    assert!(matches!(written, Err(RemoteError::Unreachable { .. })), "{written:?}");
    let patient = connect(server);
    assert_eq!(patient.get("log/d/before").await.unwrap().unwrap(), data("before"));
    patient.publish("log/d/during", data("during")).await.unwrap();
}

async fn an_ended_server_is_unreachable(server: Server) {
    let remote = open(server.uri(), server.credentials(), &impatient());
    drop(server);
    let answer = remote.get("log/d/1").await;
    assert!(matches!(answer, Err(RemoteError::Unreachable { .. })), "{answer:?}");
    assert!(answer.unwrap_err().is_retryable());
}

async fn wrong_credentials_are_denied(server: &Server, credentials: &Credentials, secret: &str) {
    let remote = open(server.uri(), credentials, &Limits { retries_max: 0, ..Limits::default() });
    for error in [remote.get("a").await.unwrap_err(), remote.publish("a", data("x")).await.unwrap_err()] {
        assert!(matches!(error, RemoteError::Denied { .. }), "{error:?}");
        let shown = format!("{error} {error:?} {remote:?} {credentials:?}");
        assert!(!shown.contains(secret), "{shown}");
        assert!(!error.is_retryable());
    }
}

fn credentials(pairs: &[(&str, &str)]) -> Credentials {
    let mut credentials = Credentials::none();
    for (key, value) in pairs {
        assert!(credentials.set(key, value));
    }
    credentials
}

#[tokio::test]
async fn memory_behaves() {
    let remote = open("memory:", &Credentials::none(), &Limits::default());
    assert!(remote.probe().await.unwrap().write_once);
    behaves(&remote, true).await;
    assert!(remote.usage().gets > 300);
}

#[tokio::test]
async fn a_folder_behaves() {
    let folder = tempfile::tempdir().unwrap();
    let uri = RemoteUri::from_folder(&folder.path().join("new folder/deep?")).unwrap();
    let remote = Remote::open(&uri, &Credentials::none(), &Limits::default()).unwrap();
    let probe = remote.probe().await.unwrap();
    assert!(probe.writable && probe.write_once);
    behaves(&remote, true).await;
    let left = walk(folder.path());
    assert!(left.iter().all(|name| !name.contains(".ouro-tmp-")), "{left:?}");
}

#[tokio::test]
async fn a_folder_works_the_same_on_the_threads_of_a_runtime() {
    struct Threads;
    impl ouro_core::port::Runtime for Threads {
        fn spawn(&self, _: ouro_remote::BoxFuture<'static, ()>) {
            unreachable!("a remote starts no tasks")
        }

        #[expect(clippy::disallowed_methods, reason = "this is the port's adapter for this test")]
        fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> ouro_remote::BoxFuture<'static, ()> {
            Box::pin(async { tokio::task::spawn_blocking(work).await.unwrap() })
        }

        fn sleep(&self, _: u64) -> ouro_remote::BoxFuture<'static, ()> {
            unreachable!("a folder needs no pauses")
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let uri = RemoteUri::from_folder(folder.path()).unwrap();
    let remote = Remote::open(&uri, &Credentials::none(), &Limits::default()).unwrap().with_runtime(Arc::new(Threads));
    behaves(&remote, true).await;
}

#[tokio::test]
async fn a_folder_that_is_gone_is_unreachable_and_not_empty() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("disk");
    let uri = RemoteUri::from_folder(&root).unwrap();
    let remote = Remote::open(&uri, &Credentials::none(), &Limits::default()).unwrap();
    let unreachable = |error| matches!(error, RemoteError::Unreachable { .. });
    assert!(unreachable(remote.get("ourobox.json").await.unwrap_err()));
    assert!(unreachable(remote.list("heads/").await.unwrap_err()));
    assert!(unreachable(remote.publish("log/d/1", data("x")).await.unwrap_err()));
    assert!(!root.exists(), "publishing made the folder of a disk that is not connected");
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the writers have to be threads: the folder's calls block")]
async fn two_writers_of_one_name_in_a_folder_never_both_win() {
    let folder = tempfile::tempdir().unwrap();
    let uri = RemoteUri::from_folder(folder.path()).unwrap();
    let threads: Vec<_> = (0..4)
        .map(|writer| {
            let uri = uri.clone();
            tokio::task::spawn_blocking(move || {
                let remote = Remote::open(&uri, &Credentials::none(), &Limits::default()).unwrap();
                let publish = |number| {
                    futures::executor::block_on(
                        remote.publish(&format!("log/d/{number}"), Bytes::from(format!("writer {writer}"))),
                    )
                };
                (0..50).map(|number| publish(number).is_ok()).collect::<Vec<_>>()
            })
        })
        .collect();
    let won: Vec<Vec<bool>> = join_all(threads).await.into_iter().map(Result::unwrap).collect();
    for number in 0..50 {
        assert_eq!(won.iter().filter(|writer| writer[number]).count(), 1, "name {number}");
    }
}

fn walk(folder: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .flat_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.path().is_dir() { walk(&entry.path()) } else { vec![name] }
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_behaves() {
    let server = servers::s3().unwrap();
    let remote = connect(&server);
    let probe = remote.probe().await.unwrap();
    assert!(probe.writable);
    behaves(&remote, probe.write_once).await;
    a_stopped_server_is_unreachable_in_time(&server).await;
    an_ended_server_is_unreachable(server).await;
}

#[tokio::test]
async fn a_publish_on_s3_is_one_put_and_a_read_one_get() {
    let server = servers::s3().unwrap();
    let remote = connect(&server);
    remote.publish("log/d/warm", data("up")).await.unwrap();
    let requests = || {
        let log = server.log();
        let count = |request: &str| log.matches(&format!("serve s3: {request}")).count();
        ["GET OBJECT", "CREATE OBJECT", "HEAD", "LIST", "DELETE"].map(count)
    };
    let (before, used) = (requests(), remote.usage());
    remote.publish("log/d/1", data("a record")).await.unwrap();
    remote.get("log/d/1").await.unwrap().unwrap();
    remote.get_range("log/d/1", 2, 3).await.unwrap().unwrap();
    assert_eq!(remote.get("log/d/2").await.unwrap(), None);
    let (after, used) = (requests(), remote.usage().since(&used));
    let counted: Vec<usize> = after.iter().zip(before).map(|(after, before)| after - before).collect();
    assert_eq!(counted, [3, 1, 0, 0, 0], "{}", server.log());
    assert_eq!((used.gets, used.puts, used.requests()), (3, 1, 4));
    assert_eq!(used.out_by_prefix.log, 8);
    assert!(remote.storage_time().unwrap() > 1_700_000_000);
}

#[tokio::test]
async fn wrong_keys_are_denied_by_s3() {
    let server = servers::s3().unwrap();
    let secret = "wrongwrongwrongwrongwrongwrongwrongwrong";
    let wrong = credentials(&[("AWS_ACCESS_KEY_ID", "WRONGWRONGWRONGWRONG"), ("AWS_SECRET_ACCESS_KEY", secret)]);
    wrong_credentials_are_denied(&server, &wrong, secret).await;
    wrong_credentials_are_denied(&server, &wrong, "WRONGWRONG").await;
    let wrong = credentials(&[("AWS_ACCESS_KEY_ID", servers::S3_KEY), ("AWS_SECRET_ACCESS_KEY", secret)]);
    wrong_credentials_are_denied(&server, &wrong, secret).await;
    let uri: RemoteUri = server.uri().parse().unwrap();
    assert!(matches!(Remote::open(&uri, &Credentials::none(), &impatient()), Err(RemoteError::Denied { .. })));
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_an_error_and_not_an_empty_one() {
    let server = servers::s3().unwrap();
    let remote = open(&server.uri().replace("bucket", "nosuch"), server.credentials(), &impatient());
    let answer = remote.get("ourobox.json").await;
    assert!(matches!(answer, Err(RemoteError::Denied { .. })), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webdav_behaves() {
    let server = servers::webdav().unwrap();
    let remote = connect(&server);
    let probe = remote.probe().await.unwrap();
    assert!(probe.writable && probe.write_once, "{probe:?}");
    behaves(&remote, true).await;
    let left = walk(&server.data());
    assert!(left.iter().all(|name| !name.contains(".ouro-tmp-")), "{left:?}");
    let used = remote.usage();
    remote.publish("log/d/next", data("a record")).await.unwrap();
    assert_eq!(remote.usage().since(&used).requests(), 2, "an ordinary publish is PUT and MOVE");
    a_stopped_server_is_unreachable_in_time(&server).await;
    an_ended_server_is_unreachable(server).await;
}

#[tokio::test]
async fn a_wrong_password_is_denied_by_webdav() {
    let server = servers::webdav().unwrap();
    let wrong = credentials(&[("OUROBOX_WEBDAV_USER", "tester"), ("OUROBOX_WEBDAV_PASSWORD", "hunter2hunter2")]);
    wrong_credentials_are_denied(&server, &wrong, "hunter2hunter2").await;
}

#[tokio::test]
async fn webdavs_trusts_only_certificates_that_the_system_trusts() {
    if !servers::openssl_is_installed() {
        eprintln!("skipped: openssl is not installed");
        return;
    }
    let server = servers::webdavs().unwrap();
    let answer = open(server.uri(), server.credentials(), &impatient()).get("a").await;
    let refused = matches!(&answer, Err(RemoteError::Unreachable { reason, .. }) if reason.contains("certificate"));
    assert!(refused, "{answer:?}");
    // What the system trusts is read once per process, so another one is told to trust the server.
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "with_a_trusted_certificate_webdavs_works", "--ignored"])
        .env("SSL_CERT_FILE", server.certificate())
        .env(URI_VARIABLE, server.uri())
        .env("OUROBOX_WEBDAV_USER", servers::WEBDAV_USER)
        .env("OUROBOX_WEBDAV_PASSWORD", server.credentials().get("OUROBOX_WEBDAV_PASSWORD").unwrap())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

/// Names the server to the test below.
const URI_VARIABLE: &str = "OUROBOX_TEST_URI";

#[tokio::test]
#[ignore = "a part of the test above, which runs it in a process that trusts its server"]
async fn with_a_trusted_certificate_webdavs_works() {
    let uri = std::env::var(URI_VARIABLE).unwrap();
    let remote = open(&uri, &Credentials::from_env(), &impatient());
    assert!(remote.probe().await.unwrap().writable);
    remote.publish("log/d/1", data("a record")).await.unwrap();
    assert_eq!(remote.get("log/d/1").await.unwrap().unwrap(), data("a record"));
}

#[tokio::test]
async fn a_read_only_webdav_folder_is_found_out_by_the_probe() {
    let server = servers::webdav_with(&["--read-only"]).unwrap();
    std::fs::create_dir(server.data().join("repo")).unwrap();
    let remote = open(server.uri(), server.credentials(), &impatient());
    let probe = remote.probe().await.unwrap();
    assert!(!probe.writable);
    let refusal = probe.refusal.unwrap();
    assert!(matches!(refusal, RemoteError::Denied { .. } | RemoteError::ReadOnly { .. }), "{refusal:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sftp_behaves() {
    let server = servers::sshd().unwrap();
    let remote = connect(&server);
    assert!(remote.probe().await.unwrap().writable);
    behaves(&remote, true).await;
    let left = walk(&server.data());
    assert!(left.iter().all(|name| !name.contains(".ouro-tmp-")), "{left:?}");
    a_stopped_server_is_unreachable_in_time(&server).await;
    an_ended_server_is_unreachable(server).await;
}

#[tokio::test]
async fn a_wrong_key_is_denied_by_sftp() {
    let (server, other) = (servers::sshd().unwrap(), servers::sshd().unwrap());
    wrong_credentials_are_denied(&server, other.credentials(), "BEGIN OPENSSH").await;
}
