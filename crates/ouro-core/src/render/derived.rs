//! Names for what lost its own: `base (conflict from DEVICE 2026-11-22 14.30).ext`, then `-2`, `-3` behind the bracket.
//!
//! Names whose derived names could meet form one *stem*: the name without such a suffix and all that carry one on it. Everything that
//! decides a derived name is in its stem, so a stem is all that must be read to find one.

use super::Devices;
use crate::id::Version;
use crate::name::{NAME_BYTES_MAX, Name};
use crate::time::minute;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// What every derived name contains, before the device.
pub const COPY_MARK: &str = " (conflict from ";
pub(crate) const MARK: &[u8] = COPY_MARK.as_bytes();
/// Stands for the time of what is not sealed yet.
const UNSYNCED: &str = "unsynced";
const EXTENSION_BYTES_MAX: usize = 16;
const DEVICE_BYTES_MAX: usize = 40;
/// Bases are cut to this where the whole does not fit.
const BASE_BYTES_MAX: usize = 120;
/// A cut may fall this much earlier, at a character's beginning.
const CHARACTER_BYTES_MAX: usize = 4;
/// Room for `-2` and on.
const NUMBER_BYTES_MAX: usize = 12;

/// Names whose derived names could meet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stem {
    base: Vec<u8>,
    extension: Vec<u8>,
    long: bool,
}

/// A derived name but for its number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Derivation {
    head: Vec<u8>,
    extension: Vec<u8>,
}

impl Stem {
    pub(crate) fn of(name: &Name) -> Stem {
        let (base, extension) = split(name.as_bytes());
        let long = base.len() + CHARACTER_BYTES_MAX > BASE_BYTES_MAX;
        Stem { base: cut(base, BASE_BYTES_MAX).to_vec(), extension: extension.to_vec(), long }
    }

    /// The stem of a derived name; `None` if the name cannot be one.
    pub(crate) fn of_derived(name: &Name) -> Option<Stem> {
        let bytes = name.as_bytes();
        if !contains_mark(bytes) {
            return None;
        }
        let (base, extension) = extension(bytes);
        strip(base, extension).map(|_| Stem::of(name))
    }

    /// The one name without a suffix in it, unless names were cut.
    pub(crate) fn plain(&self) -> Option<Name> {
        let bytes = [self.base.as_slice(), &self.extension].concat();
        if self.long { None } else { Name::new(&bytes).ok() }
    }

    /// What all other names in it begin with.
    pub(crate) fn prefix(&self) -> Vec<u8> {
        if self.long { self.base.clone() } else { [self.base.as_slice(), MARK].concat() }
    }
}

impl Derivation {
    /// The name of what `version` wrote, next to something that keeps `natural`.
    pub(crate) fn new(natural: &Name, version: Version, devices: &dyn Devices) -> Derivation {
        let (base, extension) = split(natural.as_bytes());
        let device = clean(&devices.name(version.device));
        let when = if version.is_pending() { String::from(UNSYNCED) } else { minute(version.hlc.millis()) };
        let suffix = format!(" (conflict from {device} {when})");
        let room = NAME_BYTES_MAX - NUMBER_BYTES_MAX - suffix.len() - extension.len();
        let base = if base.len() <= room { base } else { cut(base, BASE_BYTES_MAX) };
        Derivation { head: [base, suffix.as_bytes()].concat(), extension: extension.to_vec() }
    }

    /// The name with a number, from 1 (not written).
    pub(crate) fn numbered(&self, number: usize) -> Name {
        let number = if number == 1 { String::new() } else { format!("-{number}") };
        let bytes = [self.head.as_slice(), number.as_bytes(), &self.extension].concat();
        Name::new(&bytes).expect("a name with a suffix that fits is a name")
    }
}

pub(crate) fn contains_mark(name: &[u8]) -> bool {
    find_mark(name).is_some()
}

fn find_mark(name: &[u8]) -> Option<usize> {
    name.windows(MARK.len()).rposition(|w| w == MARK)
}

/// Splits a name into what is before all its suffixes, and its extension.
fn split(name: &[u8]) -> (&[u8], &[u8]) {
    let (mut base, extension) = extension(name);
    while let Some(stripped) = strip(base, extension) {
        base = stripped;
    }
    (base, extension)
}

/// Splits off the last extension: a dot, not in front, and up to 15 bytes without blanks and brackets.
fn extension(name: &[u8]) -> (&[u8], &[u8]) {
    match name.iter().rposition(|&b| b == b'.') {
        Some(dot)
            if dot > 0
                && (2..=EXTENSION_BYTES_MAX).contains(&(name.len() - dot))
                && !name[dot..].iter().any(|b| b" ()".contains(b)) =>
        {
            name.split_at(dot)
        }
        _ => (name, &[]),
    }
}

