//! The guard: a small process beside an engine that mounts. If the engine is killed and cannot end (see [`crate::holder`]), it ends the
//! engine's mounts, so that programs in them get an error instead of waiting for ever.
//!
//! It holds no mount itself. It learns that the engine ends well from its standard input, which ends with the engine's last thread, and
//! that the engine dies from the signal that the kernel sends when the thread that started the guard is gone.

use crate::args::GuardArgs;
use crate::holder::end_if_dying;
use anyhow::{Context, Result};
use rustix::process::{Signal, getppid, set_parent_process_death_signal, setsid};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

/// How long an engine may take to die by itself, and between two attempts to help.
const PATIENCE: Duration = Duration::from_millis(500);

/// Attempts before it is given up: the next engine tries again.
const ATTEMPTS_MAX: u32 = 120;

/// Starts the guard of this process. Call it on the main thread: its end is what the guard watches.
///
/// # Errors
///
/// If the guard cannot be started; everything else works without it.
pub(crate) fn start(lock_file: &Path) -> Result<()> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let mut command = Command::new(program);
    command.arg("guard").arg(lock_file).arg(std::process::id().to_string());
    command.current_dir("/").env_clear().stdin(Stdio::piped()).stdout(Stdio::null());
    let mut guard = command.spawn().context("cannot start the guard of the mounts")?;
    // Ends with this process.
    std::mem::forget(guard.stdin.take());
    Ok(())
}

/// Is the guard of an engine, until that has ended.
///
/// # Errors
///
/// If it cannot watch, or can do nothing about an engine that does not end.
pub(crate) fn keep_watch(args: &GuardArgs) -> Result<()> {
    // Ctrl-C and the end of a session end the engine first, and the guard with it.
    if let Err(error) = setsid() {
        tracing::debug!(%error, "the guard stays in its session");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot wait")?;
    runtime.block_on(async {
        let mut engine_dies = signal(SignalKind::user_defined1())?;
        let _a_service_manager_asks_the_engine_too = signal(SignalKind::terminate())?;
        set_parent_process_death_signal(Some(Signal::USR1))?;
        let mut engine = Receiver::from_owned_fd(std::io::stdin().as_fd().try_clone_to_owned()?)?;
        let mut rest = [0; 1];
        let lives = getppid().is_some_and(|parent| parent.as_raw_nonzero().get().cast_unsigned() == args.engine);
        if lives {
            tokio::select! {
                biased;
                _ended = engine.read(&mut rest) => return Ok(()),
                _ = engine_dies.recv() => {}
            }
        }
        let mut outcome = Ok(false);
        for _ in 0..ATTEMPTS_MAX {
            if timeout(PATIENCE, engine.read(&mut rest)).await.is_ok() {
                return Ok(());
            }
            outcome = end_if_dying(&args.lock_file);
        }
        outcome.map(drop)
    })
}
