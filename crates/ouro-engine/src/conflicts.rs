//! `conflicts` and `resolve`: what concurrent work left at one name, told from the index, and ended by ordinary edits.

use crate::api::{ConflictLine, Failure, FailureKind, KeepWish, Progress, Response, SideLine, Unit};
use crate::boxes::OpenBox;
use crate::diff::written;
use crate::engine::{Engine, OnProgress};
use crate::query::kind_word;
use ouro_core::content::Content;
use ouro_core::edit::{EditError, Keep};
use ouro_core::id::{DeviceNo, FileId, Version};
use ouro_core::name::Name;
use ouro_core::render::{self, COPY_MARK, Contest, Seen, copied_from};
use ouro_core::state::{Attributes, Kind, Place};
use ouro_core::time::rfc3339;
use ouro_local::volume::{Snapshot, VolumeError};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// Names tried for a copy that is kept as a file.
const RENAMES_MAX: usize = 100;

/// One of the things at a name.
pub(crate) struct Side {
    /// The file, or the copy's derived id.
    id: FileId,
    mine: bool,
    /// The name under which it is shown; `None` if it is kept out of sight.
    shown: Option<Name>,
    device: String,
    time: String,
    content: Option<Content>,
}

/// What stands at a name.
pub(crate) struct Dispute {
    directory: Vec<FileId>,
    natural: Name,
    kind: Kind,
    /// What keeps the name comes first.
    pub(crate) sides: Vec<Side>,
    /// The others were written down as files already.
    settled: bool,
}

impl Dispute {
    /// The sides that a wish is about: this device's and the others. Where none is this device's, what keeps the name stands for it.
    fn parted(&self) -> (&Side, Vec<&Side>) {
        let own = self.sides.iter().find(|side| side.mine).unwrap_or(&self.sides[0]);
        (own, self.sides.iter().filter(|side| side.id != own.id).collect())
    }
}

impl Engine {
    pub(crate) fn conflicts(
        &self,
        path: Option<&Path>,
        name: Option<&str>,
        progress: &OnProgress,
    ) -> Result<Response, Failure> {
        let open = self.box_meant(name, path)?;
        let inside = match path {
            Some(path) => self.find(path)?.seen.into_iter().map(|seen| seen.name).collect(),
            None => Vec::new(),
        };
        if !open.sync.index_complete() {
            progress(Progress { what: "fetching the index".to_owned(), done: 0, total: None, unit: Unit::Files });
            self.block_on(open.sync.fetch_index())?;
        }
        let now = open.volume.still();
        let mut conflicts = Vec::new();
        for dispute in self.disputes(&open, &now)? {
            let place = Place { parent: dispute.directory[0], name: dispute.natural.clone() };
            let names = self.names_to(&open, &*now, &place)?;
            if names.starts_with(&inside) {
                conflicts.push(line(&open, &dispute, &names));
            }
        }
        conflicts.sort_by(|a, b| (&a.box_name, &a.path).cmp(&(&b.box_name, &b.path)));
        Ok(Response::Conflicts { conflicts })
    }

    /// Everything in dispute in a state.
    fn disputes(&self, open: &OpenBox, now: &Snapshot) -> Result<Vec<Dispute>, Failure> {
        let suspects = self.ask(open, |_| Ok(render::suspects(now)?))?;
        let mut names: BTreeMap<Vec<FileId>, BTreeSet<Name>> = BTreeMap::new();
        for (directory, name) in suspects.names {
            let members = self.ask(open, |_| Ok(render::members(now, directory)?))?;
            names.entry(members).or_default().insert(name);
        }
        let mut unions: BTreeSet<Vec<FileId>> = BTreeSet::new();
        for directory in suspects.unions {
            let members = self.ask(open, |_| Ok(render::members(now, directory)?))?;
            self.unions_below(open, now, members, &mut unions)?;
        }
        for members in unions {
            let found = self.ask(open, |_| Ok(render::conflicts(now, now, &members)?))?;
            names.entry(members).or_default().extend(found.into_iter().map(|conflict| conflict.natural));
        }
        let mut disputes = Vec::new();
        for (directory, names) in names.into_iter().filter(|(directory, _)| !directory.is_empty()) {
            for name in names {
                let contest = self.ask(open, |_| Ok(render::contest(now, now, &directory, &name)?))?;
                disputes.extend(contest.map(|contest| dispute_of(open, now, &directory, contest)));
            }
        }
        let mut settled: BTreeSet<(FileId, Name)> = BTreeSet::new();
        for (directory, name, _) in suspects.copies {
            if let Some((natural, ..)) = copied_from(&name)
                && settled.insert((directory, natural.clone()))
            {
                let members = self.ask(open, |_| Ok(render::members(now, directory)?))?;
                disputes.extend(self.settled(open, now, &members, &natural)?);
            }
        }
        Ok(disputes)
    }

