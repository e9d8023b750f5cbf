//! How people name a state of the past: a moment, a commit, a snapshot's name.
//!
//! One grammar for every verb and for `.snapshots/@…`:
//!
//! | text | means |
//! | --- | --- |
//! | `now` | everything so far |
//! | `2h ago`, `90 min ago`, `@2h-ago`; units s, m, h, d, w | everything made until then |
//! | `yesterday` | `1d ago` |
//! | `2026-11-22T14:30:05Z`, `2026-11-22 14:30+01:00`, `2026-11-22` | everything made until then; UTC where no zone is given |
//! | `2026-11-22T14.30.05Z`, `2026-11-22T14.30.05Z.2` | the commit of that name in `.snapshots` |
//! | `1827364512.17`, `18.17`, `desk.17` | a commit: its device's number (or how it begins) or name, and its place in that log |
//! | anything else | the snapshot of that name |

use crate::name::NAME_BYTES_MAX;
use crate::time::{days, rfc3339};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

const SECOND_MS: u64 = 1_000;
const DAY_S: u64 = 86_400;
/// Spans are shorter than this: about 35,000 years.
const SPAN_S_MAX: u64 = 1 << 40;
/// Commits of one second that have names.
pub const SAME_SECOND_MAX: usize = 1000;

/// A state of the past as a person named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// Everything made up to the end of this millisecond since 1970 (UTC).
    Moment {
        /// Milliseconds.
        millis: u64,
    },
    /// A commit by its name in `.snapshots`.
    Shelf {
        /// Its second since 1970 (UTC).
        second: u64,
        /// Which of that second, from 1.
        ordinal: usize,
    },
    /// A commit by its place in a log.
    Commit {
        /// The device's number, the first digits of it, or its name.
        device: String,
        /// Place in its log.
        seq: u64,
    },
    /// A snapshot by its name.
    Name(String),
}

/// Why a text names no state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadWhen {
    /// What was given.
    pub text: String,
}

impl core::fmt::Display for BadWhen {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "{:?} names no time: write for example \"2h ago\", {}, a commit as `ourobox log` shows it, or a snapshot's name",
            self.text,
            rfc3339(1_795_357_805_000)
        )
    }
}

impl core::error::Error for BadWhen {}

impl When {
    /// Reads what a person wrote at `now_ms`.
    ///
    /// # Errors
    /// [`BadWhen`] for an empty text, and for one that begins like a time or with `@` and is none.
    pub fn parse(text: &str, now_ms: u64) -> Result<When, BadWhen> {
        let bad = || BadWhen { text: text.to_string() };
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return Err(bad());
        }
        match trimmed {
            "now" => return Ok(When::Moment { millis: u64::MAX >> 16 }),
            "yesterday" => return Ok(When::Moment { millis: now_ms.saturating_sub(DAY_S * SECOND_MS) }),
            _ => {}
        }
        if let Some(seconds) = parse_ago(trimmed) {
            return Ok(When::Moment { millis: now_ms.saturating_sub(seconds.saturating_mul(SECOND_MS)) });
        }
        if let Some((second, ordinal)) = parse_shelf(trimmed) {
            return Ok(When::Shelf { second, ordinal });
        }
        if let Some(millis) = parse_moment(trimmed) {
            return Ok(When::Moment { millis });
        }
        if trimmed.starts_with('@') || looks_like_date(trimmed) {
            return Err(bad());
        }
        if let Some((device, seq)) = trimmed.rsplit_once('.')
            && let Some(seq) = number(seq).filter(|seq| *seq > 0)
            && !device.is_empty()
        {
            return Ok(When::Commit { device: device.to_string(), seq });
        }
        Ok(When::Name(trimmed.to_string()))
    }
}

/// The name of the snapshot that a commit with this message is: the first line, with a dash for what a file name cannot hold, cut to 255
/// bytes. `None` if that line is empty: then the rest, if there is any, is a remark about an ordinary commit.
pub fn snapshot_name(message: &str) -> Option<String> {
    let title = message.lines().next().unwrap_or_default().trim();
    let named: String = title.chars().map(|c| if c == '/' || c.is_control() { '-' } else { c }).collect();
    let end = (0..=named.len().min(NAME_BYTES_MAX)).rev().find(|&at| named.is_char_boundary(at)).unwrap_or(0);
    let name = named.get(..end).unwrap_or_default().trim_end();
    let hidden = name.starts_with(['.', '@']);
    (!name.is_empty() && !hidden).then(|| name.to_string())
}

/// The remark of a message that names no snapshot, in one line; empty if there is none.
pub fn remark(message: &str) -> &str {
    message.trim_start_matches('\n').lines().next().unwrap_or_default()
}

