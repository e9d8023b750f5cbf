//! What a person gets wrong is answered with an exit code and one line that says what to do.

use ouro_tests::{Device, EVER, Outcome, Place, until};
use std::ffi::OsString;
use std::fs;

const SECRET: &str = "hunter2hunter2hunter2";

/// Failed as it should: code 1, and one line on standard error that names all these words.
fn refused(what: &str, outcome: &Outcome, words: &[&str]) {
    assert_eq!(outcome.code, Some(1), "{what}: {outcome:?}");
    let lines: Vec<&str> = outcome.stderr.trim_end().lines().collect();
    assert_eq!(lines.len(), 1, "{what}: not one line: {outcome:?}");
    assert!(lines[0].starts_with("ourobox: "), "{what}: {outcome:?}");
    let text = lines[0].to_lowercase();
    for word in words {
        assert!(text.contains(&word.to_lowercase()), "{what}: {word:?} is not said: {outcome:?}");
    }
}

fn with_passphrase(device: &Device, verb: &str, uri: &str, name: &str) -> Vec<OsString> {
    let passphrase = device.beside("passphrase");
    let words = [verb, uri, "--box", name, "--passphrase-file"].map(OsString::from);
    words.into_iter().chain([passphrase.into()]).collect()
}

#[test]
fn what_is_wrong_about_a_remote_is_said_before_anything_is_made() {
    if !Device::can_mount() {
        return;
    }
    let place = Place::folder();
    let a = Device::new("anna");
    refused("no repository", &a.ourobox(&with_passphrase(&a, "join", &place.uri, "box")), &["init"]);
    a.init(&place);

    let wrong = a.beside("wrong");
    fs::write(&wrong, "something else\n").expect("written");
    let b = Device::new("berta");
    let join = |extra: &[&str]| {
        let mut arguments = vec!["join".to_owned(), place.uri.clone()];
        arguments.extend(extra.iter().map(|word| (*word).to_owned()));
        b.ourobox(&arguments)
    };
    refused("wrong passphrase", &join(&["--passphrase-file", &wrong.display().to_string()]), &["passphrase"]);
    refused("no passphrase", &join(&["--no-encryption"]), &["passphrase"]);
    refused("missing passphrase file", &join(&["--passphrase-file", "/no such file"]), &["/no such file"]);
    refused("unknown scheme", &b.ourobox(&with_passphrase(&b, "init", "gopher://x/y", "box")), &["scheme", "s3://"]);
    refused("no URI", &b.ourobox(&with_passphrase(&b, "init", "just words", "box")), &["URI"]);

    let secrets = [
        format!("s3://bucket/x?region=us-east-1&secret_access_key={SECRET}"),
        format!("webdav://user:{SECRET}@127.0.0.1:1/x"),
        format!("sftp://user:{SECRET}@127.0.0.1:1/x"),
    ];
    for uri in &secrets {
        let outcome = b.ourobox(&with_passphrase(&b, "init", uri, "box"));
        refused("a secret in the URI", &outcome, &["secret"]);
        assert!(
            !outcome.stderr.contains(SECRET) && !outcome.stdout.contains(SECRET),
            "it was shown again: {outcome:?}"
        );
        let outcome = b.ourobox(&[vec!["--json".into()], with_passphrase(&b, "init", uri, "box")].concat());
        assert!(
            !outcome.stderr.contains(SECRET) && !outcome.stdout.contains(SECRET),
            "it was shown again: {outcome:?}"
        );
    }

    let foreign = tempfile::tempdir().expect("a temporary folder");
    fs::write(foreign.path().join("ourobox.json"), "{\"hello\": \"world\"}").expect("written");
    let uri = format!("fs://{}", foreign.path().display());
    refused("something else's ourobox.json", &b.ourobox(&with_passphrase(&b, "join", &uri, "box")), &["ourobox.json"]);

    refused("the same name again", &a.ourobox(&with_passphrase(&a, "join", &place.uri, "box")), &["--box"]);
    refused("a strange name", &a.ourobox(&with_passphrase(&a, "join", &place.uri, "../up")), &["--box"]);
    let known = b.json(&["status"]);
    assert_eq!(known["boxes"].as_array().map(Vec::len), Some(0), "a refused box was left behind: {known}");
}

#[test]
fn what_is_wrong_about_a_mount_is_said_and_changes_nothing() {
    if !Device::can_mount() {
        return;
    }
    let place = Place::folder();
    let a = Device::new("anna");
    let mount_at = |path: &std::path::Path| a.ourobox(&[OsString::from("fuse"), path.into()]);
    refused("no box yet", &mount_at(&a.mountpoint()), &["ourobox init"]);
    a.init(&place);
    assert!(a.engines().is_empty(), "init left an engine behind");

    let full = a.beside("full");
    fs::create_dir(&full).expect("made");
    fs::write(full.join("mine"), "mine").expect("written");
    refused("a directory with files", &mount_at(&full), &["full", "empty"]);
    assert_eq!(fs::read(full.join("mine")).expect("still there"), b"mine");
    fs::write(a.beside("file"), "").expect("written");
    refused("a file", &mount_at(&a.beside("file")), &["directory"]);
    refused("inside the state", &mount_at(&a.home().join("data/here")), &["data"]);
    refused("around the state", &mount_at(&a.home()), &[]);
    let unknown = a.ourobox(&["fuse".as_ref(), a.mountpoint().as_os_str(), "--box".as_ref(), "other".as_ref()]);
    refused("unknown box", &unknown, &["other", "box"]);
    until(EVER, "the engine of a refused mount ends", || a.engines().is_empty());

    a.mount();
    refused("mounted there", &mount_at(&a.mountpoint()), &["mounted"]);
    refused("mounted elsewhere", &mount_at(&a.beside("second")), &["mounted", "box"]);
    let second = a.ourobox(&["service"]);
    refused("a second engine", &second, &["engine"]);
    refused("a path in no box", &a.ourobox(&["ls", "/usr"]), &["/usr"]);
    refused("a path that is not there", &a.ourobox(&["status".as_ref(), a.at("none").as_os_str()]), &["none"]);
    refused("not mounted there", &a.ourobox(&["umount".as_ref(), a.beside("full").as_os_str()]), &["full"]);

    let busy = fs::File::create(a.at("busy")).expect("made");
    refused("busy", &a.ourobox(&["umount".as_ref(), a.mountpoint().as_os_str()]), &["mount"]);
    drop(busy);
    a.umount();
    refused("no longer mounted", &a.ourobox(&["umount".as_ref(), a.mountpoint().as_os_str()]), &["mount"]);
    assert_eq!(a.ourobox(&["frobnicate"]).code, Some(2));
    assert_eq!(a.ourobox(&["init"]).code, Some(2));
    let outcome = a.ourobox(&["--json", "ls", "/usr"]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let answer: serde_json::Value = serde_json::from_str(&outcome.stdout).expect("also a failure is JSON");
    assert!(answer["message"].is_string(), "{answer}");
}
