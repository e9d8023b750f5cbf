//! Mounting and unmounting, again and again, in every way there is.

use ouro_tests::{Device, EVER, Place, until};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::process::Stdio;

#[test]
fn a_box_can_be_mounted_right_after_it_was_unmounted_and_nothing_is_lost() {
    if !Device::can_mount() {
        return;
    }
    let place = Place::folder();
    let a = Device::new("anna");
    a.init(&place);
    for round in 0..10 {
        a.mount();
        for before in 0..round {
            assert_eq!(fs::read_to_string(a.at(format!("{before}"))).expect("kept"), format!("round {before}"));
        }
        fs::write(a.at(format!("{round}")), format!("round {round}")).expect("written");
        // Neither waited for nor synced; the engine is not given time to end either.
        a.ok(&["umount".as_ref(), a.mountpoint().as_os_str()]);
    }
}

#[test]
fn a_mount_in_the_foreground_ends_cleanly_when_asked_to() {
    if !Device::can_mount() {
        return;
    }
    let place = Place::folder();
    let a = Device::new("anna");
    a.init(&place);
    for signal in [Signal::TERM, Signal::INT] {
        let mut command = a.command(ouro_tests::ourobox_binary());
        command.arg("fuse").arg(a.mountpoint()).arg("--foreground");
        let mut engine =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("ourobox runs");
        until(EVER, "it is mounted", || is_mounted(&a));
        fs::write(a.at(format!("{}", signal.as_raw())), "written").expect("written");
        kill_process(Pid::from_child(&engine), signal).expect("it runs");
        let status = engine.wait().expect("waited");
        assert_eq!(status.code(), Some(0), "{status}");
        assert!(!is_mounted(&a), "{signal:?} left the mount behind");
    }
    a.mount();
    assert_eq!(fs::read_dir(a.mountpoint()).expect("listed").count(), 2);
}

fn is_mounted(device: &Device) -> bool {
    let path = device.mountpoint().display().to_string();
    let mounts = fs::read_to_string("/proc/self/mounts").expect("readable");
    mounts.lines().any(|line| line.split(' ').nth(1) == Some(&path))
}

#[test]
fn several_boxes_are_folders_of_one_mount() {
    if !Device::can_mount() {
        return;
    }
    let (one, two) = (Place::folder(), Place::folder());
    let a = Device::new("anna");
    for (name, place) in [("one", &one), ("two", &two)] {
        let mut arguments = a.remote_arguments(place);
        arguments.insert(0, "init".into());
        let at = arguments.iter().position(|argument| argument == "box").expect("a name is given");
        arguments[at] = name.into();
        a.ok(&arguments);
    }
    assert_eq!(a.ourobox(&["fuse".as_ref(), a.mountpoint().as_os_str()]).code, Some(1), "it must be said which");
    let boxes = ["--box", "one", "--box", "two"].map(std::ffi::OsStr::new);
    a.ok(&[&["fuse".as_ref(), a.mountpoint().as_os_str()], &boxes[..]].concat());
    fs::write(a.at("one/file"), "in one").expect("written");
    fs::write(a.at("two/file"), "in two").expect("written");
    let error = fs::rename(a.at("one/file"), a.at("two/moved")).expect_err("another storage");
    assert_eq!(error.kind(), std::io::ErrorKind::CrossesDevices);
    assert!(fs::write(a.at("beside"), "").is_err(), "the root holds boxes only");
    a.wait();
    assert!(one.bytes_stored() > 0 && two.bytes_stored() > 0);
    a.umount();
    a.ok(&["fuse".as_ref(), a.mountpoint().as_os_str(), "--box".as_ref(), "two".as_ref()]);
    assert_eq!(fs::read(a.at("file")).expect("kept"), b"in two");
}
