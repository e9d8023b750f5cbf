//! What is open on a device while others go on and collections run.

use crate::device::{DAY_MS, NOTHING_KEPT, World, leaf, make_directory, rename, seen};
use ouro_core::content::Content;
use ouro_core::id::FileId;
use ouro_core::state::Place;
use ouro_sync::Stage;

/// Simulator seed 1884916: what was unlinked here was read, and written to, by what was known of it then.
#[test]
fn what_is_open_on_who_begins_anew_is_what_others_see_or_stays_for_who_has_it_open() {
    for is_moved in [false, true] {
        let mut world = World::new();
        let (ada, bob) = (world.join(), world.join());
        let below = make_directory(&ada, "d");
        for name in ["back", "gone", "stays"] {
            ada.write(name, b"of the beginning");
        }
        ada.push();
        bob.pull();
        let [back, gone, stays] = ["back", "gone", "stays"].map(|name| seen(&bob, &[name]).unwrap().id);
        for file in [back, gone, stays] {
            bob.ask(|v| v.open(file));
        }
        bob.remove("back");
        bob.push();
        ada.write("back", b"by ada");
        if is_moved {
            rename(&ada, (FileId::ROOT, &["back"]), (below, "back"));
            rename(&ada, (FileId::ROOT, &["stays"]), (below, "stays"));
        }
        ada.remove("gone");
        ada.push();
        ada.pull();
        assert!(matches!(ada.collect(NOTHING_KEPT).stage, Stage::Waiting(_)));
        world.pass(90 * DAY_MS);
        ada.write("more", b"more");
        ada.push();
        assert_eq!(ada.collect(NOTHING_KEPT).stage, Stage::Ended, "nobody waits for ninety days");
        bob.look();
        let read = |file: FileId, content: &Content| bob.ask(|v| v.read(file, content, 0, 100));
        let path = |name: &'static str| if is_moved { vec!["d", name] } else { vec![name] };
        for (file, name, bytes) in [(back, "back", &b"by ada"[..]), (stays, "stays", b"of the beginning")] {
            let found = seen(&bob, &path(name)).unwrap();
            assert!(found.id == file && bob.volume().orphan(file).is_none(), "{name}");
            assert_eq!(read(file, found.content().unwrap()), bytes);
        }
        let orphan = bob.volume().orphan(gone).unwrap();
        assert!(orphan.elsewhere && seen(&bob, &["gone"]).is_none());
        assert_eq!(read(gone, &orphan.content), b"of the beginning");
        bob.ask(|v| v.close(gone));
        assert!(bob.volume().orphan(gone).is_none());
        // What is written to what came back is published.
        let (parent, name) = (if is_moved { below } else { FileId::ROOT }, leaf("back"));
        bob.ask(|v| v.write(back, &Place { parent, name: name.clone() }, 0, b"by bob"));
        bob.ask(|v| v.close(back));
        bob.push();
        ada.pull();
        let found = seen(&ada, &path("back")).unwrap();
        assert_eq!(ada.ask(|v| v.read(found.id, found.content().unwrap(), 0, 100)), b"by bob");
    }
}