/// A decimal number without sign and leading blanks.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

/// Seconds that `2h ago`, `@2h-ago` and the like mean.
pub fn parse_ago(text: &str) -> Option<u64> {
    let text = text.strip_prefix('@').unwrap_or(text);
    let span = text.strip_suffix("ago")?;
    let span = span.strip_suffix(['-', ' '])?.trim_end();
    let digits = span.find(|c: char| !c.is_ascii_digit())?;
    let (count, unit) = span.split_at(digits);
    let unit = match unit.trim_start().trim_start_matches('-') {
        "s" | "sec" | "secs" | "second" | "seconds" => 1,
        "m" | "min" | "mins" | "minute" | "minutes" => 60,
        "h" | "hour" | "hours" => 3_600,
        "d" | "day" | "days" => DAY_S,
        "w" | "week" | "weeks" => 7 * DAY_S,
        _ => return None,
    };
    number(count)?.checked_mul(unit).filter(|seconds| *seconds < SPAN_S_MAX)
}

/// The name in `.snapshots` of the commit that is the `ordinal`-th (from 1) of a second since 1970: `2026-11-22T14.30.05Z`, the second
/// one `2026-11-22T14.30.05Z.2`.
pub fn shelf_name(second: u64, ordinal: usize) -> String {
    let mut name = rfc3339(second.saturating_mul(SECOND_MS)).replace(':', ".");
    if ordinal > 1 {
        name.push_str(&format!(".{ordinal}"));
    }
    name
}

/// The second and the ordinal (from 1) that a name means. Only the one spelling that [`shelf_name`] gives is taken.
pub fn parse_shelf(text: &str) -> Option<(u64, usize)> {
    let (moment, ordinal) = match text.split_once("Z.") {
        Some((moment, ordinal)) => {
            (moment, usize::try_from(number(ordinal)?).ok().filter(|n| (2..=SAME_SECOND_MAX).contains(n))?)
        }
        None => (text.strip_suffix('Z')?, 1),
    };
    let numbers: Vec<u64> = moment.split(['-', 'T', '.']).map(number).collect::<Option<_>>()?;
    let &[year, month, day, hour, minute, second] = numbers.as_slice() else { return None };
    let second = day_seconds(year, month, day)? + clock_seconds(hour, minute, second)?;
    (shelf_name(second, ordinal) == text).then_some((second, ordinal))
}

fn looks_like_date(text: &str) -> bool {
    let begins = text.as_bytes().get(..5);
    begins.is_some_and(|b| b[..4].iter().all(u8::is_ascii_digit) && b[4] == b'-')
}

/// The last millisecond that a date, or a date and time, means: a whole second means all of it, since commits are shown by their seconds.
fn parse_moment(text: &str) -> Option<u64> {
    let (date, rest) = match text.get(10..11) {
        Some("T" | "t" | " ") => (text.get(..10)?, text.get(11..)?),
        None if text.len() == 10 => (text, "00:00Z"),
        _ => return None,
    };
    let mut parts = date.splitn(3, '-').map(number);
    let mut next = || parts.next().flatten();
    let midnight = day_seconds(next()?, next()?, next()?)?;
    let zone_at = rest.find(['Z', 'z', '+', '-']).unwrap_or(rest.len());
    let (clock, zone) = rest.split_at(zone_at);
    let (clock, fraction_ms) = match clock.split_once('.') {
        Some((clock, fraction)) => (clock, fraction_millis(fraction)?),
        None => (clock, SECOND_MS - 1),
    };
    let mut fields = clock.splitn(3, ':');
    let (hour, minute) = (number(fields.next()?)?, number(fields.next()?)?);
    let second = fields.next().map_or(Some(0), number)?;
    let local = midnight + clock_seconds(hour, minute, second)?;
    let utc = match zone {
        "" | "Z" | "z" => local,
        _ => {
            let (hours, minutes) = zone.get(1..)?.split_once(':')?;
            let offset = clock_seconds(number(hours)?, number(minutes)?, 0)?;
            if zone.starts_with('+') { local.checked_sub(offset)? } else { local + offset }
        }
    };
    Some(utc * SECOND_MS + fraction_ms)
}

fn fraction_millis(fraction: &str) -> Option<u64> {
    number(fraction)?;
    let padded = format!("{fraction:0<3}");
    number(padded.get(..3)?)
}

fn clock_seconds(hour: u64, minute: u64, second: u64) -> Option<u64> {
    (hour < 24 && minute < 60 && second < 60).then_some(hour * 3_600 + minute * 60 + second)
}

