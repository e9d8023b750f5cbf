//! The way to a running engine.

use crate::holder;
use crate::places::Places;
use crate::wire::{Call, LINE_BYTES_MAX, Line, VERSION, to_line};
use anyhow::{Context, Result, bail, ensure};
use ouro_engine::api::{Progress, Request, Response};
use rustix::fs::{Mode, OFlags};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

/// A connection to the engine of these places.
pub(crate) struct Client {
    stream: UnixStream,
}

impl Client {
    /// Connects, or says `None` if no engine runs, or one that is dying: it would never answer.
    ///
    /// # Errors
    ///
    /// If something is there that cannot be talked to, or that belongs to another user.
    pub(crate) fn connect(places: &Places) -> Result<Option<Client>> {
        let Some((_directory, path)) = short_path(places)? else {
            return Ok(None);
        };
        // What cannot be done about it is told by whoever waits for the turn.
        if !matches!(holder::end_if_dying(&places.lock_file()), Ok(false)) {
            return Ok(None);
        }
        let stream = match UnixStream::connect(path) {
            Ok(stream) => stream,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(error) => return Err(error).context("cannot reach the running engine"),
        };
        let peer = rustix::net::sockopt::socket_peercred(&stream).context("cannot see who runs the engine")?;
        ensure!(
            peer.uid == rustix::process::geteuid(),
            "the engine's socket belongs to another user: refusing to talk to it"
        );
        Ok(Some(Client { stream }))
    }

    /// Asks, tells `progress` how far it is, and returns the answer; `None` if the engine is just ending and did nothing.
    ///
    /// # Errors
    ///
    /// If the connection breaks after the engine heard the call: then it is not known what it did.
    pub(crate) fn ask(&mut self, request: Request, progress: &mut dyn FnMut(&Progress)) -> Result<Option<Response>> {
        self.listen(request, &mut |line| {
            if let Line::Progress(step) = line {
                progress(&step);
            }
        })
    }

    /// Asks as [`Client::ask`] does, and tells `heard` every line before the answer.
    ///
    /// # Errors
    ///
    /// As [`Client::ask`].
    pub(crate) fn listen(&mut self, request: Request, heard: &mut dyn FnMut(Line)) -> Result<Option<Response>> {
        let call = to_line(&Call { version: VERSION, call: request })
            .context("a path or name cannot be sent to the engine: it must be valid UTF-8")?;
        match self.stream.write_all(&call) {
            Err(error) if is_unheard(&error) => return Ok(None),
            written => written.context("the engine does not listen")?,
        }
        let mut lines = BufReader::new(&self.stream);
        loop {
            let mut line = Vec::new();
            match lines.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
                Err(error) if is_unheard(&error) => return Ok(None),
                read => read.context("the engine's answer broke off")?,
            };
            if line.pop() != Some(b'\n') {
                bail!("the engine ended before it answered; its log says why");
            }
            match serde_json::from_slice(&line)
                .context("the engine's answer cannot be understood: is it of another version?")?
            {
                Line::Answer(response) => return Ok(Some(*response)),
                Line::Ending => return Ok(None),
                before => heard(before),
            }
        }
    }
}

/// Whether the other end closed its socket without having read all that was sent to it: only then does Linux say so with these errors.
fn is_unheard(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

/// The socket by a path that is short whatever the directory's length: addresses of sockets end at 107 bytes. It is good while the returned
/// descriptor of the directory is open. `None` if there is no such directory.
pub(crate) fn short_path(places: &Places) -> Result<Option<(OwnedFd, PathBuf)>> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::open(&places.run, flags, Mode::empty()) {
        Ok(directory) => {
            let path = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(&places.socket_name);
            Ok(Some((directory, path)))
        }
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(errno) => Err(io::Error::from(errno)).with_context(|| format!("cannot open {}", places.run.display())),
    }
}
