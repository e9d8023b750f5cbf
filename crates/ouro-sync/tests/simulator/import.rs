//! Folders that come into a box past the mount.

use crate::device::{Outcome, Work};
use crate::history::History;
use crate::operate::{NAMES, PARTS};
use crate::trash::take_out;
use crate::tree;
use ouro_core::id::FileId;
use ouro_core::name::Name;
use ouro_core::state::{Attributes, Kind};
use ouro_sync::{Import, Incoming, Inflow, Sync};
use std::io::Cursor;
use std::sync::Arc;

/// Some files and a directory with as many in it, to be taken into a directory of the box.
pub(crate) struct Arrival {
    union: Vec<FileId>,
    directory: &'static str,
    /// Each with whether it goes into the directory.
    files: Vec<(&'static str, Vec<u8>, bool)>,
}

impl Arrival {
    /// Takes it in; says how many contents came in.
    pub(crate) async fn take_in(self, sync: Arc<Sync>) -> Outcome {
        let now = sync.volume().now_ns();
        let incoming = |ordinal, parent, name: &str, kind, inflow| Incoming {
            ordinal,
            parent,
            name: Name::new(name.as_bytes()).expect("a name"),
            kind,
            attributes: Attributes { mode: 0o640, mtime_ns: now, ctime_ns: now, rdev: 0, xattrs: vec![] },
            owner: None,
            inflow,
            has_links: false,
        };
        let mut import = Import::begin(sync).await?;
        import.stands(0, self.union);
        let count = self.files.len();
        let mut batch = vec![incoming(1, 0, self.directory, Kind::Directory, Inflow::Nothing)];
        for (ordinal, (name, content, inside)) in (2..).zip(self.files) {
            let bytes = Inflow::Bytes(content.len() as u64, Box::new(|| Ok(Box::new(Cursor::new(content)))));
            batch.push(incoming(ordinal, u64::from(inside), name, Kind::File, bytes));
        }
        let left_out = import.take(batch, &|_| ()).await?;
        let files_out = left_out.iter().filter(|(ordinal, _)| *ordinal > 1).count();
        Ok(count - files_out)
    }
}

impl History {
    /// Makes ready what an import takes into a directory that is seen.
    pub(crate) fn arrive(&mut self, at: usize) {
        let process = self.devices[at].process();
        let (volume, ready) = (Arc::clone(&process.volume), Arc::clone(&process.arrival));
        let Ok(mut spots) = tree::spots(&volume) else { return };
        take_out(&mut spots);
        let directories: Vec<Vec<FileId>> =
            spots.values().filter(|spot| spot.is_directory()).map(|spot| spot.seen.members().to_vec()).collect();
        let Some(union) = self.chance.one(&directories).cloned() else { return };
        let directory = PARTS[self.chance.below(PARTS.len())];
        let mut files = Vec::new();
        for inside in [false, true] {
            for _ in 0..1 + self.chance.below(3) {
                let content = self.unheard_of(at);
                files.push((NAMES[self.chance.below(NAMES.len())], content, inside));
            }
        }
        self.importing[at] = files.iter().map(|(_, content, _)| content.clone()).collect();
        *ready.lock() = Some(Arrival { union, directory, files });
    }

    /// An import ended well: if all of it came in, all of it is safe.
    pub(crate) fn arrived(&mut self, at: usize, count: usize) {
        let contents = std::mem::take(&mut self.importing[at]);
        if count == contents.len() {
            self.contents.keep(contents);
        }
    }

    /// Bytes that nobody wrote before.
    fn unheard_of(&mut self, at: usize) -> Vec<u8> {
        self.written += 1;
        let length = [0, 300, 9_000][self.chance.below(3)];
        let mut bytes = format!("<{}.{} imported>", self.devices[at].info.number.0, self.written).into_bytes();
        while bytes.len() < length {
            bytes.extend_from_slice(&self.chance.number().to_le_bytes());
        }
        self.contents.wrote(&bytes);
        bytes
    }

    /// Whether an import may begin: one at a time.
    pub(crate) fn is_importing(&self, at: usize) -> bool {
        self.devices[at].process().busy.lock().contains_key(&Work::Import)
    }
}
