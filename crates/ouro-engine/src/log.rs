//! `log`: what was done, by whom and when; of a box, or of one path through its renames.

use crate::api::{ChangeLine, CommitLine, Deed, Failure, FailureKind, Response};
use crate::boxes::OpenBox;
use crate::diff::written;
use crate::engine::Engine;
use crate::paths::Way;
use crate::query::kind_word;
use crate::when::ids;
use ouro_core::deed::{Deeds, deeds};
use ouro_core::delta::{Delta, FileDelta};
use ouro_core::id::{DeviceNo, FileId};
use ouro_core::name::Name;
use ouro_core::state::{Kind, Place};
use ouro_core::time::rfc3339;
use ouro_core::when::{remark, snapshot_name};
use ouro_local::volume::{LogWalk, Logged, Snapshot};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Changes told of one commit; its figures count all.
const CHANGES_MAX: usize = 100;
/// Of commits of more files than this only their number is told, unless a path is asked for: decoding them takes seconds.
const FILES_DECODED_MAX: usize = 20_000;

/// Of what the log is told.
enum Subject {
    /// Of everything.
    All,
    /// Of one file, backwards through its renames. Where it was made, that of the file which had its name before goes on: programs save by
    /// writing a new file over the old one, and deleted files are restored as new ones.
    File(FileId),
    /// Of what was at a name of these directories, which is free in the time that is looked at.
    Name(Vec<FileId>, Name),
    /// Of everything in a directory, as far as its directories are where they are now.
    Below(BTreeMap<FileId, bool>),
}

impl Engine {
    pub(crate) fn log(&self, path: Option<&Path>, name: Option<&str>, limit: usize) -> Result<Response, Failure> {
        let (open, subject) = match path {
            Some(path) => {
                let way = self.walk(path)?;
                let subject = subject_of(&way, path)?;
                (way.open, subject)
            }
            None => (self.box_meant(name, None)?, Subject::All),
        };
        let mut telling =
            Telling { engine: self, now: open.volume.still(), names: open.volume.device_names(), open, subject };
        let mut walk = LogWalk::new(&telling.open.volume.heads());
        let mut commits = Vec::new();
        let mut note = None;
        while commits.len() < limit {
            match self.step(&telling.open, &mut walk) {
                Ok(Some(logged)) if logged.is_announcement() => {}
                Ok(Some(logged)) => commits.extend(telling.line(&logged)?),
                Ok(None) => break,
                Err(failure) if matches!(failure.kind, FailureKind::Offline | FailureKind::Retry) => {
                    note = Some(format!("older commits are on the remote only: {}", failure.message));
                    break;
                }
                Err(failure) => return Err(failure),
            }
        }
        if commits.is_empty()
            && note.is_none()
            && let Subject::Name(..) = telling.subject
            && let Some(path) = path
        {
            return Err(Failure::needs_user(format!(
                "{} does not exist, and was not deleted from there either",
                path.display()
            )));
        }
        Ok(Response::Log { commits, note })
    }
}

fn subject_of(way: &Way, path: &Path) -> Result<Subject, Failure> {
    if let Some(seen) = way.entry() {
        return Ok(match seen.kind() {
            Kind::Directory => Subject::Below(seen.members().iter().map(|d| (*d, true)).collect()),
            _ => Subject::File(seen.id),
        });
    }
    match (way.names.last(), way.parent()) {
        (None, _) => Ok(Subject::All),
        (Some(name), Some(parent)) if !parent.is_empty() => Ok(Subject::Name(parent, name.clone())),
        _ => Err(Failure::needs_user(format!(
            "{} does not exist, nor does its directory: `ourobox log` of the nearest directory shows what was deleted",
            path.display()
        ))),
    }
}

/// A log being told.
struct Telling<'a> {
    engine: &'a Engine,
    open: Arc<OpenBox>,
    /// What is seen now: directories are called as they are called now.
    now: Arc<Snapshot>,
    names: BTreeMap<DeviceNo, String>,
    subject: Subject,
}

