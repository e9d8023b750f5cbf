//! Secrets for a storage place: where they come from, and that nobody sees them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use zeroize::Zeroizing;

use crate::RemoteError;

/// The keys we know, each also the name of an environment variable; the flag says whether the value is a secret.
const KEYS: [(&str, bool); 9] = [
    ("AWS_ACCESS_KEY_ID", true),
    ("AWS_SECRET_ACCESS_KEY", true),
    ("AWS_SESSION_TOKEN", true),
    ("AWS_REGION", false),
    ("AWS_ENDPOINT_URL", false),
    ("OUROBOX_WEBDAV_USER", false),
    ("OUROBOX_WEBDAV_PASSWORD", true),
    ("OUROBOX_WEBDAV_TOKEN", true),
    ("OUROBOX_SFTP_KEY", false),
];
/// Largest credentials file in bytes.
const FILE_BYTES_MAX: u64 = 64 << 10;
/// Values shorter than this are not searched for in texts: they would match everywhere.
const SCRUB_BYTES_MIN: usize = 3;

/// Credentials for a storage place, as pairs of a known key and its value.
///
/// Keys: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`, `AWS_ENDPOINT_URL` for S3; `OUROBOX_WEBDAV_USER` with
/// `OUROBOX_WEBDAV_PASSWORD`, or `OUROBOX_WEBDAV_TOKEN`; `OUROBOX_SFTP_KEY`, the path of a private key file. Values are wiped from memory when
/// they are dropped, and [`Debug`](fmt::Debug) shows the keys only.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    values: BTreeMap<&'static str, Zeroizing<String>>,
}

impl Credentials {
    /// No credentials at all.
    pub fn none() -> Self {
        Self::default()
    }

    /// Takes what the environment holds.
    pub fn from_env() -> Self {
        let found = KEYS.iter().filter_map(|(key, _)| Some((*key, Zeroizing::new(std::env::var(key).ok()?))));
        Self { values: found.filter(|(_, value)| !value.is_empty()).collect() }
    }

    /// Reads a file of `KEY=VALUE` lines.
    ///
    /// # Errors
    ///
    /// [`RemoteError::BadCredentials`] if it cannot be read, is larger than 64 KiB, or does not parse.
    pub fn from_file(path: &Path) -> Result<Self, RemoteError> {
        let fail =
            |error: std::io::Error| RemoteError::BadCredentials { reason: format!("{}: {error}", path.display()) };
        if std::fs::metadata(path).map_err(fail)?.len() > FILE_BYTES_MAX {
            return Err(RemoteError::BadCredentials { reason: format!("{} is too large", path.display()) });
        }
        Self::parse(&Zeroizing::new(std::fs::read_to_string(path).map_err(fail)?))
    }

    /// Parses `KEY=VALUE` lines. Empty lines, lines that start with `#` and a leading `export ` are skipped; one pair of quotes around the
    /// value is taken off.
    ///
    /// # Errors
    ///
    /// [`RemoteError::BadCredentials`] with the number of the line that is wrong, never with its text.
    pub fn parse(text: &str) -> Result<Self, RemoteError> {
        let mut credentials = Self::default();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            let line = line.strip_prefix("export ").unwrap_or(line);
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |what: &str| RemoteError::BadCredentials { reason: format!("line {number} {what}") };
            let (key, value) = line.split_once('=').ok_or_else(|| wrong("is not KEY=VALUE"))?;
            let value = value.trim();
            let unquoted = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
            if !credentials.set(key.trim(), unquoted.unwrap_or(value)) {
                let known = KEYS.map(|(key, _)| key).join(", ");
                return Err(wrong(&format!("has a key that is not one of {known}")));
            }
        }
        Ok(credentials)
    }

    /// Sets one value; `false` if the key is not a known one. An empty value removes it.
    pub fn set(&mut self, key: &str, value: &str) -> bool {
        let Some((key, _)) = KEYS.iter().find(|(known, _)| *known == key) else { return false };
        if value.is_empty() {
            self.values.remove(key);
        } else {
            self.values.insert(key, Zeroizing::new(value.to_owned()));
        }
        true
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(|value| value.as_str())
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Takes from `other` what is missing here.
    #[must_use]
    pub fn or(mut self, other: &Self) -> Self {
        for (key, value) in &other.values {
            self.values.entry(key).or_insert_with(|| value.clone());
        }
        self
    }

    /// The lines that [`parse`](Self::parse) reads, to keep them in a safe place. Holds the secrets.
    pub fn to_lines(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::new());
        for (key, value) in &self.values {
            for part in [key, "=", value.as_str(), "\n"] {
                text.push_str(part);
            }
        }
        text
    }

    /// Replaces every secret value in a text by `***`.
    pub(crate) fn scrub(&self, text: &str) -> String {
        let secrets = KEYS.iter().filter(|(_, secret)| *secret).filter_map(|(key, _)| self.get(key));
        secrets
            .filter(|value| value.len() >= SCRUB_BYTES_MIN)
            .fold(text.to_owned(), |text, secret| text.replace(secret, "***"))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.values.keys().map(|key| (key, "***"))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_parsed_with_comments_exports_and_quotes() {
        let text = "# mine\n\nexport AWS_ACCESS_KEY_ID=AKIA\nAWS_SECRET_ACCESS_KEY = \"se=cret\"\n";
        let credentials = Credentials::parse(text).unwrap();
        assert_eq!(credentials.get("AWS_ACCESS_KEY_ID"), Some("AKIA"));
        assert_eq!(credentials.get("AWS_SECRET_ACCESS_KEY"), Some("se=cret"));
        assert_eq!(Credentials::parse(&credentials.to_lines()).unwrap(), credentials);
    }

    #[test]
    fn a_wrong_line_is_named_by_its_number_only() {
        for text in ["AWS_ACCESS_KEY_ID=a\nhunter2hunter2", "AWS_ACCESS_KEY_ID=a\nHUNTER2HUNTER2=hunter2hunter2"] {
            let error = Credentials::parse(text).unwrap_err().to_string();
            assert!(error.contains("line 2"), "{error}");
            assert!(!error.to_lowercase().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn debug_and_scrubbed_texts_hold_no_secret() {
        let credentials = Credentials::parse("AWS_SECRET_ACCESS_KEY=hunter2hunter2").unwrap();
        assert!(!format!("{credentials:?}").contains("hunter2"));
        assert_eq!(credentials.scrub("key hunter2hunter2 refused"), "key *** refused");
    }
}
