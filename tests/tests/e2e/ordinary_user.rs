//! Somebody who is not root uses a box: by fusermount3.

use ouro_tests::{Device, NOBODY, OpenDevice, Place, run};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

#[test]
fn an_ordinary_user_mounts_works_and_unmounts() {
    if !Device::can_mount() {
        return;
    }
    let _open = OpenDevice::new();
    let place = Place::folder();
    fs::set_permissions(place.data().parent().expect("a folder"), Permissions::from_mode(0o777)).expect("set");
    fs::set_permissions(place.data(), Permissions::from_mode(0o777)).expect("set");
    let device = Device::of_user("norbert", NOBODY);
    device.init(&place);
    device.mount();
    let shell = |script: &str| {
        let mut command = device.command("sh");
        command.args(["-euc", script, "sh"]).arg(device.mountpoint());
        let outcome = run(&command);
        assert_eq!(outcome.code, Some(0), "{script}: {outcome:?}");
        outcome.stdout
    };
    let shown = shell(
        "cd \"$1\"; id -u; mkdir d; echo text >d/f; ln d/f d/g; ln -s f d/l; chmod 640 d/f; mv d/g d/h; \
         cat d/h d/l; stat -c '%u %a' d/f; test -O d/f; rm d/h",
    );
    assert_eq!(shown, format!("{NOBODY}\ntext\ntext\n{NOBODY} 640\n"));
    device.wait();
    // Modes are the user's own business too: a program that may be run and not read runs.
    shell(
        "cd \"$1\"; cp /bin/true p; chmod 111 p; ./p; if cat p 2>/dev/null; then exit 1; fi; \
         chmod 400 p; if ./p 2>/dev/null; then exit 1; fi; rm -f p",
    );
    // What the kernel remembers it does not ask for: who locks themselves out of a directory still finds it, until the next mount.
    let locked =
        "cd \"$1\"; if cat locked/new 2>/dev/null; then exit 1; fi; cat locked/known 2>/dev/null || echo refused";
    shell(
        "cd \"$1\"; mkdir locked; echo text >locked/known; echo new >locked/new; mv locked/new new; chmod 600 locked",
    );
    assert_eq!(shell(locked), "text\n");
    device.remount();
    assert_eq!(shell(locked), "refused\n");
    shell("cd \"$1\"; chmod 700 locked; rm -r locked new");
    // A listing that it remembers goes with the right to read it, a moment later.
    shell(
        "cd \"$1\"; mkdir unread; : >unread/f; ls unread; ls unread; chmod 300 unread; \
         for i in $(seq 100); do if ! ls unread 2>/dev/null; then chmod 700 unread; rm -r unread; exit 0; fi; \
         sleep 0.1; done; exit 1",
    );
    // A mount without --allow-other is its owner's: even root stays out.
    assert!(fs::read_dir(device.mountpoint()).is_err(), "somebody else may look into a private mount");
    device.umount();
    assert!(fs::read_dir(device.mountpoint()).expect("bare").next().is_none(), "something was written under the mount");
    assert_eq!(fs::metadata(device.mountpoint()).expect("bare").uid(), NOBODY);
    device.mount();
    assert_eq!(shell("cat \"$1/d/f\"; find \"$1\" -type f | wc -l"), "text\n1\n");
    device.umount();
}
