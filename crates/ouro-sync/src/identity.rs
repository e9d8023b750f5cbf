//! Who this device is: noticing that it cannot go on under its name, and going on under another.

use crate::collection::LOOK_BEFORE_PUT_MS;
use crate::{Sync, SyncError};
use ouro_core::content::Content;
use ouro_core::id::{BlobId, DeviceId, DeviceNo, FileId, Seq};
use ouro_local::volume::{Claim, Commit, Cut, Identity, VolumeError};
use ouro_remote::RemoteError;
use ouro_repo::{Branch, DeviceInfo, Ports, RULES, Removal, RepoError};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Draws of a number before giving up: each collides with probability n / 2^31.
const NUMBER_DRAWS_MAX: usize = 64;
/// Records of its own log that a device reads when another wrote there: what was unpublished at a backup is in the first two commits after
/// it, with a checkpoint's announcement between them.
const OWN_RECORDS_MAX: usize = 4;

/// Why a device goes on under another identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// Its log holds commits that it does not know: a copy of it runs somewhere, or it was restored from a backup.
    Copied,
    /// Another device removed it.
    Removed,
    /// Another device drew the same number.
    SameNumber,
}

/// What stands in the log under the name of this device's next commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NextName {
    Free,
    /// The very commit that waits here to be published: nobody answered.
    Own,
    /// Somebody else's, or it is one that somebody else's had before a collection.
    Taken,
}

impl Renewal {
    /// Why, for people.
    fn reason(self) -> &'static str {
        match self {
            Renewal::Copied => {
                "a copy of this device has written to the repository, or this device was restored from a backup"
            }
            Renewal::Removed => "this device was removed by another one",
            Renewal::SameNumber => "another device has the same number",
        }
    }
}

/// Draws an identity for a new device: an id, a number that none of `others` has, and the name, with a number behind it if one of those in
/// `taken` has it.
///
/// # Errors
/// [`SyncError::NoNumber`] if chance does not give one.
pub fn draw_identity(
    ports: &Ports,
    others: &[DeviceInfo],
    name: &str,
    taken: &dyn Fn(&DeviceInfo) -> bool,
) -> Result<Identity, SyncError> {
    let mut id = [0; 16];
    ports.rng.fill(&mut id);
    let number = (0..NUMBER_DRAWS_MAX)
        .map(|_| DeviceNo((ports.rng.next_u64() & 0x7fff_ffff) as u32))
        .find(|no| no.0 != 0 && others.iter().all(|other| other.number != *no))
        .ok_or(SyncError::NoNumber)?;
    let is_taken = |name: &str| others.iter().any(|other| other.name == name && taken(other));
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit()).strip_suffix(' ').unwrap_or(name);
    let mut numbered = (2..).map(|n: u32| format!("{stem} {n}")).filter(|name| !is_taken(name));
    let name = if is_taken(name) { numbered.next().unwrap_or_default() } else { name.to_owned() };
    let drawn_ms = (ports.clock.wall_ns() / 1_000_000).max(0).cast_unsigned();
    Ok(Identity { id: DeviceId(id), number, name, drawn_ms })
}

/// What stands on the remote of a device with this identity: always the same, so that it can be written again.
pub fn device_info(identity: Identity, branch: Option<Branch>) -> DeviceInfo {
    let Identity { id, number, name, drawn_ms } = identity;
    DeviceInfo { id, number, name, created_ms: drawn_ms, rules: RULES, branch }
}

impl Sync {
    /// Who this device is now.
    pub fn device(&self) -> DeviceId {
        *self.device.read()
    }

    /// Takes another identity if this one cannot be used any more: if the device was removed, or if its log holds what it does not know. One
    /// or two small reads. The caller has the turn.
    ///
    /// # Errors
    /// What the remote says; [`SyncError::RolledBack`] if the log lacks what this device knows is there.
    pub(crate) async fn check_identity(self: &Arc<Self>) -> Result<(), SyncError> {
        if let Some(counted) = self.repo.retired_at(self.device()) {
            return if self.line().is_main() {
                self.renew(Renewal::Removed).await
            } else {
                self.heed_end_of_branch(counted).await
            };
        }
        if self.is_copied().await? { self.renew(Renewal::Copied).await } else { Ok(()) }
    }

