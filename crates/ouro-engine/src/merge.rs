//! `merge`: what another line has that this box has not, taken in by the rules that hold between devices; first shown, if that is wished.

use crate::api::{ConflictLine, Failure, Merged, Response};
use crate::boxes::OpenBox;
use crate::branch::MAIN;
use crate::conflicts::{Dispute, dispute_of, line};
use crate::engine::Engine;
use crate::when::ids;
use ouro_core::compare;
use ouro_core::id::{FileId, Line};
use ouro_core::name::Name;
use ouro_core::render;
use ouro_core::row::Rows;
use ouro_core::state::Place;
use ouro_local::volume::{Commit, Snapshot};
use std::collections::BTreeSet;
use std::sync::Arc;

impl Engine {
    /// Brings the line of a branch (or main) into a box, or only says what that would do.
    pub(crate) fn merge(&self, name: &str, preview: bool, box_name: Option<&str>) -> Result<Response, Failure> {
        let open = self.box_meant(box_name, None)?;
        let line = self.line_meant(&open, name)?;
        let here = self.boxes.lock().iter().find(|b| b.is_sibling_of(&open) && b.sync.line() == line).cloned();
        if let Some(here) = here {
            // What was done there is what is merged, whether or not it was committed by itself yet.
            self.commit_now(&here, "nothing was merged")?;
        }
        self.block_on(open.sync.pull())?;
        let mut merged = Merged { box_name: open.name.clone(), branch: name.to_owned(), preview, ..Merged::default() };
        if preview {
            let commits = self.block_on(open.sync.read_line(line))?;
            self.foresee(&open, &commits, line, &mut merged)?;
            return Ok(Response::Merged(merged));
        }
        self.commit_now(&open, "nothing was merged")?;
        merged.before = self.newest(&open);
        let turn = self.block_on(open.sync.turn());
        let commits = self.block_on(open.sync.read_line(line))?;
        // It also brings every index node here that the merge reads, so that this happens at once.
        self.foresee(&open, &commits, line, &mut merged)?;
        if !commits.is_empty() && merged.commits == 0 && merged.changes.is_empty() {
            // A branch on which nothing was done yet.
            return Ok(Response::Merged(merged));
        }
        let taken = self.block_on(open.sync.merge(&turn, commits, format!("\nmerge {name}")))?;
        drop(turn);
        open.sync.hurry();
        if let Some(taken) = taken {
            merged.commit = Some(ids(&open, taken.device, taken.seq).0);
            merged.waiting = taken.published.err().map(|error| Failure::from(error).message);
        }
        Ok(Response::Merged(merged))
    }

    fn line_meant(&self, open: &OpenBox, name: &str) -> Result<Line, Failure> {
        let repo = open.sync.repo();
        let devices = self.block_on(repo.devices())?;
        let line = if name == MAIN { Line::MAIN } else { repo.line_named(name) };
        if line == open.sync.line() {
            return Err(Failure::needs_user(format!(
                "box {:?} is {name:?} itself: say with --box into which box it is to be merged",
                open.name
            )));
        }
        if !devices.iter().any(|device| repo.line_of(device) == line) {
            return Err(Failure::needs_user(format!("there is no branch {name:?}: `ourobox branch` lists them")));
        }
        Ok(line)
    }

    /// What taking these commits in changes.
    fn foresee(
        &self,
        open: &Arc<OpenBox>,
        commits: &[Arc<Commit>],
        line: Line,
        merged: &mut Merged,
    ) -> Result<(), Failure> {
        let of_line = |commit: &&Arc<Commit>| open.sync.repo().line(commit.device) == line;
        merged.commits = commits.iter().filter(of_line).filter(|c| !c.delta.files.is_empty()).count() as u64;
        let before = open.volume.still();
        let after = self.ask(open, |_| open.volume.imagine(commits))?;
        merged.changes = self.changes_between(open, &before, &after, &[])?;
        merged.conflicts = self.new_conflicts(open, &before, &after)?;
        Ok(())
    }

    /// What is in dispute in a state and was not, or not by as many, in the one before.
    fn new_conflicts(&self, open: &OpenBox, before: &Snapshot, after: &Snapshot) -> Result<Vec<ConflictLine>, Failure> {
        let mut conflicts = Vec::new();
        for (directory, name) in self.names_apart(open, before, after)? {
            let dispute = |rows: &Snapshot| -> Result<Option<Dispute>, Failure> {
                let contest = self.ask(open, |_| Ok(render::contest(rows, rows, &directory, &name)?))?;
                Ok(contest.map(|contest| dispute_of(open, rows, &directory, contest)))
            };
            let Some(found) = dispute(after)? else { continue };
            if dispute(before)?.is_some_and(|was| was.sides.len() >= found.sides.len()) {
                continue;
            }
            let names = self.names_to(open, after, &Place { parent: directory[0], name: name.clone() })?;
            conflicts.push(line(open, &found, &names));
        }
        conflicts.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(conflicts)
    }

    /// The names at which two states differ, with the directories in which they stand in the later one.
    fn names_apart(
        &self,
        open: &OpenBox,
        before: &Snapshot,
        after: &Snapshot,
    ) -> Result<BTreeSet<(Vec<FileId>, Name)>, Failure> {
        let places = self.places_apart(open, before, after)?;
        let mut names = BTreeSet::new();
        for (directory, name) in places {
            let members = self.ask(open, |_| Ok(render::members(after, directory)?))?;
            if !members.is_empty() {
                names.insert((members, name));
            }
        }
        Ok(names)
    }

    /// The places at which two states differ.
    pub(crate) fn places_apart(
        &self,
        open: &OpenBox,
        before: &Snapshot,
        after: &Snapshot,
    ) -> Result<BTreeSet<(FileId, Name)>, Failure> {
        let mut places: BTreeSet<(FileId, Name)> = BTreeSet::new();
        for key in self.ask(open, |_| before.keys_apart(after))? {
            // What only went from the changes into the tree below is the same.
            if self.ask(open, |_| Ok(before.get(&key)? == after.get(&key)?))? {
                continue;
            }
            if key.directory != FileId::HOMELESS && !key.name.is_empty() {
                places.insert((key.directory, key.name));
            } else if key.directory == FileId::HOMELESS {
                // It has several names, and its record stands at none of them.
                for state in [before, after] {
                    let side = self.ask(open, |_| Ok(compare::standing(state, key.file)?))?;
                    places
                        .extend(side.into_iter().flat_map(|side| side.places).map(|place| (place.parent, place.name)));
                }
            }
        }
        Ok(places)
    }
}
