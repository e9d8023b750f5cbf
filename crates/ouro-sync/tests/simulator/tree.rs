//! What is seen on a device.

use ouro_core::id::FileId;
use ouro_core::name::Name;
use ouro_core::render::{self, Seen};
use ouro_core::row::{Missing, Rows};
use ouro_core::state::{Kind, Place};
use ouro_local::volume::{Volume, VolumeError};
use std::collections::BTreeMap;

/// What stands at a path, and the union it stands in.
#[derive(Clone, Debug)]
pub(crate) struct Spot {
    pub(crate) seen: Seen,
    pub(crate) parent: Vec<FileId>,
}

impl Spot {
    /// Where it is, for the volume.
    pub(crate) fn place(&self) -> Place {
        Place { parent: self.parent[0], name: self.seen.name.clone() }
    }

    pub(crate) fn is_directory(&self) -> bool {
        self.seen.kind() == Kind::Directory
    }
}

/// By path; the root's is empty.
pub(crate) type Spots = BTreeMap<String, Spot>;

/// Every path with what is seen there, by listings.
pub(crate) fn spots(volume: &Volume) -> Result<Spots, Missing> {
    let view = volume.view();
    spots_of(&view, &view)
}

/// The same of any state.
pub(crate) fn spots_of(rows: &dyn Rows, devices: &dyn render::Devices) -> Result<Spots, Missing> {
    let root = Seen::root(rows)?;
    let mut todo = vec![(String::new(), root.members().to_vec())];
    let mut spots = BTreeMap::from([(String::new(), Spot { seen: root, parent: vec![] })]);
    while let Some((path, union)) = todo.pop() {
        let mut after: Option<Name> = None;
        loop {
            let page = render::list(rows, devices, &union, after.as_ref(), 8)?;
            for seen in page.entries {
                let path = format!("{path}/{}", seen.name.display());
                if !seen.members().is_empty() {
                    todo.push((path.clone(), seen.members().to_vec()));
                }
                let spot = Spot { seen, parent: union.clone() };
                assert!(spots.insert(path.clone(), spot).is_none(), "{path} is listed twice");
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
    Ok(spots)
}

/// The bytes at a spot; what is missing for that otherwise.
pub(crate) fn bytes_at(volume: &Volume, spot: &Spot) -> Result<Vec<u8>, VolumeError> {
    let Some(content) = spot.seen.content() else { return Ok(Vec::new()) };
    let size = volume.view().hot(spot.seen.id).map_or(content.size(), |hot| hot.size);
    let bytes = volume.read(spot.seen.id, content, 0, 1 << 24)?;
    assert_eq!(bytes.len() as u64, size, "all of {:?} is read", spot.seen.name);
    Ok(bytes)
}
