//! How moments are written for people.

use alloc::format;
use alloc::string::String;

const DAY_MS: u64 = 86_400_000;

/// Milliseconds since 1970 as UTC date and time to the minute, fit for a file name: `2026-11-22 14.30`. Years beyond 9999 are shown
/// as the last minute of 9999.
pub fn minute(millis: u64) -> String {
    const LAST_MS: u64 = 253_402_300_799_999;
    let millis = millis.min(LAST_MS);
    let (year, month, day) = civil((millis / DAY_MS) as i64);
    let minutes = millis % DAY_MS / 60_000;
    format!("{year:04}-{month:02}-{day:02} {:02}.{:02}", minutes / 60, minutes % 60)
}

/// Days since 1970 as year, month and day of the Gregorian calendar; negative ones lie before. Counts in eras of 400 years whose years
/// begin in March, so that the leap day is the last of its year (H. Hinnant, "chrono-compatible low-level date algorithms").
pub fn civil(days: i64) -> (i64, u32, u32) {
    let z = days + 719_468;
    let (era, day_of_era) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month as u32, day as u32)
}

/// Days from 1970 to a day of the Gregorian calendar from 1970 to 9999: the other way round than [`civil`]. `None` if there is no such day.
pub fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let shifted_year = year - u64::from(month <= 2);
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted + 2) / 5 + day - 1;
    let (era, year_of_era) = (shifted_year / 400, shifted_year % 400);
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = (era * 146_097 + day_of_era).checked_sub(719_468)?;
    // The 30th of February would be a day of March.
    let (found_year, found_month, found_day) = civil(days.cast_signed());
    let same = (found_year.cast_unsigned(), u64::from(found_month), u64::from(found_day)) == (year, month, day);
    same.then_some(days)
}

/// Milliseconds since 1970 as RFC 3339 in UTC: `2026-11-22T14:30:05Z`.
pub fn rfc3339(millis: u64) -> String {
    let seconds = millis / 1_000;
    let (year, month, day) = civil((seconds / 86_400) as i64);
    let rest = seconds % 86_400;
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3_600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_are_written_in_utc() {
        assert_eq!(minute(0), "1970-01-01 00.00");
        assert_eq!(minute(1_795_357_800_000), "2026-11-22 14.30");
        assert_eq!(minute(951_782_400_000), "2000-02-29 00.00");
        assert_eq!(minute(951_782_399_999), "2000-02-28 23.59");
        assert_eq!(minute(u64::MAX), "9999-12-31 23.59");
    }

    #[test]
    fn moments_are_written_for_machines_and_days_before_1970_are_days() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(1_795_357_805_999), "2026-11-22T14:30:05Z");
        assert_eq!(civil(-1), (1969, 12, 31));
    }
}
