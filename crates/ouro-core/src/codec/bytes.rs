//! Writing and reading of numbers and byte strings.

use super::error::{DecodeError, invalid};
use alloc::vec::Vec;

/// Appends values to bytes.
#[derive(Clone, Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// An empty one.
    pub fn new() -> Writer {
        Writer::default()
    }

    /// An empty one with room for `bytes` bytes.
    pub fn with_capacity(bytes: usize) -> Writer {
        Writer(Vec::with_capacity(bytes))
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    /// An unsigned number as LEB128, 1 to 10 bytes.
    pub fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// A signed number, small if it is near 0.
    pub fn zigzag(&mut self, value: i64) {
        self.varint(((value << 1) ^ (value >> 63)) as u64);
    }

    /// Bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Bytes with their length in front.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.varint(bytes.len() as u64);
        self.raw(bytes);
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What was written.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// What was written.
    pub fn into_vec(self) -> Vec<u8> {
        self.0
    }
}

/// Takes values from bytes; never panics, whatever they are.
#[derive(Clone, Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Reads from the beginning of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader(bytes)
    }

    /// Bytes not yet read.
    pub fn remaining(&self) -> usize {
        self.0.len()
    }

    /// One byte.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        let (&first, rest) = self.0.split_first().ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(first)
    }

    /// An unsigned number in its shortest form.
    ///
    /// # Errors
    /// [`DecodeError`] if it is cut, longer than needed, or beyond 64 bits.
    pub fn varint(&mut self) -> Result<u64, DecodeError> {
        let first = self.u8()?;
        if first < 0x80 {
            return Ok(u64::from(first));
        }
        let mut value = u64::from(first & 0x7f);
        let mut shift = 7;
        loop {
            let byte = self.u8()?;
            if shift == 63 && byte > 1 {
                return Err(DecodeError::TooLarge { what: "varint" });
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return if byte == 0 { invalid("varint longer than needed") } else { Ok(value) };
            }
            shift += 7;
        }
    }

    /// An unsigned number of at most 32 bits.
    ///
    /// # Errors
    /// As [`Reader::varint`], and [`DecodeError::TooLarge`].
    pub fn varint32(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        u32::try_from(self.varint()?).map_err(|_| DecodeError::TooLarge { what })
    }

    /// How many things follow, each at least `bytes_min` (not 0) bytes long: never more than the rest of the input can hold.
    ///
    /// # Errors
    /// As [`Reader::varint`], and [`DecodeError::Truncated`] if so many cannot follow.
    pub fn count(&mut self, bytes_min: usize) -> Result<usize, DecodeError> {
        let count = self.varint()?;
        if count > (self.0.len() / bytes_min.max(1)) as u64 {
            return Err(DecodeError::Truncated);
        }
        Ok(count as usize)
    }

    /// A signed number.
    ///
    /// # Errors
    /// As [`Reader::varint`].
    pub fn zigzag(&mut self) -> Result<i64, DecodeError> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// The next `len` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn raw(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    /// The next `N` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(*taken)
    }

    /// Bytes with their length in front.
    ///
    /// # Errors
    /// [`DecodeError`] if the length is wrong or the bytes are cut.
    pub fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.count(1)?;
        self.raw(len)
    }

    /// Ends reading.
    ///
    /// # Errors
    /// [`DecodeError::Invalid`] if bytes are left.
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.0.is_empty() { Ok(()) } else { invalid("trailing bytes") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_whatever_their_size() {
        let numbers = [0, 1, 127, 128, 300, u64::from(u32::MAX), 1 << 62, 1 << 63, u64::MAX];
        let mut writer = Writer::new();
        for n in numbers {
            writer.varint(n);
            writer.zigzag(n as i64);
        }
        let mut reader = Reader::new(writer.as_bytes());
        for n in numbers {
            assert_eq!(reader.varint(), Ok(n));
            assert_eq!(reader.zigzag(), Ok(n as i64));
        }
        assert_eq!(reader.finish(), Ok(()));
    }

    #[test]
    fn a_varint_has_one_form_only() {
        assert_eq!(Reader::new(&[0x80, 0x00]).varint(), invalid("varint longer than needed"));
        assert_eq!(Reader::new(&[0xff; 9]).varint(), Err(DecodeError::Truncated));
        let mut eleven = [0xff; 11];
        eleven[10] = 1;
        assert!(Reader::new(&eleven).varint().is_err());
        let mut beyond = [0xff; 10];
        beyond[9] = 2;
        assert_eq!(Reader::new(&beyond).varint(), Err(DecodeError::TooLarge { what: "varint" }));
    }

    #[test]
    fn a_count_beyond_the_input_is_refused_before_anything_is_allocated() {
        let mut writer = Writer::new();
        writer.varint(u64::MAX);
        assert_eq!(Reader::new(writer.as_bytes()).count(1), Err(DecodeError::Truncated));
        assert_eq!(Reader::new(writer.as_bytes()).bytes(), Err(DecodeError::Truncated));
    }
}
