//! An upload that was cut off goes on where it was, and nothing is stored twice.

use ouro_tests::{Device, EVER, Place, Pseudo, is_long, until};
use std::fs;
use std::io::Write;

/// Bytes of a pack, and how many may be on their way at the same time.
const PACK: u64 = 16 << 20;
const PACKS_UNDER_WAY: u64 = 3;

#[test]
fn an_upload_cut_off_by_a_kill_goes_on_where_it_was() {
    if !Device::can_mount() {
        return;
    }
    let size: u64 = if is_long() { 2 << 30 } else { 300 << 20 };
    let place = Place::s3();
    let (a, b) = (Device::new("anna"), Device::new("berta"));
    a.init(&place);
    a.mount();
    let bytes = Pseudo::new(21).bytes(size as usize);
    let mut file = fs::File::create(a.at("large")).expect("made");
    file.write_all(&bytes).and_then(|()| file.sync_all()).expect("durable here");
    drop(file);
    let mut stored = 0;
    for part in [4, 2] {
        // The upload begins before the file is complete; each life brings at least a pack.
        let enough = (size / part).max(stored + PACK);
        until(EVER, "a part of the file is stored", || place.bytes_stored() > enough);
        a.kill_engine();
        stored = place.bytes_stored();
        eprintln!("killed with {stored} bytes stored");
        assert!(stored < size, "all was stored before the kill");
        a.mount();
    }
    a.wait();
    let stored = place.bytes_stored();
    eprintln!("{stored} bytes stored for {size}, {} more", stored.saturating_sub(size));
    // Each kill may leave what was on its way and not noted.
    let allowed = size + size / 100 + 2 * PACKS_UNDER_WAY * PACK;
    assert!(stored < allowed, "{stored} bytes are stored for {size}");
    same("after the kills", &fs::read(a.at("large")).expect("read"), &bytes);
    b.join(&place);
    b.mount();
    same("on the other device", &fs::read(b.at("large")).expect("read"), &bytes);
}

fn same(what: &str, found: &[u8], expected: &[u8]) {
    let first = found.iter().zip(expected).position(|(a, b)| a != b);
    assert!(found == expected, "{what}: {} of {} bytes, the first other one at {first:?}", found.len(), expected.len());
}

#[test]
fn what_two_files_have_in_common_is_stored_once() {
    if !Device::can_mount() {
        return;
    }
    let size: usize = if is_long() { 1 << 30 } else { 40 << 20 };
    let place = Place::folder();
    let a = Device::new("anna");
    a.init(&place);
    a.mount();
    let mut bytes = Pseudo::new(31).bytes(size);
    fs::write(a.at("one"), &bytes).expect("written");
    a.wait();
    let before = place.bytes_stored();
    // A tenth is new, and everything behind it is moved by a few bytes.
    let middle = size / 2;
    bytes.splice(middle..middle + size / 10, Pseudo::new(32).bytes(size / 10 + 13));
    fs::write(a.at("two"), &bytes).expect("written");
    a.wait();
    let more = place.bytes_stored() - before;
    eprintln!("{before} bytes stored for {size}, {more} for a second file with a tenth of its own");
    assert!(more < size as u64 / 4, "{more} bytes for a tenth of {size}");

    fs::write(a.at("three"), &bytes).expect("written");
    a.wait();
    let again = place.bytes_stored() - before - more;
    // A file that is committed while it is still being written ends in a chunk that it does not have later.
    assert!(again < size as u64 / 10, "{again} bytes for a copy");
}