    /// A union and all unions in it.
    fn unions_below(
        &self,
        open: &OpenBox,
        now: &Snapshot,
        union: Vec<FileId>,
        found: &mut BTreeSet<Vec<FileId>>,
    ) -> Result<(), Failure> {
        if union.len() < 2 || !found.insert(union.clone()) {
            return Ok(());
        }
        for seen in self.listed(open, now, &union)? {
            self.unions_below(open, now, seen.members().to_vec(), found)?;
        }
        Ok(())
    }

    fn listed(&self, open: &OpenBox, now: &Snapshot, directory: &[FileId]) -> Result<Vec<Seen>, Failure> {
        Ok(self.ask(open, |_| Ok(render::list(now, now, directory, None, usize::MAX)?))?.entries)
    }

    /// What stands at names that say that it is a copy of what has this name, or of what has a longer one: by a range scan for each dot in the
    /// name, since the mark stands before one of them or at the end.
    fn beside(
        &self,
        open: &OpenBox,
        now: &Snapshot,
        directory: &[FileId],
        natural: &Name,
    ) -> Result<Vec<Seen>, Failure> {
        const AT_ONCE: usize = 16;
        let bytes = natural.as_bytes();
        let ends = (1..=bytes.len()).filter(|end| *end == bytes.len() || bytes[*end] == b'.');
        let mut found = Vec::new();
        for end in ends {
            let prefix = [&bytes[..end], COPY_MARK.as_bytes()].concat();
            let mut after = Name::new(&prefix).ok();
            while let Some(from) = after {
                let page = self.ask(open, |_| Ok(render::list(now, now, directory, Some(&from), AT_ONCE)?))?;
                let is_beside = |seen: &Seen| seen.group.as_bytes().starts_with(&prefix);
                let all = page.entries.iter().all(is_beside);
                found.extend(page.entries.into_iter().filter(is_beside));
                after = page.next.filter(|_| all);
            }
        }
        Ok(found)
    }

    /// A name beside which conflict copies stand that were written down as files, each still recognised by its id and name.
    fn settled(
        &self,
        open: &OpenBox,
        now: &Snapshot,
        directory: &[FileId],
        natural: &Name,
    ) -> Result<Option<Dispute>, Failure> {
        let look = |name: &Name| self.ask(open, |_| Ok(render::lookup(now, now, directory, name)?));
        let Some(winner) = look(natural)?.filter(|seen| seen.kind() != Kind::Directory) else { return Ok(None) };
        let version = winner.file().contents.last().map_or(Version::PENDING, |c| c.version);
        let mut sides = vec![side(open, now, &winner, version)];
        let own = open.config.shown();
        for seen in self.beside(open, now, directory, natural)? {
            let is_real = matches!(seen.what, render::What::File { .. }) && seen.id.is_derived();
            let told = copied_from(&seen.name).filter(|(of, ..)| is_real && of == natural);
            let Some((_, device, time)) = told else { continue };
            sides.push(Side {
                id: seen.id,
                mine: device == own,
                shown: Some(seen.name.clone()),
                device,
                time: time.replace('.', ":"),
                content: seen.content().cloned(),
            });
        }
        let dispute = Dispute {
            directory: directory.to_vec(),
            natural: natural.clone(),
            kind: winner.kind(),
            sides,
            settled: true,
        };
        Ok(Some(dispute).filter(|dispute| dispute.sides.len() > 1))
    }