fn day_seconds(year: u64, month: u64, day: u64) -> Option<u64> {
    let day = days(year, month, day)?;
    day.checked_mul(DAY_S)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_795_357_805_250;

    fn moment(text: &str) -> u64 {
        match When::parse(text, NOW_MS) {
            Ok(When::Moment { millis }) => millis,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn spans_back_are_understood_as_people_write_them_and_as_names_in_snapshots() {
        for text in ["2h ago", "2 hours ago", "@2h-ago", "2h-ago", "120 min ago", "@120min-ago"] {
            assert_eq!(moment(text), NOW_MS - 7_200_000, "{text}");
        }
        assert_eq!(moment("yesterday"), NOW_MS - 86_400_000);
        assert_eq!(moment("3w ago"), NOW_MS - 21 * 86_400_000);
        assert_eq!(moment("90s ago"), NOW_MS - 90_000);
        assert!(moment("now") > NOW_MS);
        for text in ["@min-ago", "@5min", "@5years-ago", "@99999999999999999999s-ago", "", "  ", "@"] {
            assert!(When::parse(text, NOW_MS).is_err(), "{text}");
        }
    }

    #[test]
    fn moments_mean_the_whole_of_the_second_that_they_name() {
        assert_eq!(moment("2026-11-22T14:30:05Z"), 1_795_357_805_999);
        assert_eq!(moment("2026-11-22 14:30:05"), 1_795_357_805_999);
        assert_eq!(moment("2026-11-22T15:30:05+01:00"), 1_795_357_805_999);
        assert_eq!(moment("2026-11-22T09:00:05-05:30"), 1_795_357_805_999);
        assert_eq!(moment("2026-11-22T14:30:05.25Z"), 1_795_357_805_250);
        assert_eq!(moment("2026-11-22 14:30"), 1_795_357_800_999);
        assert_eq!(moment("2026-11-22"), 1_795_305_600_999);
        for text in
            ["2026-13-22", "2026-11-22T25:00Z", "2026-11-22T14", "2026-02-30", "2026-11-22x", "2026-11-22T14:30+1"]
        {
            assert!(When::parse(text, NOW_MS).is_err(), "{text}");
        }
    }

    #[test]
    fn commits_and_names_are_told_apart() {
        let commit = |device: &str, seq| Ok(When::Commit { device: device.to_string(), seq });
        assert_eq!(When::parse("1827364512.17", NOW_MS), commit("1827364512", 17));
        assert_eq!(When::parse("desk.17", NOW_MS), commit("desk", 17));
        for name in ["before the move", "v1.0-rc", "17", "release.", "a.0"] {
            assert_eq!(When::parse(name, NOW_MS), Ok(When::Name(name.to_string())), "{name}");
        }
        let shelf = |ordinal| Ok(When::Shelf { second: 1_795_357_805, ordinal });
        assert_eq!(When::parse("2026-11-22T14.30.05Z", NOW_MS), shelf(1));
        assert_eq!(When::parse("2026-11-22T14.30.05Z.2", NOW_MS), shelf(2));
    }

    #[test]
    fn the_first_line_of_a_message_is_a_snapshots_name() {
        assert_eq!(snapshot_name("before the move"), Some("before the move".to_string()));
        assert_eq!(snapshot_name(" 3/4 done \nand more"), Some("3-4 done".to_string()));
        assert_eq!(snapshot_name(&"é".repeat(200)), Some("é".repeat(127)));
        for no_name in ["", "\nrestored a", "  ", ".hidden", "@5min-ago"] {
            assert_eq!(snapshot_name(no_name), None, "{no_name}");
        }
        assert_eq!(remark("\nrestored a\nmore"), "restored a");
        assert_eq!(remark("title\nmore"), "title");
    }

    #[test]
    fn commits_are_named_in_utc_and_found_by_exactly_that_name() {
        assert_eq!(shelf_name(1_795_357_805, 1), "2026-11-22T14.30.05Z");
        assert_eq!(parse_shelf("2026-11-22T14.30.05Z.2"), Some((1_795_357_805, 2)));
        for day in 0..40_000 {
            let second = day * DAY_S + day * 37 % DAY_S;
            assert_eq!(parse_shelf(&shelf_name(second, 1)), Some((second, 1)));
        }
        for no_name in [
            "2026-11-22T14.30.05",
            "2026-11-22T14.30.05Z.1",
            "2026-11-22T14.30.05Z.02",
            "2026-2-22T14.30.05Z",
            "2026-02-30T14.30.05Z",
            "2026-11-22 14.30.05Z",
            "x",
        ] {
            assert_eq!(parse_shelf(no_name), None);
        }
    }
}
