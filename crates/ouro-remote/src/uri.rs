//! Names of storage places.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::RemoteError;

const KNOWN: &str = "known are s3://bucket/prefix?region=…, webdav://host/path, webdavs://host/path, sftp://user@host/path, fs:///path, memory:";
const WHERE_SECRETS_GO: &str =
    "put secrets into the environment (AWS_SECRET_ACCESS_KEY, OUROBOX_WEBDAV_PASSWORD, …) or into --credentials-file";
/// Parts of a parameter's name that give a secret away.
const SECRET_MARKS: [&str; 10] = [
    "secret",
    "password",
    "passwd",
    "passphrase",
    "token",
    "access_key",
    "accesskey",
    "credential",
    "signature",
    "api_key",
];

/// The kind of a storage place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheme {
    /// An S3 bucket or one that speaks its language.
    S3,
    /// WebDAV over plain HTTP.
    Webdav,
    /// WebDAV over HTTPS.
    Webdavs,
    /// SFTP by the `ssh` command.
    Sftp,
    /// A folder.
    Fs,
    /// Memory of this process.
    Memory,
}

impl Scheme {
    const ALL: [Self; 6] = [Self::S3, Self::Webdav, Self::Webdavs, Self::Sftp, Self::Fs, Self::Memory];

    /// How it is written in a URI.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Webdav => "webdav",
            Self::Webdavs => "webdavs",
            Self::Sftp => "sftp",
            Self::Fs => "fs",
            Self::Memory => "memory",
        }
    }

    /// The parameters it takes.
    fn parameters(self) -> &'static [&'static str] {
        match self {
            Self::S3 => &["region", "endpoint", "style", "insecure"],
            Self::Webdav => &["insecure"],
            Self::Sftp => &["known_hosts"],
            Self::Webdavs | Self::Fs | Self::Memory => &[],
        }
    }
}

/// The name of a storage place, without any secret: `s3://bucket/prefix?region=…&endpoint=…`, `webdav://host:port/path` (`webdavs` for
/// HTTPS), `sftp://user@host:port/path`, `fs:///path`, `memory:`.
///
/// Plain HTTP (`webdav://`, an `http://` endpoint) is accepted for this machine, elsewhere only with `insecure=yes`. In the path and in
/// parameters `%` introduces two hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RemoteUri {
    scheme: Scheme,
    user: Option<String>,
    /// Bucket for S3, else the host, without the port; IPv6 with its brackets.
    host: String,
    port: Option<u16>,
    /// Decoded bytes without leading or trailing `/`, except for `fs`, where it is the whole path.
    path: Vec<u8>,
    parameters: BTreeMap<String, String>,
}

impl RemoteUri {
    /// The kind of place.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// A URI for a folder.
    ///
    /// # Errors
    ///
    /// [`RemoteError::BadUri`] unless the path is absolute.
    pub fn from_folder(path: &Path) -> Result<Self, RemoteError> {
        if !path.is_absolute() {
            return Err(bad("a folder needs its full path", "write fs:///full/path"));
        }
        let path = path.as_os_str().as_encoded_bytes().to_vec();
        Ok(Self { scheme: Scheme::Fs, user: None, host: String::new(), port: None, path, parameters: BTreeMap::new() })
    }

    pub(crate) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// `host` or `host:port`.
    pub(crate) fn authority(&self) -> String {
        self.port.map_or_else(|| self.host.clone(), |port| format!("{}:{port}", self.host))
    }

    pub(crate) fn parameter(&self, key: &str) -> Option<&str> {
        self.parameters.get(key).map(String::as_str)
    }

    /// The path as text.
    pub(crate) fn path_text(&self) -> Result<&str, RemoteError> {
        std::str::from_utf8(&self.path).map_err(|_| bad("the path is not UTF-8", "choose a path in UTF-8"))
    }

    /// The path of a folder.
    pub(crate) fn folder(&self) -> PathBuf {
        use std::os::unix::ffi::OsStringExt;
        PathBuf::from(std::ffi::OsString::from_vec(self.path.clone()))
    }

