//! The frame of everything that refers to versions and blobs: `length of the logical section, logical section, locator section`.

use super::bytes::{Reader, Writer};
use super::error::DecodeError;
use super::locators::{LocatorReader, write_locators};
use super::versions::{VersionReader, VersionTable};
use crate::content::{BlobRef, Locator};
use crate::id::{BlobId, Version};
use alloc::vec::Vec;

/// Collects the body of a value with the tables it needs.
#[derive(Default)]
pub(crate) struct Encoder {
    pub(crate) out: Writer,
    versions: VersionTable,
    pub(crate) locators: Vec<Option<Locator>>,
}

impl Encoder {
    pub(crate) fn version(&mut self, version: Version) {
        let index = self.versions.index_of(version);
        self.out.varint(index);
    }

    pub(crate) fn version_index(&mut self, version: Version) -> u64 {
        self.versions.index_of(version)
    }

    pub(crate) fn blob(&mut self, blob: &BlobRef) {
        self.out.raw(&blob.id.0);
        self.out.varint(u64::from(blob.len));
        self.locators.push(blob.at);
    }

    /// The logical section: `head`, the table of versions, the body; and the locators still to be written.
    pub(crate) fn logical(self, head: &[u8]) -> (Vec<u8>, Vec<Option<Locator>>) {
        let mut logical = Writer::with_capacity(head.len() + self.out.len() + 64);
        logical.raw(head);
        self.versions.write(&mut logical);
        logical.raw(self.out.as_bytes());
        (logical.into_vec(), self.locators)
    }

    /// Both sections.
    pub(crate) fn finish(self, head: &[u8]) -> Vec<u8> {
        let (logical, locators) = self.logical(head);
        join(&logical, &locators)
    }
}

/// Puts the two sections together.
pub(crate) fn join(logical: &[u8], locators: &[Option<Locator>]) -> Vec<u8> {
    let mut out = Writer::with_capacity(logical.len() + 16 + locators.len() * 8);
    out.bytes(logical);
    write_locators(&mut out, locators);
    out.into_vec()
}

/// Takes the two sections apart: logical, locators.
pub(crate) fn split(bytes: &[u8]) -> Result<(&[u8], &[u8]), DecodeError> {
    let mut input = Reader::new(bytes);
    let logical = input.bytes()?;
    let locators = input.raw(input.remaining())?;
    Ok((logical, locators))
}

/// Reads a body with its tables.
pub(crate) struct Decoder<'a> {
    pub(crate) input: Reader<'a>,
    pub(crate) versions: VersionReader,
    pub(crate) locators: LocatorReader<'a>,
}

impl<'a> Decoder<'a> {
    /// `logical` stands behind the head, before the table of versions.
    pub(crate) fn new(mut logical: Reader<'a>, locators: &'a [u8]) -> Result<Decoder<'a>, DecodeError> {
        let versions = VersionReader::read(&mut logical)?;
        Ok(Decoder { input: logical, versions, locators: LocatorReader::new(locators)? })
    }

    pub(crate) fn version(&mut self) -> Result<Version, DecodeError> {
        let index = self.input.varint()?;
        self.versions.get(index)
    }

    pub(crate) fn blob(&mut self) -> Result<BlobRef, DecodeError> {
        let id = BlobId(self.input.array()?);
        let len = self.input.varint32("length of a blob")?;
        Ok(BlobRef { id, len, at: self.locators.next()? })
    }

    /// Ends reading; gives the table of versions.
    pub(crate) fn finish(self) -> Result<Vec<Version>, DecodeError> {
        self.input.finish()?;
        self.locators.finish()?;
        self.versions.finish()
    }
}
