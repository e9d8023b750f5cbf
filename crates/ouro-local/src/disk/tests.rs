use super::*;
use std::io::ErrorKind;

fn on_both(act: impl Fn(Arc<dyn Disk>)) {
    let dir = tempfile::tempdir().unwrap();
    act(Arc::new(RealDisk::new(dir.path().join("cache")).unwrap()));
    act(Arc::new(MemoryDisk::new()));
}

fn content(file: &dyn DiskFile) -> Vec<u8> {
    let mut bytes = vec![1; file.len().unwrap() as usize + 10];
    let len = file.read_at(&mut bytes, 0).unwrap();
    bytes.truncate(len);
    bytes
}

#[test]
fn both_disks_read_what_was_written() {
    on_both(|disk| {
        let file = disk.create("a/b/file").unwrap();
        assert!(file.is_empty().unwrap());
        file.write_at(b"world", 6).unwrap();
        file.write_at(b"hello", 0).unwrap();
        assert_eq!(content(&*file), b"hello\0world");
        file.punch(3, 4).unwrap();
        assert_eq!(content(&*file), b"hel\0\0\0\0orld");
        file.punch(9, 100).unwrap();
        assert_eq!(content(&*file), b"hel\0\0\0\0or\0\0", "the length stays");
        file.punch(50, 10).unwrap();
        file.set_len(2).unwrap();
        file.set_len(4).unwrap();
        assert_eq!(content(&*disk.open("a/b/file").unwrap()), b"he\0\0");
        assert_eq!(file.read_at(&mut [0; 4], 100).unwrap(), 0);
        file.sync_data().unwrap();
        disk.sync_dir("a/b").unwrap();
        disk.sync_all().unwrap();
        assert!(disk.free_bytes().unwrap() > 0);
    });
}

#[test]
fn both_disks_agree_on_names() {
    on_both(|disk| {
        assert_eq!(disk.open("x").map(drop).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(disk.rename("x", "y").unwrap_err().kind(), ErrorKind::NotFound);
        disk.remove("x").unwrap();
        assert!(disk.list("d").unwrap().is_empty());
        for name in ["d/2", "d/1", "d/sub/3"] {
            disk.create(name).unwrap().write_at(name.as_bytes(), 0).unwrap();
        }
        assert_eq!(disk.list("d").unwrap(), ["1", "2", "sub"]);
        disk.rename("d/1", "d/2").unwrap();
        disk.rename("d/2", "other/place").unwrap();
        assert_eq!(disk.list("d").unwrap(), ["sub"]);
        assert_eq!(content(&*disk.open("other/place").unwrap()), b"d/1");
        assert!(disk.create("other/place").unwrap().is_empty().unwrap(), "emptied");
        disk.remove("other/place").unwrap();
        assert!(disk.list("other").unwrap().is_empty());
    });
}

#[test]
fn a_crash_takes_back_what_was_not_synced() {
    let disk = MemoryDisk::new();
    let file = disk.create("d/a").unwrap();
    file.write_at(b"kept", 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir("d").unwrap();
    file.write_at(b"LOST", 0).unwrap();
    disk.create("d/b").unwrap();
    disk.crash(&mut || false);
    assert_eq!(disk.list("d").unwrap(), ["a"]);
    assert_eq!(content(&*disk.open("d/a").unwrap()), b"kept");
    disk.open("d/a").unwrap().write_at(b"!", 4).unwrap();
    disk.crash(&mut || true);
    assert_eq!(content(&*disk.open("d/a").unwrap()), b"kept!");
}

#[test]
fn few_files_stay_open_and_closed_ones_are_opened_again() {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    let handles = Handles::new(disk.clone(), 2);
    for n in 0..5 {
        disk.create(&format!("f{n}")).unwrap().write_at(&[n], 0).unwrap();
    }
    for n in [0, 1, 2, 0, 4, 3, 1] {
        assert_eq!(content(&*handles.get(&format!("f{n}")).unwrap()), [n]);
        assert!(handles.open.lock().files.len() <= 2);
    }
    assert_eq!(handles.get("none").map(drop).unwrap_err().kind(), ErrorKind::NotFound);
}
