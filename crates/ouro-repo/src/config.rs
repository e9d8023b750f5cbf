//! `ourobox.json`: what a repository is. Plain JSON, written once.

use serde::{Deserialize, Serialize};

use crate::error::RepoError;
use crate::object::{CONFIG_NAME, FORMAT_VERSION};
use ouro_core::content::INLINE_BYTES_MAX;

const CIPHER: &str = "xchacha20poly1305-blake3";
const COMPRESSOR: &str = "zstd";
const CHUNKER: &str = "fastcdc-2020";
const MODE: &str = "chunks";

/// A repository for ever: 16 random bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepositoryId(pub [u8; 16]);

impl std::fmt::Display for RepositoryId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl std::fmt::Debug for RepositoryId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// Sizes of chunks in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkerParams {
    /// No chunk but a file's last is smaller.
    pub min: u32,
    /// What is aimed at; a power of two.
    pub average: u32,
    /// No chunk is larger.
    pub max: u32,
}

impl Default for ChunkerParams {
    fn default() -> ChunkerParams {
        ChunkerParams { min: 256 << 10, average: 1 << 20, max: 4 << 20 }
    }
}

impl ChunkerParams {
    /// Whether the chunker can work with these: even, in order, within what its tables were made for. A first chunk that would fit into an entry
    /// is taken for the whole file, so none may be so short.
    pub(crate) fn is_valid(&self) -> bool {
        let even = self.min.is_multiple_of(2) && self.max.is_multiple_of(2);
        let ordered = self.min <= self.average && self.average <= self.max;
        even && ordered
            && self.min as usize > INLINE_BYTES_MAX
            && self.average.is_power_of_two()
            && self.average >= 256
            && self.average <= 4 << 20
            && self.max <= 16 << 20
    }
}

/// What `ourobox.json` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepoConfig {
    /// The repository.
    pub id: RepositoryId,
    /// Format version.
    pub version: u32,
    /// Whether contents and names are encrypted.
    pub encrypted: bool,
    /// Sizes of chunks.
    pub chunker: ChunkerParams,
    /// When it was made: milliseconds since 1970 (UTC), by the clock of the device that made it.
    pub created_ms: u64,
    /// What the master key is recognised by.
    pub(crate) key_check: Option<[u8; 16]>,
}

/// The file as it stands; see docs/format.md.
#[derive(Serialize, Deserialize)]
struct File {
    format: String,
    version: u32,
    id: String,
    created_ms: u64,
    mode: String,
    cipher: Option<String>,
    key_check: Option<String>,
    compressor: String,
    chunker: Chunker,
}

#[derive(Serialize, Deserialize)]
struct Chunker {
    name: String,
    #[serde(flatten)]
    params: ChunkerParams,
}

/// What is read first, so that a newer format is told from a stranger's file whatever else changed.
#[derive(Deserialize)]
struct Beginning {
    format: String,
    version: u32,
}

impl RepoConfig {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let file = File {
            format: "ourobox".into(),
            version: self.version,
            id: self.id.to_string(),
            created_ms: self.created_ms,
            mode: MODE.into(),
            cipher: self.encrypted.then(|| CIPHER.into()),
            key_check: self.key_check.map(|check| hex(&check)),
            compressor: COMPRESSOR.into(),
            chunker: Chunker { name: CHUNKER.into(), params: self.chunker },
        };
        let mut bytes = serde_json::to_vec_pretty(&file).expect("strings and numbers always become JSON");
        bytes.push(b'\n');
        bytes
    }

    /// Reads the file.
    pub(crate) fn decode(bytes: &[u8]) -> Result<RepoConfig, RepoError> {
        let beginning: Beginning = serde_json::from_slice(bytes).map_err(|_| RepoError::StrangeConfig)?;
        if beginning.format != "ourobox" {
            return Err(RepoError::StrangeConfig);
        }
        if beginning.version > u32::from(FORMAT_VERSION) {
            let (found, supported) = (beginning.version, u32::from(FORMAT_VERSION));
            return Err(RepoError::NewerFormat { name: CONFIG_NAME.into(), found, supported });
        }
        let damaged = |what| RepoError::corrupt(CONFIG_NAME, what);
        let file: File = serde_json::from_slice(bytes).map_err(|_| damaged("a field is missing or wrong"))?;
        require("mode", &file.mode, MODE)?;
        require("compressor", &file.compressor, COMPRESSOR)?;
        require("chunker", &file.chunker.name, CHUNKER)?;
        if let Some(cipher) = &file.cipher {
            require("cipher", cipher, CIPHER)?;
        }
        if !file.chunker.params.is_valid() {
            return Err(damaged("impossible sizes of chunks"));
        }
        let id = RepositoryId(unhex(&file.id).ok_or(damaged("wrong id"))?);
        let key_check = match &file.key_check {
            Some(text) => Some(unhex(text).ok_or(damaged("wrong key check"))?),
            None => None,
        };
        if file.cipher.is_some() != key_check.is_some() {
            return Err(damaged("cipher and key check do not go together"));
        }
        let (version, created_ms) = (file.version, file.created_ms);
        Ok(RepoConfig {
            id,
            version,
            encrypted: file.cipher.is_some(),
            chunker: file.chunker.params,
            created_ms,
            key_check,
        })
    }
}

fn require(kind: &str, found: &str, known: &str) -> Result<(), RepoError> {
    if found == known {
        return Ok(());
    }
    let found: String = found.chars().filter(|c| !c.is_control()).take(40).collect();
    Err(RepoError::Unsupported { what: format!("the {kind} {found:?}") })
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes everything");
        text
    })
}

fn unhex(text: &str) -> Option<[u8; 16]> {
    if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(text, 16).ok().map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(encrypted: bool) -> RepoConfig {
        let key_check = encrypted.then_some([9; 16]);
        RepoConfig {
            id: RepositoryId([0xab; 16]),
            version: 1,
            encrypted,
            chunker: ChunkerParams::default(),
            created_ms: 5,
            key_check,
        }
    }

    fn changed(from: &str, to: &str) -> Vec<u8> {
        let text = String::from_utf8(config(true).encode()).unwrap();
        assert!(text.contains(from), "{from} not in {text}");
        text.replace(from, to).into_bytes()
    }

    #[test]
    fn a_configuration_comes_back() {
        for encrypted in [true, false] {
            assert_eq!(RepoConfig::decode(&config(encrypted).encode()).unwrap(), config(encrypted));
        }
    }

    #[test]
    fn other_files_newer_formats_and_unknown_parts_are_named() {
        assert!(matches!(RepoConfig::decode(b"{}"), Err(RepoError::StrangeConfig)));
        assert!(matches!(RepoConfig::decode(b"\xff"), Err(RepoError::StrangeConfig)));
        assert!(matches!(RepoConfig::decode(&changed("\"ourobox\"", "\"x\"")), Err(RepoError::StrangeConfig)));
        let newer = RepoConfig::decode(br#"{"format":"ourobox","version":2,"other":true}"#);
        assert!(matches!(newer, Err(RepoError::NewerFormat { found: 2, .. })));
        assert!(matches!(RepoConfig::decode(&changed("\"chunks\"", "\"files\"")), Err(RepoError::Unsupported { .. })));
        assert!(matches!(RepoConfig::decode(&changed(CIPHER, "rot13")), Err(RepoError::Unsupported { .. })));
        assert!(matches!(RepoConfig::decode(&changed("262144", "262143")), Err(RepoError::Corrupt { .. })));
    }
}
