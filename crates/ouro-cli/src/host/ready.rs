//! Says that the engine listens: to the command that started it, and to systemd.

use anyhow::{Context, Result};
use ouro_engine::api::Response;
use std::io::Write;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Writes one line to standard output, where the parent reads it, and lets standard output lead to the log from then on.
pub(super) fn tell_parent(report: &Response) -> Result<()> {
    let mut output = std::io::stdout();
    let line = serde_json::to_string(report).context("cannot say how it went")?;
    // The parent may be gone by now: the mount it was started for is then never asked for, and the engine ends by itself.
    if let Err(error) = writeln!(output, "{line}").and_then(|()| output.flush()) {
        tracing::debug!(%error, "nobody listens any more");
    }
    rustix::stdio::dup2_stdout(std::io::stderr()).context("cannot turn standard output to the log")
}

/// Tells a service manager of Type=notify; does nothing without one.
pub(super) fn tell_systemd() {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
        return;
    };
    let address = match name.as_bytes() {
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest),
        _ => SocketAddr::from_pathname(&name),
    };
    let sent = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(b"READY=1", &address));
    if let Err(error) = sent {
        tracing::warn!(%error, "the service manager could not be told that the engine is ready");
    }
}
