//! Extended attributes: `user.*` travels with the file, `user.ourobox.*` tells what this device knows of it.

use crate::look::Locus;
use crate::realm::Realm;
use crate::stop::{Errno, Reply};
use crate::types::{ACCESS_READ, ACCESS_WRITE, Caller, NodeNo, SetXattr};
use crate::vfs::Vfs;
use ouro_core::content::{Content, Xattrs};
use ouro_core::state::Kind;
use ouro_local::pins::Pin;

/// Longest name in bytes, as on Linux.
pub(crate) const NAME_BYTES_MAX: usize = 255;
/// Largest value in bytes, as on Linux.
pub(crate) const VALUE_BYTES_MAX: usize = 64 * 1024;
/// All names and values of a file together, in bytes.
pub(crate) const TOTAL_BYTES_MAX: usize = 64 * 1024;

const VIRTUAL: &[u8] = b"user.ourobox.";

/// Where the bytes of a file are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Residency {
    Online,
    Partial,
    Local,
}

impl Residency {
    fn word(self) -> &'static str {
        match self {
            Residency::Online => "online",
            Residency::Partial => "partial",
            Residency::Local => "local",
        }
    }
}

fn stored_name(name: &[u8]) -> Result<(), Errno> {
    match name {
        _ if name.len() > NAME_BYTES_MAX => Err(Errno::Range),
        _ if !name.starts_with(b"user.") => Err(Errno::NotSupported),
        b"user." => Err(Errno::Invalid),
        _ => Ok(()),
    }
}

impl Vfs {
    /// The value of an extended attribute: a stored one, or one of `user.ourobox.state`, `.residency`, `.pin`, `.content-id`.
    ///
    /// # Errors
    /// [`Errno::NoData`] if there is none, [`Errno::NotSupported`] for other name spaces than `user.`.
    pub fn getxattr(&self, caller: &Caller, node: NodeNo, name: &[u8]) -> Reply<Vec<u8>> {
        stored_name(name)?;
        let locus = self.locus(node)?;
        if let Some(name) = name.strip_prefix(VIRTUAL) {
            return self.virtual_xattr(&locus, name);
        }
        let xattrs = self.xattrs(caller, &locus)?;
        let found = xattrs.into_iter().find(|(n, _)| **n == *name);
        Ok(found.ok_or(Errno::NoData)?.1.into_vec())
    }

    /// The names of the stored extended attributes, each ended by a NUL. The virtual ones are not listed, or copies would carry them along.
    ///
    /// # Errors
    /// [`Errno::Stale`].
    pub fn listxattr(&self, caller: &Caller, node: NodeNo) -> Reply<Vec<u8>> {
        let locus = self.locus(node)?;
        let _anybody_may_list = caller;
        if matches!(locus.realm, Realm::Top | Realm::Shelf(_)) {
            return Ok(Vec::new());
        }
        let mut names = Vec::new();
        for (name, _) in self.stored(&locus)?.1 {
            names.extend_from_slice(&name);
            names.push(0);
        }
        Ok(names)
    }

    fn xattrs(&self, caller: &Caller, locus: &Locus) -> Reply<Xattrs> {
        if matches!(locus.realm, Realm::Top | Realm::Shelf(_)) {
            return Err(Errno::NoData.into());
        }
        let (stat, xattrs) = self.stored(locus)?;
        self.judge(caller).may(&stat, ACCESS_READ)?;
        Ok(xattrs)
    }

    fn stored(&self, locus: &Locus) -> Reply<(crate::Stat, Xattrs)> {
        let found = self.find(locus, |look, found| {
            let xattrs = found.seen.file().seen_attributes().map(|a| a.xattrs.clone()).unwrap_or_default();
            Ok((look.stat(&found.seen), xattrs))
        })?;
        Ok(match (found, &locus.realm) {
            (Ok(found), _) => found,
            (Err(orphan), Realm::Live(volume)) => {
                let xattrs = orphan.record.seen_attributes().map(|a| a.xattrs.clone()).unwrap_or_default();
                (self.orphan_stat(*volume, locus.file, &orphan), xattrs)
            }
            (Err(_), _) => return Err(Errno::Stale.into()),
        })
    }