/// Takes one suffix off the base of a name.
fn strip<'a>(base: &'a [u8], after: &[u8]) -> Option<&'a [u8]> {
    let at = find_mark(base).filter(|&at| at > 0)?;
    let rest = &base[at + MARK.len()..];
    let close = rest.iter().position(|&b| b == b')')?;
    let (inside, behind) = (&rest[..close], &rest[close + 1..]);
    let numbered = match behind {
        [] => true,
        [b'-', digits @ ..] => !digits.is_empty() && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    let timed = inside.ends_with(UNSYNCED.as_bytes()) || (inside.len() > 16 && is_minute(&inside[inside.len() - 16..]));
    // No derived name has its suffix behind the extension: such a name is taken as it is, for its stem would be another's.
    let in_place = !after.is_empty() || extension(&base[..at]).1.is_empty();
    (numbered && timed && in_place).then_some(&base[..at])
}

fn is_minute(bytes: &[u8]) -> bool {
    bytes.iter().zip(b"dddd-dd-dd dd.dd").all(|(b, p)| if *p == b'd' { b.is_ascii_digit() } else { b == p })
}

/// At most `max` bytes from the front, not cutting a UTF-8 character.
fn cut(bytes: &[u8], max: usize) -> &[u8] {
    if bytes.len() <= max {
        return bytes;
    }
    let earliest = max - (CHARACTER_BYTES_MAX - 1);
    let end = (earliest..=max).rev().find(|&i| bytes[i] & 0xc0 != 0x80).unwrap_or(max);
    &bytes[..end]
}

/// A device's name as it may stand in a suffix.
fn clean(device: &str) -> String {
    let shown: String = device
        .chars()
        .map(|c| if c.is_control() || matches!(c, '/' | '(' | ')' | '\\' | ':') { '_' } else { c })
        .collect();
    let shown = shown.trim();
    let end = cut(shown.as_bytes(), DEVICE_BYTES_MAX).len();
    let shown = shown.get(..end).unwrap_or_default().trim_end();
    String::from(if shown.is_empty() { "device" } else { shown })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{DeviceNo, Hlc, Seq};

    struct One(&'static str);
    impl Devices for One {
        fn name(&self, _: DeviceNo) -> String {
            String::from(self.0)
        }
    }

    fn derive(natural: &str, device: &'static str, number: usize) -> String {
        let version = Version { hlc: Hlc::from_millis(1_795_357_800_000), device: DeviceNo(7), seq: Seq(1) };
        let natural = Name::new(natural.as_bytes()).unwrap();
        Derivation::new(&natural, version, &One(device)).numbered(number).display()
    }

    #[test]
    fn the_suffix_stands_before_the_extension() {
        assert_eq!(derive("a.txt", "desk", 1), "a (conflict from desk 2026-11-22 14.30).txt");
        assert_eq!(derive("a.txt", "desk", 2), "a (conflict from desk 2026-11-22 14.30)-2.txt");
        assert_eq!(derive("Makefile", "desk", 1), "Makefile (conflict from desk 2026-11-22 14.30)");
        assert_eq!(derive(".bashrc", "a/b(c)", 1), ".bashrc (conflict from a_b_c_ 2026-11-22 14.30)");
        assert_eq!(derive("a", "", 1), "a (conflict from device 2026-11-22 14.30)");
    }

    #[test]
    fn a_name_never_carries_two_suffixes() {
        for natural in ["a.txt", "Makefile", "x.tar.gz", ".bashrc", "日本.txt"] {
            for number in [1, 2, 17] {
                let once = derive(natural, "laptop", number);
                assert_eq!(derive(&once, "desk", 1), derive(natural, "desk", 1));
            }
        }
    }

    #[test]
    fn long_names_are_cut_at_a_character_and_stay_in_their_stem() {
        for natural in
            ["é".repeat(127), format!("a{}.txt", "é".repeat(120)), "x".repeat(255), "€".repeat(85), "y".repeat(118)]
        {
            let shown = derive(&natural, "a device with a name that is longer than anyone would give", 12);
            assert!(shown.len() <= NAME_BYTES_MAX);
            assert!(!shown.contains('\u{fffd}'));
            let derived = Name::new(shown.as_bytes()).unwrap();
            assert_eq!(Stem::of_derived(&derived), Some(Stem::of(&Name::new(natural.as_bytes()).unwrap())));
        }
    }

    #[test]
    fn an_ordinary_name_is_no_derived_name() {
        for name in [
            "a",
            "a (conflict from b)",
            "a (conflict from b 2026-11-22 14.30) x",
            " (conflict from b 2026-11-22 14.30)",
        ] {
            assert_eq!(Stem::of_derived(&Name::new(name.as_bytes()).unwrap()), None);
        }
    }
}