    pub(crate) fn resolve(&self, path: &Path, keep: KeepWish) -> Result<Response, Failure> {
        let way = self.walk(path)?;
        let open = Arc::clone(&way.open);
        let nothing =
            || Failure::needs_user(format!("{} is in no conflict: `ourobox conflicts` lists them", path.display()));
        let (Some(name), Some(parent)) = (way.names.last(), way.parent().filter(|p| !p.is_empty())) else {
            return Err(nothing());
        };
        let turn = self.block_on(open.sync.turn());
        let mut dispute = self.dispute_at(&open, &parent, name)?.ok_or_else(nothing)?;
        if dispute.sides.iter().any(|side| matches!(side.content, Some(Content::Pending { .. }))) {
            let published = self.block_on(async {
                match open.sync.commit_as(&turn, String::new()).await? {
                    Some(taken) => taken.published,
                    None => Ok(()),
                }
            });
            published.map_err(|error| {
                let failure = Failure::from(error);
                let why = "one side was written here and is not on the remote yet: resolve it when that can be reached";
                Failure::new(failure.kind, format!("{why}: {}", failure.message))
            })?;
            dispute = self.dispute_at(&open, &parent, name)?.ok_or_else(nothing)?;
        }
        let outcome = match keep {
            KeepWish::Both => self.keep_both(&open, &dispute),
            KeepWish::Mine => self.keep_one(&open, &dispute, dispute.parted().0),
            KeepWish::Theirs => match dispute.parted().1.as_slice() {
                [only] => self.keep_one(&open, &dispute, only),
                others => Err(Failure::new(
                    FailureKind::Conflict,
                    format!(
                        "{} has {} other versions: keep both, then remove those you do not want",
                        path.display(),
                        others.len()
                    ),
                )),
            },
        };
        drop(turn);
        open.sync.hurry();
        outcome?;
        Ok(Response::Resolved { path: path.to_owned(), keep })
    }

    /// The dispute about a name, or of which the thing at that name is a part.
    fn dispute_at(&self, open: &OpenBox, directory: &[FileId], name: &Name) -> Result<Option<Dispute>, Failure> {
        let now = open.volume.still();
        let now = &*now;
        let mut naturals = vec![name.clone()];
        if let Some(seen) = self.ask(open, |_| Ok(render::lookup(now, now, directory, name)?))? {
            naturals.push(seen.group);
        }
        for natural in &naturals {
            let contest = self.ask(open, |_| Ok(render::contest(now, now, directory, natural)?))?;
            if let Some(contest) = contest {
                return Ok(Some(dispute_of(open, now, directory, contest)));
            }
        }
        let of_copy = copied_from(name).map(|(natural, ..)| natural);
        self.settled(open, now, directory, of_copy.as_ref().unwrap_or(name))
    }

    /// The dispute about a natural name, whether or not it is written down already.
    pub(crate) fn dispute_in(
        &self,
        open: &OpenBox,
        now: &Snapshot,
        directory: &[FileId],
        natural: &Name,
    ) -> Result<Option<Dispute>, Failure> {
        match self.ask(open, |_| Ok(render::contest(now, now, directory, natural)?))? {
            Some(contest) => Ok(Some(dispute_of(open, now, directory, contest))),
            None => self.settled(open, now, directory, natural),
        }
    }

    fn keep_one(&self, open: &OpenBox, dispute: &Dispute, kept: &Side) -> Result<(), Failure> {
        let Dispute { directory, natural, .. } = dispute;
        if !dispute.settled {
            let keep = Keep::Only(kept.id);
            return self
                .ask(open, |volume| volume.edit_outside(|edit| Ok(((), edit.resolve(directory, natural, keep)?))))
                .map_err(|failure| explain(failure, dispute));
        }
        let now_ns = open.volume.now_ns();
        let live = |name: &Name| self.live(open, directory, name);
        if kept.id != dispute.sides[0].id
            && let (Some(content), Some(there)) = (&kept.content, live(natural)?)
        {
            let attributes = Attributes { mtime_ns: now_ns, ctime_ns: now_ns, ..there.attributes() };
            self.ask(open, |volume| {
                volume.edit_outside(|edit| edit.write(&there, directory, content.clone(), attributes.clone()))
            })?;
        }
        for copy in dispute.sides.iter().skip(1).filter_map(|side| side.shown.as_ref()) {
            if let Some(there) = live(copy)? {
                self.ask(open, |volume| volume.edit_outside(|edit| Ok(((), edit.remove(&there, directory)?))))?;
            }
        }
        Ok(())
    }

    fn keep_both(&self, open: &OpenBox, dispute: &Dispute) -> Result<(), Failure> {
        let Dispute { directory, natural, .. } = dispute;
        if !dispute.settled {
            return self
                .ask(open, |volume| volume.edit_outside(|edit| Ok(((), edit.resolve(directory, natural, Keep::All)?))))
                .map_err(|failure| explain(failure, dispute));
        }
        // Under a name that does not say so it is no conflict copy any more, but a file like any other.
        for copy in dispute.sides.iter().skip(1).filter_map(|side| side.shown.as_ref()) {
            let Some(there) = self.live(open, directory, copy)? else { continue };
            for number in 1..=RENAMES_MAX {
                let Some(name) = plain_name(copy, number) else { break };
                if self.live(open, directory, &name)?.is_none() {
                    let rename = |volume: &ouro_local::volume::Volume| {
                        volume.edit_outside(|edit| edit.rename(&there, directory, directory, &name, None))
                    };
                    self.ask(open, rename)?;
                    break;
                }
            }
        }
        Ok(())
    }
}

