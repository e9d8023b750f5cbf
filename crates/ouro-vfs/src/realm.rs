//! The views in a mount, and how their files are numbered.
//!
//! A realm is one tree of files: the live state of a box, the state of a box at a commit, or one of the virtual directories that hold them
//! together. The file ids of a box mounted alone are its inode numbers; in every other realm a file's number is a keyed hash of realm and id.

use crate::renumber::Moved;
use crate::snapshots::Past;
use crate::table::ViewNo;
use crate::types::NodeNo;
use ouro_core::id::FileId;
use std::sync::Arc;

/// One tree of files.
#[derive(Clone)]
pub(crate) enum Realm {
    /// The live state of a box.
    Live(u32),
    /// The root over several boxes.
    Top,
    /// `.snapshots` of a box: file 0 is the directory, others are its symlinks.
    Shelf(u32),
    /// A box at a commit.
    Past(Arc<Past>),
}

/// Views up to here are live boxes.
pub(crate) const BOXES_MAX: u32 = 1 << 16;
const TOP: u32 = BOXES_MAX;
const SHELF_FIRST: u32 = 2 * BOXES_MAX;
/// Views from here on are snapshots, numbered as they are looked up.
pub(crate) const PAST_FIRST: u32 = 4 * BOXES_MAX;

impl Realm {
    /// The realm's number in the table.
    pub(crate) fn view(&self) -> ViewNo {
        ViewNo(match self {
            Realm::Live(volume) => *volume,
            Realm::Top => TOP,
            Realm::Shelf(volume) => SHELF_FIRST + volume,
            Realm::Past(past) => past.view.0,
        })
    }

    /// The realm of a number; `None` for snapshots, which are looked up elsewhere.
    pub(crate) fn of_view(view: ViewNo) -> Option<Realm> {
        match view.0 {
            volume if volume < BOXES_MAX => Some(Realm::Live(volume)),
            TOP => Some(Realm::Top),
            shelf if (SHELF_FIRST..PAST_FIRST).contains(&shelf) => Some(Realm::Shelf(shelf - SHELF_FIRST)),
            _ => None,
        }
    }

    /// Whether two are the same tree.
    pub(crate) fn is(&self, other: &Realm) -> bool {
        self.view() == other.view()
    }
}

/// Numbers files that are not numbered by their id.
pub(crate) struct Numbering {
    pub(crate) alone: bool,
    pub(crate) key: [u8; 32],
    /// What tells boxes apart from mount to mount: their names.
    pub(crate) boxes: Vec<Vec<u8>>,
    pub(crate) moved: Moved,
}

impl Numbering {
    /// The inode number of a file.
    pub(crate) fn node(&self, realm: &Realm, file: FileId) -> NodeNo {
        match realm {
            Realm::Live(volume) => match self.moved.node(*volume, file) {
                Some(node) => node,
                None if self.alone => NodeNo(file.0),
                None => self.hash(b"live", *volume, &[], file),
            },
            Realm::Top => NodeNo::ROOT,
            Realm::Shelf(volume) => self.hash(b"shelf", *volume, &[], file),
            Realm::Past(past) => self.hash(b"past", past.volume, &past.identity(), file),
        }
    }

    /// The node of a file whose id was another file's before, which keeps its node.
    pub(crate) fn displaced(&self, volume: u32, file: FileId) -> NodeNo {
        self.hash(b"displaced", volume, &[], file)
    }

    fn hash(&self, what: &[u8], volume: u32, more: &[u8], file: FileId) -> NodeNo {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        let name = self.boxes.get(volume as usize).map_or(&[][..], Vec::as_slice);
        for part in [what, name, more] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        hasher.update(&file.0.to_le_bytes());
        let mut number = [0; 8];
        hasher.finalize_xof().fill(&mut number);
        NodeNo(u64::from_le_bytes(number) | 1 << 63)
    }
}

/// The id of a shelf's directory and of symlinks on it.
pub(crate) const SHELF_ITSELF: FileId = FileId(0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_file_ids_for_one_box_and_distinct_hashes_for_everything_else() {
        let alone = Numbering { alone: true, key: [7; 32], boxes: vec![b"a".to_vec()], moved: Moved::default() };
        assert_eq!(alone.node(&Realm::Live(0), FileId(42)), NodeNo(42));
        let many = Numbering {
            alone: false,
            key: [7; 32],
            boxes: vec![b"a".to_vec(), b"b".to_vec()],
            moved: Moved::default(),
        };
        let numbers = [
            many.node(&Realm::Live(0), FileId(42)),
            many.node(&Realm::Live(1), FileId(42)),
            many.node(&Realm::Live(0), FileId(43)),
            many.node(&Realm::Shelf(0), SHELF_ITSELF),
        ];
        for (i, number) in numbers.iter().enumerate() {
            assert_eq!(number.0 >> 63, 1);
            assert!(!numbers[..i].contains(number));
        }
        let reordered = Numbering {
            alone: false,
            key: [7; 32],
            boxes: vec![b"b".to_vec(), b"a".to_vec()],
            moved: Moved::default(),
        };
        assert_eq!(
            reordered.node(&Realm::Live(1), FileId(42)),
            numbers[0],
            "a box keeps its numbers wherever it is named"
        );
    }
}