impl Telling<'_> {
    /// The line of a commit; `None` if it has nothing to do with the subject.
    fn line(&mut self, logged: &Logged) -> Result<Option<CommitLine>, Failure> {
        let mut files = logged.files()? as u64;
        let everything = matches!(self.subject, Subject::All);
        let decode = files <= FILES_DECODED_MAX as u64 || !everything;
        let (mut told, mut forgotten) = (Vec::new(), 0);
        if decode {
            let mut delta = logged.commit()?.delta;
            delta.files.retain(|file| !deeds(file).forgotten);
            forgotten = files - delta.files.len() as u64;
            files -= forgotten;
            told = self.told(&delta)?;
        }
        if told.is_empty() && !everything {
            return Ok(None);
        }
        if !everything {
            forgotten = 0;
        }
        let bytes = told.iter().filter_map(|(_, deeds)| deeds.bytes).sum();
        let what = if decode { self.summary(&told, forgotten)? } else { format!("{files} files") };
        let mut changes = Vec::new();
        for (kind, deeds) in told.iter().take(CHANGES_MAX) {
            changes.push(self.change(*kind, deeds)?);
        }
        let (id, short) = ids(&self.open, logged.device(), logged.seq());
        let device = logged.device();
        Ok(Some(CommitLine {
            id,
            short,
            device: self.names.get(&device).cloned().unwrap_or_else(|| format!("device {}", device.0)),
            time: rfc3339(logged.hlc().millis()),
            files,
            forgotten,
            what,
            changes,
            bytes,
            message: remark(logged.message()).to_owned(),
            snapshot: snapshot_name(logged.message()),
        }))
    }

    /// What a commit did to the subject.
    fn told(&mut self, delta: &Delta) -> Result<Vec<(Kind, Deeds)>, Failure> {
        match &mut self.subject {
            Subject::All => Ok(delta.files.iter().map(told).collect()),
            Subject::Below(known) => {
                let mut found = Vec::new();
                for file in &delta.files {
                    let places = file.placements.iter().map(|p| &p.place).chain(&file.hint);
                    let mut inside = known.get(&file.id).copied().unwrap_or(false);
                    for place in places {
                        inside = inside || is_inside(self.engine, &self.open, &self.now, known, place)?;
                    }
                    found.extend(inside.then(|| told(file)));
                }
                Ok(found)
            }
            Subject::File(id) => {
                let Ok(index) = delta.files.binary_search_by_key(id, |file| file.id) else { return Ok(Vec::new()) };
                let (kind, mut deeds) = told(&delta.files[index]);
                if deeds.created
                    && let Some(place) = deeds.place.clone()
                {
                    // The file that had the name before goes on; if it went in this very commit, this was a save.
                    match predecessor(&delta.files, &[place.parent], &place.name) {
                        Some(before) => {
                            (deeds.created, deeds.edited) = (false, true);
                            self.subject = Subject::File(before);
                        }
                        None => self.subject = Subject::Name(vec![place.parent], place.name),
                    }
                }
                Ok(vec![(kind, deeds)])
            }
            Subject::Name(parent, name) => {
                let Some(before) = predecessor(&delta.files, parent, name) else { return Ok(Vec::new()) };
                let found = delta.files.iter().find(|file| file.id == before).map(told);
                self.subject = Subject::File(before);
                Ok(found.into_iter().collect())
            }
        }
    }

    /// What a commit did, in a few words.
    fn summary(&self, told: &[(Kind, Deeds)], forgotten: u64) -> Result<String, Failure> {
        /// So many are told by name.
        const NAMED_MAX: usize = 2;
        let mut by_word: BTreeMap<Deed, Vec<&Deeds>> = BTreeMap::new();
        for (_, deeds) in told {
            by_word.entry(words(deeds)[0]).or_default().push(deeds);
        }
        let mut parts = Vec::new();
        for (word, all) in by_word {
            let word_text = word_of(word);
            if all.len() > NAMED_MAX {
                parts.push(format!("{word_text} {} files", all.len()));
                continue;
            }
            for deeds in all {
                let path = self.path(deeds.place.as_ref())?;
                parts.push(match &deeds.renamed_from {
                    Some(from) => format!("{word_text} {path} from {}", self.path(Some(from))?),
                    None => format!("{word_text} {path}"),
                });
            }
        }
        match forgotten {
            0 => {}
            1 => parts.push("forgot 1 record that nobody can see any more".to_owned()),
            _ => parts.push(format!("forgot {forgotten} records that nobody can see any more")),
        }
        Ok(if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") })
    }

    fn change(&self, kind: Kind, deeds: &Deeds) -> Result<ChangeLine, Failure> {
        let from = match &deeds.renamed_from {
            Some(from) => Some(self.path(Some(from))?),
            None => None,
        };
        Ok(ChangeLine {
            what: words(deeds),
            path: self.path(deeds.place.as_ref())?,
            from,
            kind: kind_word(kind).to_owned(),
            size: deeds.bytes,
            size_before: None,
        })
    }

    fn path(&self, place: Option<&Place>) -> Result<String, Failure> {
        match place {
            Some(place) => Ok(written(&self.engine.names_to(&self.open, &*self.now, place)?)),
            None => Ok(written(&[])),
        }
    }
}

fn told(file: &FileDelta) -> (Kind, Deeds) {
    (file.kind, deeds(file))
}

/// The file that had a name of these directories until a commit with these changes.
fn predecessor(files: &[FileDelta], parents: &[FileId], name: &Name) -> Option<FileId> {
    let at = |place: &Place| parents.contains(&place.parent) && place.name == *name;
    let gone =
        |file: &&FileDelta| file.kind != Kind::Directory && file.hint.as_ref().is_some_and(at) && deeds(file).deleted;
    files.iter().find(gone).map(|file| file.id)
}

/// Whether a place is in one of the known directories or below. Every directory on the way is remembered.
fn is_inside(
    engine: &Engine,
    open: &OpenBox,
    now: &Snapshot,
    known: &mut BTreeMap<FileId, bool>,
    place: &Place,
) -> Result<bool, Failure> {
    let mut way = Vec::new();
    let mut at = place.parent;
    let answer = loop {
        if let Some(answer) = known.get(&at) {
            break *answer;
        }
        way.push(at);
        known.insert(at, false);
        match engine.ask(open, |_| Ok(ouro_core::render::place(now, at)?))? {
            Some(shown) => at = shown.parent,
            None => break false,
        }
    };
    known.extend(way.into_iter().map(|directory| (directory, answer)));
    Ok(answer)
}

/// What was done, in words of the interface: at least one.
fn words(deeds: &Deeds) -> Vec<Deed> {
    let all = [
        (deeds.created, Deed::Created),
        (deeds.renamed_from.is_some(), Deed::Renamed),
        (deeds.edited, Deed::Edited),
        (deeds.links, Deed::Linked),
        (deeds.attributes, Deed::Attributes),
        (deeds.deleted, Deed::Deleted),
    ];
    let mut words: Vec<Deed> = all.into_iter().filter_map(|(is, word)| is.then_some(word)).collect();
    if words.is_empty() {
        words.push(Deed::Settled);
    }
    words
}

fn word_of(deed: Deed) -> &'static str {
    match deed {
        Deed::Created => "created",
        Deed::Renamed => "renamed",
        Deed::Edited => "edited",
        Deed::Linked => "linked",
        Deed::Attributes => "attributes of",
        Deed::Settled => "settled",
        Deed::Deleted => "deleted",
    }
}
