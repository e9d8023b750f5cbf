//! How moments are written for people.

use alloc::format;
use alloc::string::String;

const DAY_MS: u64 = 86_400_000;

/// Milliseconds since 1970 as UTC date and time to the minute, fit for a file name: `2026-11-22 14.30`. Years beyond 9999 are shown
/// as the last minute of 9999.
pub fn minute(millis: u64) -> String {
    const LAST_MS: u64 = 253_402_300_799_999;
    let millis = millis.min(LAST_MS);
    let (year, month, day) = civil(millis / DAY_MS);
    let minutes = millis % DAY_MS / 60_000;
    format!("{year:04}-{month:02}-{day:02} {:02}.{:02}", minutes / 60, minutes % 60)
}

/// Days since 1970 as year, month and day of the Gregorian calendar. Counts in eras of 400 years whose years begin in March, so that
/// the leap day is the last of its year.
fn civil(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let era = z / 146_097;
    let day_of_era = z % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
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
}