/// What a conflict copy is called once it is kept as a file: `name (from DEVICE TIME).ext`, with a number if that is taken.
fn plain_name(copy: &Name, number: usize) -> Option<Name> {
    const KEPT: &str = " (from ";
    let shown = std::str::from_utf8(copy.as_bytes()).ok()?;
    let at = shown.rfind(COPY_MARK)?;
    let close = at + shown[at..].find(')')? + 1;
    let number = if number == 1 { String::new() } else { format!(" {number}") };
    let name = [&shown[..at], KEPT, &shown[at + COPY_MARK.len()..close], &number, &shown[close..]].concat();
    Name::new(name.as_bytes()).ok()
}

/// Says what to do about what cannot be resolved as wished.
fn explain(failure: Failure, dispute: &Dispute) -> Failure {
    let said = |error: EditError| failure.message == VolumeError::Edit(error).to_string();
    if said(EditError::Invalid) {
        return Failure::needs_user(format!(
            "no copy may stand beside {:?}, whose programs would trip over it: keep mine or theirs",
            dispute.natural.display()
        ));
    }
    if said(EditError::IsDirectory) {
        return Failure::needs_user(format!(
            "a directory has the name {:?}: keep both, then rename one of them",
            dispute.natural.display()
        ));
    }
    failure
}

pub(crate) fn dispute_of(open: &OpenBox, now: &Snapshot, directory: &[FileId], contest: Contest) -> Dispute {
    let Contest { winner, version, losers } = contest;
    let mut sides = vec![side(open, now, &winner, version)];
    for loser in losers {
        sides.push(Side {
            id: loser.id,
            mine: is_own(open, loser.version),
            shown: loser.shown,
            device: device(open, now, loser.version),
            time: time(loser.version),
            content: loser.content,
        });
    }
    let (natural, kind) = (winner.group.clone(), winner.kind());
    Dispute { directory: directory.to_vec(), natural, kind, sides, settled: false }
}

fn side(open: &OpenBox, now: &Snapshot, seen: &Seen, version: Version) -> Side {
    Side {
        id: seen.id,
        mine: is_own(open, version),
        shown: Some(seen.name.clone()),
        device: device(open, now, version),
        time: time(version),
        content: seen.content().cloned(),
    }
}

fn is_own(open: &OpenBox, version: Version) -> bool {
    version.is_pending() || version.device == open.volume.device()
}

fn device(open: &OpenBox, now: &Snapshot, version: Version) -> String {
    use ouro_core::render::Devices;
    let number: DeviceNo = if version.is_pending() { open.volume.device() } else { version.device };
    now.name(number)
}

fn time(version: Version) -> String {
    if version.is_pending() { "not synced yet".to_owned() } else { rfc3339(version.hlc.millis()) }
}

pub(crate) fn line(open: &OpenBox, dispute: &Dispute, names: &[Name]) -> ConflictLine {
    let beside = |name: &Name| {
        let mut path = names.to_vec();
        path.pop();
        path.push(name.clone());
        written(&path)
    };
    let (own, _) = dispute.parted();
    ConflictLine {
        box_name: open.name.clone(),
        path: written(names),
        kind: kind_word(dispute.kind).to_owned(),
        settled: dispute.settled,
        sides: dispute
            .sides
            .iter()
            .map(|side| SideLine {
                mine: side.id == own.id,
                device: side.device.clone(),
                time: side.time.clone(),
                size: side.content.as_ref().map(Content::size),
                path: side.shown.as_ref().map(beside),
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_that_is_kept_has_a_name_that_no_rule_gives() {
        let copy = Name::new(b"a b (conflict from desk 2026-11-22 14.30)-2.txt").expect("a name");
        let kept = plain_name(&copy, 1).expect("it has the mark");
        assert_eq!(kept.display(), "a b (from desk 2026-11-22 14.30)-2.txt");
        assert_eq!(plain_name(&copy, 3).expect("a name").display(), "a b (from desk 2026-11-22 14.30) 3-2.txt");
        assert_eq!(copied_from(&kept), None);
    }
}
