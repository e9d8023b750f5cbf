//! Operations that do not come through the mount: the mount hears of them like of another device's commits.

use super::change::Change;
use super::{Volume, VolumeError};
use ouro_core::edit::{Edit, EditError, Edited};
use ouro_core::id::FileId;
use ouro_core::name::Name;
use ouro_core::render::{self, Devices};
use ouro_core::row::Rows;
use ouro_core::state::Kind;
use std::collections::BTreeSet;

/// Places beside which names by rule are looked for; larger changes are told by their listings.
const PLACES_MAX: usize = 64;

type Places = BTreeSet<(FileId, Name)>;

impl Volume {
    /// Carries out one operation as [`Volume::edit`] does, and tells the listeners what became different.
    ///
    /// # Errors
    /// As [`Volume::edit`].
    pub fn edit_outside<R>(
        &self,
        op: impl FnMut(Edit<'_>) -> Result<(R, Edited), EditError>,
    ) -> Result<R, VolumeError> {
        self.edit_telling(op, false)
    }

    /// As [`Volume::edit_outside`], for what brings the times of its directories along.
    ///
    /// # Errors
    /// As [`Volume::edit`].
    pub fn edit_timeless<R>(
        &self,
        op: impl FnMut(Edit<'_>) -> Result<(R, Edited), EditError>,
    ) -> Result<R, VolumeError> {
        self.edit_telling(op, true)
    }

    fn edit_telling<R>(
        &self,
        mut op: impl FnMut(Edit<'_>) -> Result<(R, Edited), EditError>,
        timeless: bool,
    ) -> Result<R, VolumeError> {
        let mut change = Change::default();
        let mut places = Places::new();
        let result = self.edit(|edit| {
            let (rows, devices) = (edit.rows, edit.devices);
            let (result, edited) = op(edit)?;
            let mut failed = None;
            change = Change::of_rows(&edited.changes, |key| {
                rows.get(key).unwrap_or_else(|missing| {
                    failed = Some(missing);
                    None
                })
            });
            if let Some(missing) = failed {
                return Err(missing.into());
            }
            change.files.extend(edited.files.iter().copied());
            change.directories.extend(edited.listings.iter().copied());
            let named = edited.changes.keys().filter(|key| !key.name.is_empty());
            places = named.map(|key| (key.directory, key.name.clone())).take(PLACES_MAX).collect();
            change.bindings.extend(derived_names(rows, devices, &places)?);
            Ok((result, edited))
        })?;
        {
            let view = self.view();
            // A node that is missing now was not needed before either: then no name by rule stood or stands there.
            if let Ok(names) = derived_names(&view, &view, &places) {
                change.bindings.extend(names);
            }
        }
        change.timeless = timeless;
        change.tidy();
        self.announce(&change);
        Ok(result)
    }

    /// Whether a file has changes that stay on this device because its name is ignored.
    pub fn is_staying(&self, file: FileId) -> bool {
        self.state.read().staying.contains(&file)
    }

    /// The names of all files that stay on this device, sorted. Directories do not count.
    pub fn staying_names(&self) -> Vec<Name> {
        let state = self.state.read();
        let deltas = state.staying.iter().filter_map(|file| state.pending.files.get(file));
        let files = deltas.filter(|delta| delta.kind != Kind::Directory);
        let mut names: Vec<Name> =
            files.filter_map(|delta| delta.placements.first()).map(|added| added.place.name.clone()).collect();
        names.sort();
        names
    }
}

/// Names shown by rule beside these: they come and go without a row of their own.
fn derived_names(rows: &dyn Rows, devices: &dyn Devices, places: &Places) -> Result<Vec<(FileId, Name)>, EditError> {
    let mut names = Vec::new();
    for (directory, name) in places {
        for conflict in render::conflicts_at(rows, devices, &[*directory], name)? {
            names.extend(conflict.shown.map(|name| (*directory, name)));
        }
    }
    Ok(names)
}
