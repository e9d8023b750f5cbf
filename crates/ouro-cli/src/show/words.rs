//! Single values for people.

use ouro_core::time::civil;
use ouro_engine::api::{PathState, PinWish};

/// A size with three digits at most: `5 B`, `2.0 KiB`, `731 MiB`.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(value < 99.95);
    format!("{value:.digits$} {}", UNITS[unit])
}

/// A number and its noun.
pub(super) fn count(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// Seconds since 1970 as date and time, UTC.
pub(super) fn date(seconds: i64) -> String {
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}", rest / 3600, rest % 3600 / 60)
}

/// Without control characters: a name must not be able to command the terminal.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

pub(super) fn state(state: PathState) -> &'static str {
    match state {
        PathState::Synced => "synced",
        PathState::Online => "online",
        PathState::Kept => "kept",
        PathState::Pending => "pending",
        PathState::Uploading => "uploading",
        PathState::Downloading => "downloading",
        PathState::Conflict => "conflict",
        PathState::Error => "error",
        PathState::Ignored => "ignored",
    }
}

pub(super) fn wish(wish: PinWish) -> &'static str {
    match wish {
        PinWish::Auto => "auto",
        PinWish::Keep => "keep",
        PinWish::Online => "online",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits_at_most() {
        for (count, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (102_399, "100 KiB"),
            (1_048_575, "1.0 MiB"),
            (5_000_000_000, "4.7 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn dates_are_right_on_both_sides_of_leap_days_and_of_1970() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00"),
            (-1, "1969-12-31 23:59"),
            (951_782_400, "2000-02-29 00:00"),
            (951_868_800, "2000-03-01 00:00"),
            (1_795_357_805, "2026-11-22 14:30"),
            (4_107_542_400, "2100-03-01 00:00"),
            (-62_135_596_800, "0001-01-01 00:00"),
        ] {
            assert_eq!(date(seconds), text);
        }
    }

    #[test]
    fn one_is_singular() {
        assert_eq!((count(1, "file"), count(0, "file")), ("1 file".into(), "0 files".into()));
    }
}