    fn check(self) -> Result<Self, RemoteError> {
        let example = match self.scheme {
            Scheme::S3 if self.user.is_some() || self.port.is_some() => {
                return Err(bad(
                    "an s3 URI starts with the bucket's name",
                    "give the server as ?endpoint=https://host:port",
                ));
            }
            Scheme::S3 => "write s3://bucket/prefix?region=…",
            Scheme::Webdav | Scheme::Webdavs => "write webdavs://host/path",
            Scheme::Sftp => "write sftp://user@host/path",
            Scheme::Fs if self.host.is_empty() && self.path.starts_with(b"/") => return Ok(self),
            Scheme::Fs => return Err(bad("a folder needs its full path", "write fs:///full/path")),
            Scheme::Memory if self.host.is_empty() && self.path.is_empty() => return Ok(self),
            Scheme::Memory => return Err(bad("memory has no parts", "write memory:")),
        };
        if self.host.is_empty()
            || self.host.contains(|c: char| c.is_whitespace() || c.is_control() || "\\\"'<>".contains(c))
        {
            return Err(bad("the URI names no valid host or bucket", example));
        }
        // A host that starts with a dash would be read as an option by the ssh command.
        if self.host.starts_with('-') || self.user.as_deref().is_some_and(|user| user.starts_with('-')) {
            return Err(bad("a host or user cannot start with a dash", example));
        }
        if self.path.split(|byte| *byte == b'/').any(|part| part == b".." || part == b".") {
            return Err(bad("the path holds `.` or `..`", "write it in full"));
        }
        let plain = match (self.scheme, self.parameter("endpoint")) {
            (Scheme::Webdav, _) => !is_loopback(&self.host),
            (Scheme::S3, Some(endpoint)) if endpoint.starts_with("http://") => !is_loopback(host_of(endpoint)),
            (Scheme::S3, Some(endpoint)) if !endpoint.starts_with("https://") => {
                return Err(bad("the endpoint is not a URL", "write endpoint=https://host:port"));
            }
            _ => false,
        };
        if plain && self.parameter("insecure") != Some("yes") {
            let hint = "use webdavs:// or an https:// endpoint, or add insecure=yes if the network is yours";
            return Err(bad("plain HTTP shows your credentials to the network", hint));
        }
        if !matches!(self.parameter("style"), None | Some("path" | "virtual")) {
            return Err(bad("style is neither path nor virtual", "leave it out if in doubt"));
        }
        match self.parameter("known_hosts") {
            None | Some("strict" | "add") => {}
            Some("accept") if is_loopback(&self.host) => {}
            _ => {
                return Err(bad(
                    "known_hosts is neither strict nor add",
                    "strict is the default; add trusts an unknown host once",
                ));
            }
        }
        Ok(self)
    }
}

impl FromStr for RemoteUri {
    type Err = RemoteError;

    fn from_str(text: &str) -> Result<Self, RemoteError> {
        let (scheme, rest) = text.split_once(':').ok_or_else(|| bad("this is not a URI", KNOWN))?;
        let scheme = Scheme::ALL.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(scheme));
        let scheme = scheme.ok_or_else(|| bad("the URI has an unknown scheme", KNOWN))?;
        // A folder's name may hold `?`; nothing follows it there.
        let (rest, query) = match scheme {
            Scheme::Fs => (rest, ""),
            _ => rest.split_once('?').unwrap_or((rest, "")),
        };
        let (authority, path) = match rest.strip_prefix("//") {
            Some(rest) => rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash)),
            None => ("", rest),
        };
        let (user, server) = match authority.rsplit_once('@') {
            Some((user, _)) if user.contains(':') => return Err(bad("the URI holds a password", WHERE_SECRETS_GO)),
            Some((user, server)) => (Some(decoded_text(user)?), server),
            None => (None, authority),
        };
        let (host, port) = split_port(server)?;
        let path = decoded(path)?;
        let path = match scheme {
            Scheme::Fs => path,
            _ => path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).collect::<Vec<_>>().join(&b'/'),
        };
        let mut parameters = BTreeMap::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let lower = key.to_lowercase();
            if SECRET_MARKS.iter().any(|mark| lower.contains(mark)) {
                return Err(bad("the URI holds a secret among its parameters", WHERE_SECRETS_GO));
            }
            if !scheme.parameters().contains(&lower.as_str()) {
                let known = scheme.parameters().join(", ");
                let known = if known.is_empty() { "none" } else { &known };
                return Err(bad("the URI has an unknown parameter", &format!("{} takes: {known}", scheme.as_str())));
            }
            let value = decoded_text(value)?;
            if lower == "endpoint" && value.contains('@') {
                return Err(bad("the endpoint holds a user or a password", WHERE_SECRETS_GO));
            }
            parameters.insert(lower, value.trim_end_matches('/').to_owned());
        }
        Self { scheme, user, host: host.to_owned(), port, path, parameters }.check()
    }
}

impl fmt::Display for RemoteUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.scheme.as_str())?;
        if self.scheme == Scheme::Memory {
            return Ok(());
        }
        write!(f, "//")?;
        if let Some(user) = &self.user {
            write!(f, "{}@", encoded(user.as_bytes(), ""))?;
        }
        write!(f, "{}", self.authority())?;
        if !self.path.is_empty() {
            let slash = if self.scheme == Scheme::Fs { "" } else { "/" };
            write!(f, "{slash}{}", encoded(&self.path, "/"))?;
        }
        for (index, (key, value)) in self.parameters.iter().enumerate() {
            write!(f, "{}{key}={}", if index == 0 { '?' } else { '&' }, encoded(value.as_bytes(), "/:"))?;
        }
        Ok(())
    }
}

fn bad(reason: &str, hint: &str) -> RemoteError {
    RemoteError::BadUri { reason: reason.to_owned(), hint: hint.to_owned() }
}

