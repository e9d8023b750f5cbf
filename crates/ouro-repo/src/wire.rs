//! Small encodings inside sealed parts, on top of `ouro_core::codec`: each value has exactly one encoding, and reading never panics nor
//! allocates more than the bytes can hold.

use ouro_core::codec::{read_locator, write_locator};
use ouro_core::content::BlobRef;
use ouro_core::id::BlobId;

pub(crate) use ouro_core::codec::{DecodeError, Reader, Writer};

/// Fewest bytes that a blob reference takes.
pub(crate) const BLOB_BYTES_MIN: usize = 32 + 1 + 1;

/// Shorthand for [`DecodeError::Invalid`].
pub(crate) fn invalid(what: &'static str) -> DecodeError {
    DecodeError::Invalid { what }
}

pub(crate) fn write_flag(to: &mut Writer, flag: bool) {
    to.u8(u8::from(flag));
}

pub(crate) fn read_flag(from: &mut Reader<'_>) -> Result<bool, DecodeError> {
    match from.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(invalid("flag")),
    }
}

pub(crate) fn read_u32(from: &mut Reader<'_>) -> Result<u32, DecodeError> {
    Ok(u32::from_le_bytes(from.array()?))
}

pub(crate) fn read_u64(from: &mut Reader<'_>) -> Result<u64, DecodeError> {
    Ok(u64::from_le_bytes(from.array()?))
}

/// Reads text with its length in front, of at most `limit` bytes.
pub(crate) fn read_text(from: &mut Reader<'_>, limit: usize) -> Result<String, DecodeError> {
    let bytes = from.bytes()?;
    if bytes.len() > limit {
        return Err(DecodeError::TooLarge { what: "text" });
    }
    String::from_utf8(bytes.to_vec()).map_err(|_| invalid("text that is not UTF-8"))
}

/// Everything that is left.
pub(crate) fn read_rest<'a>(from: &mut Reader<'a>) -> &'a [u8] {
    from.raw(from.remaining()).expect("so much is left")
}

pub(crate) fn write_blob(to: &mut Writer, blob: &BlobRef) {
    to.raw(&blob.id.0);
    to.varint(u64::from(blob.len));
    write_flag(to, blob.at.is_some());
    if let Some(at) = &blob.at {
        write_locator(to, at);
    }
}

pub(crate) fn read_blob(from: &mut Reader<'_>) -> Result<BlobRef, DecodeError> {
    let (id, len) = (BlobId(from.array()?), from.varint32("length of a blob")?);
    let at = if read_flag(from)? { Some(read_locator(from)?) } else { None };
    Ok(BlobRef { id, len, at })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_decodes_encodes_to_the_same_bytes(mut bytes in proptest::collection::vec(any::<u8>(), 34..80)) {
            bytes[32] &= 0x7f;
            bytes[33] &= 1;
            let mut reader = Reader::new(&bytes);
            if let Ok(blob) = read_blob(&mut reader) {
                let used = bytes.len() - reader.remaining();
                let mut writer = Writer::default();
                write_blob(&mut writer, &blob);
                prop_assert_eq!(writer.as_bytes(), &bytes[..used]);
            }
        }
    }

    #[test]
    fn text_has_a_limit_and_is_text() {
        assert_eq!(read_text(&mut Reader::new(b"\x02ab"), 2).unwrap(), "ab");
        assert!(read_text(&mut Reader::new(b"\x03abc"), 2).is_err());
        assert!(read_text(&mut Reader::new(b"\x01\xff"), 2).is_err());
    }
}
