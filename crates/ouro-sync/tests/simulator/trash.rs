//! The trash of a device: what is thrown away is gone for others, stays here, and may come back.

use crate::history::History;
use crate::ignored::is_ignored;
use crate::operate::{Done, Operation, PARTS, attributes, leaf};
use crate::tree::{self, Spot, Spots};
use ouro_core::content::Content;
use ouro_core::delta::FileDelta;
use ouro_core::id::FileId;
use ouro_core::state::Kind;
use ouro_local::volume::{SealedFile, VolumeError};
use std::collections::BTreeSet;

/// The directory in the root, as desktops name it.
const TRASH: &str = ".Trash-1000";

/// Whether a path is that of the trash, or of something in it.
pub(crate) fn is_in_trash(path: &str) -> bool {
    path.strip_prefix('/').is_some_and(|path| path.split('/').next() == Some(TRASH))
}

/// Takes what is in the trash out of what is seen.
pub(crate) fn take_out(spots: &mut Spots) -> Spots {
    spots.extract_if(.., |path, _| is_in_trash(path)).collect()
}

impl Operation<'_> {
    /// Throws something away, or does something with what was.
    pub(crate) fn any_thrown(&mut self) -> Done {
        match self.chance.below(10) {
            0..5 => self.throw_away(),
            5..9 => self.bring_back(),
            _ => self.throw_out(),
        }
    }

    fn trash(&mut self) -> Result<Vec<FileId>, VolumeError> {
        if let Some(trash) = self.trash.get(&format!("/{TRASH}")) {
            return Ok(trash.seen.members().to_vec());
        }
        let attributes = attributes(self.volume, 0o700);
        let root = [FileId::ROOT];
        let made = self.volume.edit(|e| e.create(&root, &leaf(TRASH), Kind::Directory, attributes.clone(), None))?;
        Ok(vec![made])
    }

    /// Things right in the trash.
    fn one_thrown(&mut self) -> Option<(String, Spot)> {
        let things: Vec<String> = self.trash.keys().filter(|path| path.matches('/').count() == 2).cloned().collect();
        let path = self.chance.one(&things)?;
        Some((path.clone(), self.trash[path].clone()))
    }

    fn throw_away(&mut self) -> Done {
        let is_file = self.chance.percent(70);
        let (path, spot) = if is_file {
            let Some(found) = self.any_file() else { return Ok(String::new()) };
            found
        } else {
            let (path, _) = self.any_directory();
            let spot = self.spots[&path].clone();
            (path, spot)
        };
        // Neither the root nor what only rendering makes.
        if path.is_empty() || spot.seen.members() == [FileId::RECOVERED] {
            return Ok(String::new());
        }
        let below = format!("{path}/");
        let files = self.spots.iter().filter(|(at, s)| !s.is_directory() && (**at == path || at.starts_with(&below)));
        let files: Vec<Spot> = files.map(|(_, spot)| spot.clone()).collect();
        // What is open or written here waits, and comes back if others go on with it meanwhile.
        let on_its_way = self.volume.sealed();
        let waits = |file: &Spot| {
            let is_sealed = |sealed: &FileDelta| sealed.id == file.seen.id && sealed.source().is_some();
            let is_written = matches!(file.seen.content(), Some(Content::Pending { .. }))
                || on_its_way.as_ref().is_some_and(|sealed| sealed.files.iter().any(is_sealed));
            // Who writes it under its other name makes it wait afterwards.
            is_written || file.seen.links() > 1 || self.open.iter().any(|(open, _)| *open == file.seen.id)
        };
        let may_come_back = files.iter().any(waits);
        // Others see it beside what was made in its place until it is buried: a conflict of which no other device is the cause.
        if may_come_back && self.manner.relay {
            return Ok(String::new());
        }
        for file in files {
            self.leaves_unless(&file, may_come_back);
        }
        *self.written += 1;
        let name = format!("thrown-{}", self.written);
        let trash = self.trash()?;
        self.move_to(&spot, &trash, &leaf(&name), None)?;
        Ok(format!("throws away {path} as {name}"))
    }

    /// It is as good as written again where it comes to.
    fn bring_back(&mut self) -> Done {
        let Some((thrown, spot)) = self.one_thrown() else { return Ok(String::new()) };
        let (target, to) = self.any_directory();
        // Where a directory stays here for what is ignored in it, a file of its name would have another name here only.
        let name = if spot.is_directory() { PARTS[self.chance.below(PARTS.len())] } else { self.any_leaf() };
        let target = format!("{target}/{name}");
        if self.spots.contains_key(&target) {
            return Ok(String::new());
        }
        let below = format!("{thrown}/");
        let files = self.trash.iter().filter(|(at, s)| !s.is_directory() && (**at == thrown || at.starts_with(&below)));
        for file in files.map(|(_, spot)| spot.clone()).collect::<Vec<_>>() {
            let content = self.content(&file);
            self.contents.wrote(&content);
        }
        self.move_to(&spot, &to, &leaf(name), None)?;
        Ok(format!("brings back {thrown} as {target}"))
    }

    /// For good.
    fn throw_out(&mut self) -> Done {
        let Some((thrown, _)) = self.one_thrown() else { return Ok(String::new()) };
        let before = self.touched.len();
        self.remove_below(&thrown)?;
        // It was gone when it was thrown away, unless it had another name: then that shows it still.
        self.touched[before..].iter_mut().for_each(|(_, is_last)| *is_last = false);
        Ok(format!("throws out {thrown}"))
    }
}

impl History {
    /// What is in the trash of a device can be read there.
    pub(crate) fn what_is_in_the_trash_stays(&mut self) {
        if !self.manner.throws {
            return;
        }
        for at in 0..self.devices.len() {
            let volume = self.volume(at);
            let mut spots = self.with_all(at, |volume| Ok(tree::spots(volume)?));
            for (path, spot) in take_out(&mut spots).iter().filter(|(_, spot)| !spot.is_directory()) {
                let content = self.truth.bytes_at(&volume, spot);
                let is_known =
                    is_ignored(spot) || self.contents.was_written(&content) || self.crashed || self.manner.copies;
                assert!(is_known, "{path} is something that nobody wrote");
            }
        }
    }

    /// What the caches of a device must not lose: nobody else can tell that it is needed.
    pub(crate) fn is_only_here(&self, at: usize) -> BTreeSet<ouro_core::id::BlobId> {
        let own = self.with_all(at, |volume| volume.local_references(&BTreeSet::new()));
        own.into_iter().map(|blob| blob.id).collect()
    }
}
