//! From what a person wrote to a state of the past.

use crate::api::Failure;
use crate::boxes::OpenBox;
use crate::engine::Engine;
use ouro_core::id::{DeviceNo, Hlc, Seq};
use ouro_core::time::rfc3339;
use ouro_core::when::{When, snapshot_name};
use ouro_local::volume::{Cut, LogWalk, Logged, Snapshot};
use std::sync::Arc;

/// Fewest digits of a device's number in the short form of a commit's id.
const SHORT_DIGITS_MIN: usize = 4;

impl Engine {
    /// The state that `text` names, or what is seen at this moment if that is not in the past. `earlier` may save work.
    pub(crate) fn past_or_now(
        &self,
        open: &OpenBox,
        text: &str,
        earlier: Option<&Snapshot>,
    ) -> Result<Arc<Snapshot>, Failure> {
        let when = parse(open, text)?;
        if matches!(when, When::Moment { millis } if millis >= now_ms(open)) {
            return Ok(open.volume.still());
        }
        let cut = self.cut(open, text, &when)?;
        self.ask(open, |_| match earlier {
            Some(earlier) => open.volume.snapshot_after(earlier, &cut),
            None => open.volume.snapshot_of(&cut),
        })
    }

    /// The committed state that `text` names.
    pub(crate) fn past(&self, open: &OpenBox, text: &str) -> Result<Arc<Snapshot>, Failure> {
        let cut = self.cut_meant(open, text)?;
        self.ask(open, |_| open.volume.snapshot_of(&cut))
    }

    /// The commits of the state that `text` names.
    pub(crate) fn cut_meant(&self, open: &OpenBox, text: &str) -> Result<Cut, Failure> {
        self.cut(open, text, &parse(open, text)?)
    }

    fn cut(&self, open: &OpenBox, text: &str, when: &When) -> Result<Cut, Failure> {
        match when {
            When::Moment { millis } => {
                let at = Hlc(Hlc::from_millis(millis.saturating_add(1)).0.saturating_sub(1));
                let cut = self.ask(open, |volume| volume.cut_at(at))?;
                if cut.is_empty() {
                    let moment = rfc3339(*millis);
                    let message =
                        format!("nothing was in box {:?} at {moment} yet: `ourobox log` shows its commits", open.name);
                    return Err(Failure::needs_user(message));
                }
                Ok(cut)
            }
            When::Shelf { second, ordinal } => {
                let (from, to) = (Hlc::from_millis(second * 1_000), Hlc(Hlc::from_millis((second + 1) * 1_000).0 - 1));
                // So that a device that joined later has the records of that time.
                self.ask(open, |volume| volume.cut_at(to))?;
                let commits = self.ask(open, |volume| volume.commits(from, to, *ordinal))?;
                let commit = commits.get(ordinal - 1).ok_or_else(|| unknown(open, text))?;
                self.ask(open, |volume| volume.cut_of(commit.device, commit.seq))
            }
            When::Commit { device, seq } => match self.device_meant(open, device, Seq(*seq), text)? {
                Some(device) => self.ask(open, |volume| volume.cut_of(device, Seq(*seq))),
                None => self.cut_named(open, text),
            },
            When::Name(name) => self.cut_named(open, name),
        }
    }

    fn cut_named(&self, open: &OpenBox, name: &str) -> Result<Cut, Failure> {
        let wanted = snapshot_name(name).ok_or_else(|| unknown(open, name))?;
        let mut walk = LogWalk::new(&open.volume.heads());
        while let Some(logged) = self.step(open, &mut walk)? {
            if snapshot_name(logged.message()).as_ref() == Some(&wanted) {
                return self.ask(open, |volume| volume.cut_of(logged.device(), logged.seq()));
            }
        }
        match open.volume.kept_named(&wanted) {
            Some(kept) => self.ask(open, |volume| volume.cut_of(kept.device, kept.seq)),
            None => Err(unknown(open, name)),
        }
    }

    /// The next commit of a walk, its record fetched if it is not here.
    pub(crate) fn step(&self, open: &OpenBox, walk: &mut LogWalk) -> Result<Option<Logged>, Failure> {
        self.ask(open, |volume| walk.step(volume))
    }

    /// The device whose number begins so, or that is called so, and that made so many commits.
    fn device_meant(&self, open: &OpenBox, device: &str, seq: Seq, text: &str) -> Result<Option<DeviceNo>, Failure> {
        let heads = open.volume.heads();
        let names = open.volume.device_names();
        let reaches = |no: &&DeviceNo| heads.get(no).is_some_and(|head| head.seq >= seq);
        let digits = |no: &DeviceNo| no.0.to_string();
        if let Some(whole) = heads.keys().filter(reaches).find(|no| digits(no) == device) {
            return Ok(Some(*whole));
        }
        let means = |no: &&DeviceNo| digits(no).starts_with(device) || names.get(no).is_some_and(|name| name == device);
        let meant: Vec<&DeviceNo> = heads.keys().filter(reaches).filter(means).collect();
        match meant.as_slice() {
            [] => Ok(None),
            [only] => Ok(Some(**only)),
            several => {
                let ids: Vec<String> = several.iter().map(|no| format!("{}.{}", no.0, seq.0)).collect();
                Err(Failure::needs_user(format!("{text:?} may be {}: write more of it", ids.join(" or "))))
            }
        }
    }
}

fn now_ms(open: &OpenBox) -> u64 {
    (open.volume.now_ns() / 1_000_000).max(0) as u64
}

fn parse(open: &OpenBox, text: &str) -> Result<When, Failure> {
    When::parse(text, now_ms(open)).map_err(|bad| Failure::needs_user(bad.to_string()))
}

fn unknown(open: &OpenBox, text: &str) -> Failure {
    Failure::needs_user(format!(
        "box {:?} has no commit or snapshot {text:?}: `ourobox log` shows what there is",
        open.name
    ))
}

/// A commit's id, in full and as short as it can be told from those of other devices.
pub(crate) fn ids(open: &OpenBox, device: DeviceNo, seq: Seq) -> (String, String) {
    let full = device.0.to_string();
    let others: Vec<String> =
        open.volume.heads().keys().filter(|no| **no != device).map(|no| no.0.to_string()).collect();
    let digits = (SHORT_DIGITS_MIN..full.len()).find(|&n| !others.iter().any(|other| other.starts_with(&full[..n])));
    let short = digits.map_or(full.as_str(), |n| &full[..n]);
    (format!("{full}.{}", seq.0), format!("{short}.{}", seq.0))
}