    /// Sets an extended attribute. Setting `user.ourobox.pin` to `auto`, `keep` or `online` pins.
    ///
    /// # Errors
    /// [`Errno::TooBig`] for a value above 64 KiB, [`Errno::NoSpace`] if all of a file's would exceed 64 KiB, [`Errno::Range`] for a name
    /// above 255 bytes, [`Errno::Exists`], [`Errno::NoData`], [`Errno::NotSupported`].
    pub fn setxattr(&self, caller: &Caller, node: NodeNo, name: &[u8], value: &[u8], how: SetXattr) -> Reply<()> {
        stored_name(name)?;
        if value.len() > VALUE_BYTES_MAX {
            return Err(Errno::TooBig.into());
        }
        let locus = self.locus(node)?;
        let volume = self.writable(&locus.realm)?;
        let judge = self.judge(caller);
        if let Some(name) = name.strip_prefix(VIRTUAL) {
            if name != b"pin" {
                return Err(Errno::NotPermitted.into());
            }
            let pin = pin_of(value).ok_or(Errno::Invalid)?;
            judge.may(&self.stat(&locus)?, ACCESS_WRITE)?;
            self.volume(volume).set_pin(locus.file, pin);
            return Ok(());
        }
        self.revise(&locus, volume, |stat, attributes| {
            may_hold(stat.kind)?;
            judge.may(stat, ACCESS_WRITE)?;
            let xattrs = &mut attributes.xattrs;
            let at = xattrs.binary_search_by(|(n, _)| (**n).cmp(name));
            match (at, how) {
                (Ok(_), SetXattr::Create) => return Err(Errno::Exists),
                (Err(_), SetXattr::Replace) => return Err(Errno::NoData),
                (Ok(i), _) => xattrs[i].1 = value.into(),
                (Err(i), _) => xattrs.insert(i, (name.into(), value.into())),
            }
            let total: usize = xattrs.iter().map(|(n, v)| n.len() + v.len()).sum();
            if total > TOTAL_BYTES_MAX { Err(Errno::NoSpace) } else { Ok(()) }
        })?;
        Ok(())
    }

    /// Removes an extended attribute; removing `user.ourobox.pin` sets it to `auto`.
    ///
    /// # Errors
    /// [`Errno::NoData`], [`Errno::NotSupported`], [`Errno::Access`].
    pub fn removexattr(&self, caller: &Caller, node: NodeNo, name: &[u8]) -> Reply<()> {
        if name == [VIRTUAL, b"pin"].concat() {
            return self.setxattr(caller, node, name, b"auto", SetXattr::Any);
        }
        stored_name(name)?;
        if name.starts_with(VIRTUAL) {
            return Err(Errno::NotPermitted.into());
        }
        let locus = self.locus(node)?;
        let volume = self.writable(&locus.realm)?;
        let judge = self.judge(caller);
        self.revise(&locus, volume, |stat, attributes| {
            may_hold(stat.kind)?;
            judge.may(stat, ACCESS_WRITE)?;
            let at = attributes.xattrs.iter().position(|(n, _)| **n == *name).ok_or(Errno::NoData)?;
            attributes.xattrs.remove(at);
            Ok(())
        })?;
        Ok(())
    }

