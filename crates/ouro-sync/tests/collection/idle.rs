//! What a device that changes nothing leaves alone.

use crate::device::{Device, World, attributes, leaf};
use ouro_core::id::FileId;
use ouro_core::state::Kind;

/// More than may be in the deltas since a checkpoint before another is due.
const MANY: usize = 10_001;

fn create_many(device: &Device) {
    for n in 0..MANY {
        let name = leaf(&format!("{n}"));
        device.ask(|v| v.edit(|e| e.create(&[FileId::ROOT], &name, Kind::File, attributes(), None)));
    }
}

/// Until now the first thing that who was started did was the checkpoint that others had not written, or were writing.
#[test]
fn who_has_only_learnt_writes_no_checkpoint() {
    let mut world = World::new();
    let (ada, mut bob) = (world.join(), world.join());
    create_many(&ada);
    ada.push();
    bob.pull();
    assert!(bob.is_checkpoint_due());
    let before = world.listed("");
    bob.goes_by_itself(60_000);
    assert!(world.listed("") == before, "an idle device writes nothing");
    bob.restart();
    // Whoever writes makes up for it.
    bob.write("f", b"new");
    bob.goes_by_itself(60_000);
    assert!(!bob.is_checkpoint_due());
}