fn split_port(server: &str) -> Result<(&str, Option<u16>), RemoteError> {
    let after_brackets = server.rfind(']').map_or(0, |end| end + 1);
    match server[after_brackets..].find(':') {
        Some(colon) => {
            let (host, port) = server.split_at(after_brackets + colon);
            let port = port[1..].parse().map_err(|_| bad("the URI's port is not a number", "write host:port"))?;
            Ok((host, Some(port)))
        }
        None => Ok((server, None)),
    }
}

/// The host of a URL, without the port.
pub(crate) fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let server = rest.split(['/', '?']).next().unwrap_or(rest);
    split_port(server).map_or(server, |(host, _)| host)
}

/// Whether a host is this machine.
pub(crate) fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn decoded(text: &str) -> Result<Vec<u8>, RemoteError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|byte| *byte != 0);
        bytes
            .push(byte.ok_or_else(|| bad("the URI has a % without two hexadecimal digits", "write %25 for a % sign"))?);
        rest = &tail[2..];
    }
    Ok(bytes)
}

fn decoded_text(text: &str) -> Result<String, RemoteError> {
    String::from_utf8(decoded(text)?).map_err(|_| bad("a part of the URI is not UTF-8", "write it in UTF-8"))
}

/// Percent-encodes all but unreserved characters and those in `keep`.
pub(crate) fn encoded(bytes: &[u8], keep: &str) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        let c = char::from(*byte);
        if byte.is_ascii_alphanumeric() || "-._~".contains(c) || keep.contains(c) {
            text.push(c);
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scheme_is_parsed_and_shown_again() {
        for text in [
            "s3://bucket",
            "s3://bucket/some/prefix?endpoint=https://minio.example:9000&region=eu-central-1",
            "webdavs://cloud.example/remote.php/dav/files/me",
            "webdav://127.0.0.1:8080/x",
            "sftp://me@nas.example:2222/srv/box",
            "sftp://nas.example?known_hosts=add",
            "fs:///home/me/My%20Folder%3F",
            "memory:",
        ] {
            let uri: RemoteUri = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(uri.to_string(), text);
            assert_eq!(uri.to_string().parse::<RemoteUri>().unwrap(), uri);
        }
    }

    #[test]
    fn a_folder_may_be_written_as_it_is() {
        let uri: RemoteUri = "fs:///media/A & B/what?".parse().unwrap();
        assert_eq!(uri.folder(), Path::new("/media/A & B/what?"));
        assert_eq!(RemoteUri::from_folder(Path::new("/media/A & B/what?")).unwrap(), uri);
    }

    #[test]
    fn a_secret_in_the_uri_is_refused_without_repeating_it() {
        for text in [
            "s3://AKIA:hunter2@bucket/x",
            "webdavs://me:hunter2@cloud.example/x",
            "sftp://me:hunter2@nas.example/x",
            "s3://bucket?secret_access_key=hunter2",
            "s3://bucket?access_key_id=hunter2",
            "s3://bucket?X-Amz-Security-Token=hunter2",
            "s3://bucket?endpoint=https://me:hunter2@host",
            "webdavs://cloud.example/x?password=hunter2",
            "webdavs://cloud.example/x?token=hunter2",
        ] {
            let error = text.parse::<RemoteUri>().unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(matches!(error, RemoteError::BadUri { .. }));
            assert!(!shown.contains("hunter2"), "{shown}");
            assert!(shown.contains("credentials-file"), "{shown}");
        }
    }

    #[test]
    fn an_unknown_scheme_lists_the_known_ones() {
        for text in ["ftp://host/x", "bucket", "C:\\x"] {
            let error = text.parse::<RemoteUri>().unwrap_err().to_string();
            for scheme in Scheme::ALL {
                assert!(error.contains(scheme.as_str()), "{error}");
            }
        }
    }

    #[test]
    fn plain_http_is_for_this_machine_unless_asked_for() {
        for text in ["webdav://cloud.example/x", "s3://b?endpoint=http://nas:9000", "webdav://127.0.0.1.example/x"] {
            assert!(text.parse::<RemoteUri>().is_err(), "{text}");
            let joined = if text.contains('?') { '&' } else { '?' };
            format!("{text}{joined}insecure=yes").parse::<RemoteUri>().unwrap();
        }
        for text in
            ["webdav://localhost:80/x", "s3://b?endpoint=http://[::1]:9000", "s3://b?endpoint=http://127.0.0.1:9/"]
        {
            text.parse::<RemoteUri>().unwrap();
        }
    }

    #[test]
    fn what_could_mislead_a_backend_is_refused() {
        for text in [
            "s3://",
            "s3:///x",
            "fs://relative",
            "fs:relative",
            "sftp://-oProxyCommand=x/y",
            "sftp://-l@host/y",
            "webdavs://host/a/../b",
            "sftp://nas.example?known_hosts=accept",
            "s3://b?color=red",
            "webdavs://host:port/x",
            "fs:///a%0",
            "memory:x",
        ] {
            assert!(text.parse::<RemoteUri>().is_err(), "{text} was accepted");
        }
    }
}