    /// Draws another number before the first commit if another device has this one: both drew it before either was written down. Whether that
    /// was so. The caller has the turn.
    pub(crate) async fn check_number(self: &Arc<Self>) -> Result<bool, SyncError> {
        let (own, number) = (self.device(), self.volume.device());
        if self.volume.heads().contains_key(&number) {
            return Ok(false);
        }
        let devices = self.repo.devices().await?;
        let drew_again = |id| self.repo.retired_at(id) == Some(Seq(0));
        if devices.iter().any(|other| other.number == number && other.id != own && !drew_again(other.id)) {
            self.renew(Renewal::SameNumber).await?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Called right before a commit is published: whether this device went on as another, since it may not write under its number or its next
    /// name. One that a copy of it wrote under may be free again, below a collection's checkpoint, where nobody reads any more. The caller has the turn.
    ///
    /// # Errors
    /// [`SyncError::LookDue`] if a collection did not wait for it: what the commit refers to may be gone. As [`Sync::check_log`]. Then nothing may be
    /// published.
    pub(crate) async fn check_name(self: &Arc<Self>) -> Result<bool, SyncError> {
        if self.check_number().await? {
            return Ok(true);
        }
        // Who has looked lately met every collection that can have taken a record since; of branches none does.
        if !self.line().is_main() || !self.look_due(LOOK_BEFORE_PUT_MS) {
            return Ok(false);
        }
        match self.next_name().await? {
            NextName::Taken => self.renew(Renewal::Copied).await.map(|()| true),
            // Whoever marked since saw it.
            NextName::Own => Ok(false),
            NextName::Free if self.must_look().await? => Err(SyncError::LookDue),
            NextName::Free => Ok(false),
        }
    }

    /// Whether somebody else wrote in this device's log: the name of its next commit holds what is not its own.
    ///
    /// # Errors
    /// As [`Sync::check_log`].
    async fn is_copied(self: &Arc<Self>) -> Result<bool, SyncError> {
        Ok(self.next_name().await? == NextName::Taken)
    }

    /// Holds this device's log against what it knows of it.
    ///
    /// # Errors
    /// As [`Sync::check_log`].
    async fn next_name(self: &Arc<Self>) -> Result<NextName, SyncError> {
        let next = self.volume.own_seq().next();
        let found = self.repo.read_record_bytes(self.device(), next).await?;
        let covered = self.check_log().await?;
        let Some(found) = found else { return Ok(if covered >= next { NextName::Taken } else { NextName::Free }) };
        let sealed = self.volume.sealed().and_then(|sealed| sealed.record).map(|(bytes, _)| bytes);
        let outright = self.volume.outright().map(|(_, bytes)| bytes);
        let is_own = [sealed, outright].into_iter().flatten().any(|own| *own == *found);
        Ok(if is_own { NextName::Own } else { NextName::Taken })
    }

    /// Holds what this device published last against what lies there. Returns up to where the newest collection covers its log: a collection keeps
    /// no records below its checkpoint, but it says how far each log went.
    ///
    /// # Errors
    /// What the remote says; [`SyncError::RolledBack`] or [`SyncError::Rewritten`] if the log lacks a commit that was there: it was set back, which
    /// no identity helps against.
    async fn check_log(self: &Arc<Self>) -> Result<Seq, SyncError> {
        let number = self.volume.device();
        let covered = self.collected_to(number).await?;
        if let Some(head) = self.volume.heads().get(&number) {
            let seq = head.seq.0;
            match self.repo.read_record_bytes(self.device(), head.seq).await? {
                Some(bytes) if self.repo.record_hash(&bytes) == head.hash => {}
                Some(_) => return Err(SyncError::Rewritten { device: number.0, seq }),
                None if covered >= head.seq => {}
                None => return Err(SyncError::RolledBack { seq }),
            }
        }
        Ok(covered)
    }

    /// Up to where the newest collection covers a log; 0 if there is none.
    async fn collected_to(&self, number: DeviceNo) -> Result<Seq, SyncError> {
        let known = self.volume.collected().and_then(|known| known.checkpoint.covers.get(&number).map(|head| head.seq));
        let collections = match self.repo.collections().await {
            Ok(collections) => collections,
            // Nothing goes because of one that cannot be read.
            Err(error) if error.is_corrupt() => return Ok(known.unwrap_or(Seq(0))),
            Err(error) => return Err(error.into()),
        };
        let newest = collections.into_values().next_back();
        let listed = newest.and_then(|newest| newest.covered(number).map(|covered| covered.seq));
        // A list may be stale.
        Ok(known.max(listed).unwrap_or(Seq(0)))
    }

    /// Called before this device stands on a checkpoint that may cover more of its log than it knows: a copy of it wrote there, and the records
    /// by which that would be noticed may be gone. Under their names it would publish what nobody ever reads. What both had fixed before they
    /// were two is its own as well. The caller has the turn.
    ///
    /// # Errors
    /// What the remote says; then nothing may be stood on.
    pub(crate) async fn outlive_covered(self: &Arc<Self>, covers: &Cut) -> Result<(), SyncError> {
        let is_ahead = || covers.get(&self.volume.device()).is_some_and(|head| head.seq > self.volume.own_seq());
        while is_ahead() {
            let before = (self.device(), self.volume.own_seq());
            self.check_identity().await?;
            if is_ahead() {
                match self.finish_earlier().await {
                    // The next record of the log may be the very one that waits here to be published. What is not there waits on.
                    Err(SyncError::LookDue) => {}
                    finished => finished?,
                }
            }
            if before == (self.device(), self.volume.own_seq()) {
                // The storage does not show what the checkpoint holds: nothing is known that speaks against standing on it.
                break;
            }
        }
        Ok(())
    }

    /// What to do when the name of this device's next commit is taken by something else, whole or torn: goes on under another identity, or says
    /// that the storage was set back. The caller has the turn and calls it with whatever a push came to.
    pub(crate) async fn outlive_copy<T>(
        self: &Arc<Self>,
        outcome: Result<T, SyncError>,
    ) -> Result<Option<T>, SyncError> {
        match outcome {
            Err(error) if error.is_copy() => {
                self.check_log().await?;
                self.renew(Renewal::Copied).await.map(|()| None)
            }
            outcome => outcome.map(Some),
        }
    }

    /// Goes on as another device: a new id and number, the name with a number behind it where it is taken, and everything that is not published
    /// goes along ([`ouro_local::volume::Volume::take_identity`]). The old log is another device's from then on. The caller has the turn.
    ///
    /// A crash leaves a device on the remote that is taken at the next attempt.
    ///
    /// # Errors
    /// What the remote or the journal says: then this device is who it was.
    pub async fn renew(self: &Arc<Self>, why: Renewal) -> Result<(), SyncError> {
        let (was, number) = (self.device(), self.volume.device());
        let identity = match self.volume.intended() {
            Some(intended) => intended,
            None => {
                let others = self.repo.devices().await?;
                let own_name = self.repo.met(was).map(|info| info.name);
                let own_name = own_name.or_else(|| self.volume.device_names().remove(&number));
                let own_name = own_name.unwrap_or_else(|| "this device".to_owned());
                let is_alive = |other: &DeviceInfo| self.repo.retired_at(other.id).is_none();
                let lives_on = |other: &DeviceInfo| other.id != was || why == Renewal::Copied;
                let taken = |other: &DeviceInfo| is_alive(other) && lives_on(other);
                let drawn = draw_identity(&self.ports, &others, &own_name, &taken)?;
                let intending = drawn.clone();
                self.blocking(move |sync| sync.volume.intend(&intending)).await??;
                drawn
            }
        };
        let Identity { id, number: drawn, name, drawn_ms } = identity.clone();
        let before = match self.repo.met(was) {
            Some(known) => Some(known),
            None => self.repo.device(was).await?,
        };
        let branch = before.and_then(|info| info.branch);
        match self.repo.register_device(&device_info(identity.clone(), branch)).await {
            // An older version of this program wrote it down in its own way, before it ended.
            Err(RepoError::Remote { source: RemoteError::Taken { .. } })
                if self.repo.device(id).await?.is_some_and(|there| there.number == drawn) => {}
            outcome => outcome?,
        }
        let log = if why == Renewal::SameNumber { Vec::new() } else { self.own_log().await? };
        let log = Arc::new(log);
        let mut gone = BTreeSet::new();
        let proven = loop {
            let (log, known) = (Arc::clone(&log), gone.clone());
            match self.with_all(move |sync| sync.proven(&log, &known)).await {
                Err(SyncError::Repo(RepoError::BlobGone { blob, .. })) if gone.insert(blob) => {}
                proven => break proven?,
            }
        };
        self.with_all(move |sync| sync.volume.take_identity(&identity, &log, &proven)).await?;
        *self.device.write() = id;
        self.repo.learn_device(drawn, id);
        tracing::warn!(was = %was, now = %id, name, "this device goes on under another identity: {}", why.reason());
        self.tell(|status| status.renewed = Some(format!("{}: it goes on as {name:?}", why.reason())));
        match why {
            Renewal::SameNumber => {
                let removal = Removal { device: was, by: id, last: Seq(0), removed_ms: drawn_ms };
                self.repo.remove_device(&removal).await?;
            }
            // What it believed to be stored may have been collected meanwhile.
            Renewal::Removed => self.volume.locations().forget_all()?,
            Renewal::Copied => {}
        }
        crate::learn_devices(&self.repo, &self.volume).await?;
        self.count_known().await
    }

    /// Files whose unpublished bytes are the very ones that the log says. None that lies partly in what is `gone`, but for zeros.
    fn proven(&self, log: &[Commit], gone: &BTreeSet<BlobId>) -> Result<BTreeSet<FileId>, VolumeError> {
        let mut proven = BTreeSet::new();
        for Claim { file, ours, theirs } in self.volume.claims(log)? {
            let read = |offset: u64, len: usize| {
                let mut bytes = vec![0; len];
                self.volume.read_layer(file, &ours, offset, &mut bytes, gone).map(|()| bytes)
            };
            let compare = || -> Result<bool, VolumeError> {
                if let Content::Inline(bytes) = &theirs {
                    return Ok(*read(0, bytes.len())? == **bytes);
                }
                let mut offset = 0;
                for chunk in self.volume.chunks(&theirs)?.iter() {
                    if !self.repo.verify_blob(&chunk.id, &read(offset, chunk.len as usize)?) {
                        return Ok(false);
                    }
                    offset += u64::from(chunk.len);
                }
                Ok(true)
            };
            match compare() {
                Ok(true) => drop(proven.insert(file)),
                // What is lost here is told when it is to be published.
                Ok(false) | Err(VolumeError::Lost { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(proven)
    }

    /// What stands in this device's log from what it has not published by its own account on, as far as it was made on what is known here. The
    /// first of that may be known all the same: a checkpoint of others holds what was published without an answer.
    async fn own_log(self: &Arc<Self>) -> Result<Vec<Commit>, SyncError> {
        let number = self.volume.device();
        let mut known = self.volume.heads();
        let mut log = Vec::new();
        let head = known.get(&number).map_or(Seq(0), |head| head.seq);
        let sealed = self.volume.sealed().map(|sealed| sealed.version.seq);
        let outright = self.volume.outright().map(|(commit, _)| commit.seq);
        let mut next = sealed.into_iter().chain(outright).chain([head.next()]).min().unwrap_or(head.next());
        while log.len() < OWN_RECORDS_MAX {
            let Some(read) = self.read_commit(number, next).await? else {
                if next > head {
                    break;
                }
                // A collection took it.
                log.clear();
                next = head.next();
                continue;
            };
            let commit = read.commit;
            let has = |(device, parent): (&DeviceNo, &ouro_local::volume::Head)| {
                known.get(device).is_some_and(|head| head.seq >= parent.seq)
            };
            if !commit.parents.iter().all(has) {
                break;
            }
            if next > head {
                let head = ouro_local::volume::Head { seq: commit.seq, hash: commit.hash, hlc: commit.hlc };
                known.insert(number, head);
            }
            log.push(commit);
            next = next.next();
        }
        Ok(log)
    }

    /// Says of every removed device of whose log more is known here than counts that this much counts: nothing is known to some devices and left
    /// out by others for ever. A request only if there is something to say. The caller has the turn.
    pub(crate) async fn count_known(&self) -> Result<(), SyncError> {
        let heads = self.volume.heads();
        for (device, counted) in self.repo.retired() {
            let Some(info) = self.repo.met(device) else { continue };
            let known = heads.get(&info.number).map_or(Seq(0), |head| head.seq);
            let said = self.repo.removals().iter().any(|r| r.device == device && r.by == self.device());
            let holds_number = self.repo.device_id(info.number).is_ok_and(|holder| holder == device);
            if known > counted && holds_number && !said {
                self.say_removed(device).await?;
            }
        }
        Ok(())
    }

    /// Removes a device: what it has published counts, what comes after does not. It goes on under another identity when it comes back.
    ///
    /// # Errors
    /// What the remote says; then it is not removed.
    pub async fn remove(self: &Arc<Self>, device: DeviceId) -> Result<Removal, SyncError> {
        // What is not known here yet would be out of sight until it comes back, which it may never do.
        self.pull().await?;
        let _turn = self.turn.lock().await;
        self.say_removed(device).await
    }

    /// Writes down that a device is removed. The caller has the turn: a commit that came in meanwhile would be known here and not counted.
    async fn say_removed(&self, device: DeviceId) -> Result<Removal, SyncError> {
        let number = self.repo.met(device).map(|info| info.number);
        let last = number.and_then(|no| self.volume.heads().get(&no).map(|head| head.seq)).unwrap_or(Seq(0));
        let removed_ms = (self.ports.clock.wall_ns() / 1_000_000).max(0) as u64;
        let removal = Removal { device, by: self.device(), last, removed_ms };
        self.repo.remove_device(&removal).await?;
        Ok(removal)
    }
}
