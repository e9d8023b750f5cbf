//! Columns of times: seconds as differences from the row above, nanoseconds as they are.

use crate::codec::{DecodeError, Reader, Writer};

const NANOS: i64 = 1_000_000_000;

/// Writes times, given in nanoseconds: a column of seconds, then one of nanoseconds.
pub(super) fn write_times(out: &mut Writer, times: impl Iterator<Item = i64> + Clone) {
    let mut before = 0;
    for time in times.clone() {
        let seconds = time.div_euclid(NANOS);
        out.zigzag(seconds - before);
        before = seconds;
    }
    for time in times {
        out.raw(&(time.rem_euclid(NANOS) as u32).to_le_bytes());
    }
}

/// Reads `count` times and hands them on in order.
pub(super) fn read_times(
    input: &mut Reader<'_>,
    count: usize,
    mut each: impl FnMut(usize, i64),
) -> Result<(), DecodeError> {
    // The columns are read side by side: one pass finds where the second begins.
    let mut seconds_column = input.clone();
    for _ in 0..count {
        input.zigzag()?;
    }
    let nanos_column = input.raw(count.checked_mul(4).ok_or(DecodeError::Truncated)?)?;
    let mut seconds = 0i64;
    for (row, nanos) in nanos_column.as_chunks::<4>().0.iter().enumerate() {
        seconds = seconds.checked_add(seconds_column.zigzag()?).ok_or(DecodeError::TooLarge { what: "time" })?;
        let nanos = u32::from_le_bytes(*nanos);
        if i64::from(nanos) >= NANOS {
            return Err(DecodeError::Invalid { what: "nanoseconds" });
        }
        let time = i128::from(seconds) * i128::from(NANOS) + i128::from(nanos);
        each(row, i64::try_from(time).map_err(|_| DecodeError::TooLarge { what: "time" })?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn times_come_back_even_at_the_ends_of_time() {
        let times = [0, -1, i64::MIN, i64::MAX, 1_700_000_000_123_456_789, -999_999_999, -1_000_000_000];
        let mut out = Writer::new();
        write_times(&mut out, times.iter().copied());
        let mut input = Reader::new(out.as_bytes());
        let mut back = Vec::new();
        read_times(&mut input, times.len(), |_, time| back.push(time)).expect("just written");
        assert_eq!(back, times);
        assert_eq!(input.finish(), Ok(()));
    }
}
