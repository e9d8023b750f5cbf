//! What the user wants of files: kept here, online only, or as it comes.

use crate::ledger::Write;
use ouro_core::id::FileId;
use parking_lot::RwLock;
use std::collections::BTreeMap;

/// The user's wish for a file or for all in a directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Pin {
    /// Fetched when read, evicted when room is needed; what stands above decides.
    #[default]
    Auto,
    /// Always on this device.
    Keep,
    /// On the remote only, given back as soon as possible.
    Online,
}

impl Pin {
    /// As kept in the ledger; automatic needs no row.
    pub(crate) fn code(self) -> Option<i64> {
        match self {
            Pin::Auto => None,
            Pin::Keep => Some(1),
            Pin::Online => Some(2),
        }
    }

    pub(crate) fn from_code(code: i64) -> Pin {
        match code {
            1 => Pin::Keep,
            2 => Pin::Online,
            _ => Pin::Auto,
        }
    }
}

/// All wishes of a box, in memory: only what the user pinned by hand has a row.
#[derive(Default)]
pub struct Pins {
    by_file: RwLock<BTreeMap<FileId, Pin>>,
}

impl Pins {
    /// Takes the rows loaded from the ledger.
    pub fn new(rows: impl IntoIterator<Item = (FileId, Pin)>) -> Pins {
        Pins { by_file: RwLock::new(rows.into_iter().filter(|(_, pin)| *pin != Pin::Auto).collect()) }
    }

    /// Sets a wish and returns the row to submit.
    #[must_use = "the wish is forgotten at the next start unless the row is submitted"]
    pub fn set(&self, file: FileId, pin: Pin) -> Write {
        let mut by_file = self.by_file.write();
        match pin {
            Pin::Auto => by_file.remove(&file),
            pin => by_file.insert(file, pin),
        };
        Write::Pin { file, pin: pin.code().map(|_| pin) }
    }

    /// The file's own wish.
    pub fn own(&self, file: FileId) -> Pin {
        self.by_file.read().get(&file).copied().unwrap_or_default()
    }

    /// The wish that holds for a file: the first one set on the way up. `chain`: the file, its directory, and so on up to the root.
    pub fn resolve(&self, chain: impl IntoIterator<Item = FileId>) -> Pin {
        let by_file = self.by_file.read();
        if by_file.is_empty() {
            return Pin::Auto;
        }
        chain.into_iter().find_map(|file| by_file.get(&file).copied()).unwrap_or_default()
    }

    /// Every file with a wish of its own, sorted.
    pub fn all(&self) -> Vec<(FileId, Pin)> {
        self.by_file.read().iter().map(|(&file, &pin)| (file, pin)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_wish_on_the_way_up_holds() {
        let pins = Pins::new([(FileId::ROOT, Pin::Keep), (FileId(20), Pin::Auto)]);
        assert_eq!(pins.resolve([FileId(30), FileId(20), FileId::ROOT]), Pin::Keep);
        assert!(matches!(pins.set(FileId(20), Pin::Online), Write::Pin { pin: Some(Pin::Online), .. }));
        assert_eq!(pins.resolve([FileId(30), FileId(20), FileId::ROOT]), Pin::Online);
        assert_eq!(pins.own(FileId(30)), Pin::Auto);
        assert!(matches!(pins.set(FileId(20), Pin::Auto), Write::Pin { pin: None, .. }));
        assert_eq!(pins.resolve([FileId(30), FileId(20), FileId::ROOT]), Pin::Keep);
        assert_eq!(pins.all(), [(FileId::ROOT, Pin::Keep)]);
    }
}
