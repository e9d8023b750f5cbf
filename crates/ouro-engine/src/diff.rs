//! What is different between two states, from their deltas: nothing is walked.

use crate::api::{ChangeLine, Deed, Failure, Response};
use crate::boxes::OpenBox;
use crate::engine::Engine;
use crate::query::kind_word;
use ouro_core::compare::{self, Difference, Side};
use ouro_core::content::Content;
use ouro_core::name::Name;
use ouro_core::render;
use ouro_core::row::Rows;
use ouro_core::state::Place;
use ouro_local::volume::Snapshot;
use std::path::Path;

impl Engine {
    pub(crate) fn diff(
        &self,
        from: &str,
        to: &str,
        path: Option<&Path>,
        name: Option<&str>,
    ) -> Result<Response, Failure> {
        let open = self.box_meant(name, path)?;
        let before = self.past_or_now(&open, from, None)?;
        let after = self.past_or_now(&open, to, Some(&before))?;
        let inside = match path {
            Some(path) => self.walk(path)?.names,
            None => Vec::new(),
        };
        Ok(Response::Diff { changes: self.changes_between(&open, &before, &after, &inside)? })
    }

    /// What is different between two states at or below a path, in order of paths.
    pub(crate) fn changes_between(
        &self,
        open: &OpenBox,
        before: &Snapshot,
        after: &Snapshot,
        inside: &[Name],
    ) -> Result<Vec<ChangeLine>, Failure> {
        let mut told = Vec::new();
        for difference in self.differences(open, before, after)? {
            let line = self.change_line(open, before, after, &difference, inside)?;
            told.extend(line.map(|line| (line, difference)));
        }
        told.sort_by(|(a, _), (b, _)| (&a.path, &a.what).cmp(&(&b.path, &b.what)));
        let mut changes: Vec<(ChangeLine, Difference)> = Vec::new();
        for (line, difference) in told {
            match changes.last_mut() {
                Some((last, gone)) if is_succeeded(last, gone, &line) => join(last, gone, &line, difference),
                _ => changes.push((line, difference)),
            }
        }
        Ok(changes.into_iter().map(|(line, _)| line).filter(|line| !line.what.is_empty()).collect())
    }

    /// The files that are seen differently in two states.
    pub(crate) fn differences(
        &self,
        open: &OpenBox,
        before: &Snapshot,
        after: &Snapshot,
    ) -> Result<Vec<Difference>, Failure> {
        let keys = self.ask(open, |_| before.keys_apart(after))?;
        self.ask(open, |_| Ok(compare::compare(before, after, keys.iter())?))
    }

    fn change_line(
        &self,
        open: &OpenBox,
        before: &Snapshot,
        after: &Snapshot,
        difference: &Difference,
        inside: &[Name],
    ) -> Result<Option<ChangeLine>, Failure> {
        let old = self.path_of(open, before, difference.before.as_ref())?;
        let new = self.path_of(open, after, difference.after.as_ref())?;
        if ![&old, &new].into_iter().flatten().any(|path| path.starts_with(inside)) {
            return Ok(None);
        }
        let renamed = difference.is_renamed() && old != new;
        let mut what = Vec::new();
        let mut note = |is: bool, deed: Deed| what.extend(is.then_some(deed));
        note(difference.before.is_none(), Deed::Created);
        note(difference.after.is_none(), Deed::Deleted);
        note(renamed, Deed::Renamed);
        note(difference.is_renamed() && !renamed, Deed::Linked);
        note(difference.is_edited(), Deed::Edited);
        note(difference.is_attributes(), Deed::Attributes);
        let size = |side: &Option<Side>| side.as_ref().and_then(|s| s.content.as_ref()).map(Content::size);
        let path = new.as_ref().or(old.as_ref()).map(|names| written(names)).unwrap_or_default();
        Ok(Some(ChangeLine {
            what,
            path,
            from: old.filter(|_| renamed).map(|names| written(&names)),
            kind: kind_word(difference.kind).to_owned(),
            size: size(&difference.after),
            size_before: size(&difference.before),
        }))
    }

    fn path_of(&self, open: &OpenBox, rows: &Snapshot, side: Option<&Side>) -> Result<Option<Vec<Name>>, Failure> {
        let Some(place) = side.and_then(|side| side.places.first()) else { return Ok(side.map(|_| Vec::new())) };
        self.names_to(open, rows, place).map(Some)
    }

    /// The path of a place in a state.
    pub(crate) fn names_to(&self, open: &OpenBox, rows: &dyn Rows, place: &Place) -> Result<Vec<Name>, Failure> {
        self.ask(open, |_| Ok(render::path(rows, place)?))
    }
}

/// Whether a line tells of the other half of what was one thing at one path: a file that went, and another of its kind in its place.
fn is_succeeded(first: &ChangeLine, difference: &Difference, second: &ChangeLine) -> bool {
    let half = |line: &ChangeLine| line.what == [Deed::Created] || line.what == [Deed::Deleted];
    let halves = half(first) && half(second) && first.what != second.what;
    halves
        && first.path == second.path
        && first.kind == second.kind
        && difference.before.is_none() != difference.after.is_none()
}

/// Makes one line of two halves; it says nothing if nothing is different.
fn join(first: &mut ChangeLine, one: &mut Difference, second: &ChangeLine, other: Difference) {
    one.before = one.before.take().or(other.before);
    one.after = one.after.take().or(other.after);
    first.what.clear();
    if one.is_edited() {
        first.what.push(Deed::Edited);
    }
    if one.is_attributes() {
        first.what.push(Deed::Attributes);
    }
    first.size = first.size.or(second.size);
    first.size_before = first.size_before.or(second.size_before);
}

/// A path as it is written in answers; the root of a box is `/`.
pub(crate) fn written(names: &[Name]) -> String {
    if names.is_empty() {
        return "/".to_owned();
    }
    names.iter().map(Name::display).collect::<Vec<_>>().join("/")
}