    fn virtual_xattr(&self, locus: &Locus, name: &[u8]) -> Reply<Vec<u8>> {
        let volume = match &locus.realm {
            Realm::Live(volume) => *volume,
            Realm::Past(past) => past.volume,
            Realm::Top | Realm::Shelf(_) => return Err(Errno::NoData.into()),
        };
        let pin = match locus.realm {
            Realm::Live(volume) => self.volume(volume).pins().own(locus.file),
            _ => Pin::Auto,
        };
        if name == b"pin" {
            return Ok(word_of(pin).into());
        }
        let content = self.find(locus, |_, found| Ok(found.seen.content().cloned()))?;
        let content = content.ok().flatten();
        let residency = content.as_ref().map(|content| self.residency(volume, content));
        let text = match name {
            b"residency" => residency.map(|r| r.word().to_owned()),
            b"content-id" => content.as_ref().and_then(content_id),
            b"state" => Some(state(pin, content.as_ref(), residency).to_owned()),
            _ => None,
        };
        Ok(text.ok_or(Errno::NoData)?.into_bytes())
    }

    fn residency(&self, volume: u32, content: &Content) -> Residency {
        match content {
            Content::Inline(_) | Content::Pending { .. } => Residency::Local,
            Content::Chunks(_) | Content::BlockList { .. } => {
                let volume = self.volume(volume);
                let Ok(chunks) = volume.chunks(content) else { return Residency::Online };
                match volume.blobs_ahead(content, 0, content.size()).len() {
                    0 => Residency::Local,
                    missing if missing >= chunks.len() => Residency::Online,
                    _ => Residency::Partial,
                }
            }
        }
    }
}

/// Links, fifos and the like hold no attributes of users.
fn may_hold(kind: Kind) -> Result<(), Errno> {
    if matches!(kind, Kind::File | Kind::Directory) { Ok(()) } else { Err(Errno::NotPermitted) }
}

fn pin_of(value: &[u8]) -> Option<Pin> {
    match value {
        b"auto" => Some(Pin::Auto),
        b"keep" => Some(Pin::Keep),
        b"online" => Some(Pin::Online),
        _ => None,
    }
}

fn word_of(pin: Pin) -> &'static str {
    match pin {
        Pin::Auto => "auto",
        Pin::Keep => "keep",
        Pin::Online => "online",
    }
}

/// The badge that follows from what is known without asking the sync.
fn state(pin: Pin, content: Option<&Content>, residency: Option<Residency>) -> &'static str {
    match (content, residency) {
        (Some(Content::Pending { .. }), _) => "pending",
        (_, Some(Residency::Online | Residency::Partial)) => "online",
        _ if pin == Pin::Keep => "kept",
        _ => "synced",
    }
}

/// Names the bytes of a sealed content: equal ids, equal bytes.
fn content_id(content: &Content) -> Option<String> {
    let mut hasher = blake3::Hasher::new();
    match content {
        Content::Pending { .. } => return None,
        Content::BlockList { list, .. } => return Some(list.id.to_string()),
        Content::Chunks(chunks) => {
            hasher.update(b"chunks");
            for chunk in chunks.iter() {
                hasher.update(&chunk.id.0);
            }
        }
        Content::Inline(bytes) => {
            hasher.update(b"inline");
            hasher.update(bytes);
        }
    }
    Some(hasher.finalize().to_hex().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_users_are_stored() {
        assert_eq!(stored_name(b"user.x"), Ok(()));
        assert_eq!(stored_name(b"user."), Err(Errno::Invalid));
        for other in [&b"security.capability"[..], b"system.posix_acl_access", b"trusted.x", b"x"] {
            assert_eq!(stored_name(other), Err(Errno::NotSupported));
        }
        assert_eq!(stored_name(&[b'u'; 256]), Err(Errno::Range));
    }

    #[test]
    fn the_badge_says_the_most_important_thing() {
        let pending = Content::Pending { size: 1, generation: 1 };
        assert_eq!(state(Pin::Keep, Some(&pending), Some(Residency::Local)), "pending");
        assert_eq!(state(Pin::Keep, None, Some(Residency::Online)), "online");
        assert_eq!(state(Pin::Keep, None, Some(Residency::Local)), "kept");
        assert_eq!(state(Pin::Auto, None, None), "synced");
        assert_eq!(content_id(&pending), None);
        assert_ne!(content_id(&Content::empty()), content_id(&Content::Inline(b"x"[..].into())));
    }
}
