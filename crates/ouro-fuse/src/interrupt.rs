//! Ends a wait when the program that waits is to die or was interrupted.
//!
//! The kernel tells of this with INTERRUPT requests, which fuser 0.18 refuses to pass on. So while a request waits, the asking thread's
//! pending signals are looked at. A reader with O_DIRECT cannot be ended at all before the answer: there only the deadline helps.

use ouro_core::port::Runtime;

/// How often the signals of a waiting program are looked at, in milliseconds.
const LOOK_EVERY_MS: u64 = 200;

const SIGINT: u32 = 2;

/// Signals that end a program by default, as bits: all but CHLD, CONT, STOP, TSTP, TTIN, TTOU, URG and WINCH (signal(7)).
const FATAL_BY_DEFAULT: u64 = !(bit(17) | bit(18) | bit(19) | bit(20) | bit(21) | bit(22) | bit(23) | bit(28));

const fn bit(signal: u32) -> u64 {
    1 << (signal - 1)
}

/// Resolves when thread `pid` shall wait no longer: it is gone, a fatal signal is pending for it, or somebody pressed Ctrl-C.
///
/// Never resolves for pid 0: the kernel asks by itself, or for a thread in another pid namespace.
pub(crate) async fn interrupted(pid: u32, runtime: &dyn Runtime) {
    loop {
        runtime.sleep(LOOK_EVERY_MS).await;
        if pid != 0 && is_to_end(pid) {
            return;
        }
    }
}

fn is_to_end(pid: u32) -> bool {
    match std::fs::read_to_string(format!("/proc/{pid}/status")) {
        Ok(status) => ends_wait(&status),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

/// Judges one `/proc/PID/status`. A signal that the program catches does not end the wait (timers, Go's preemption, a shell's children),
/// except SIGINT: whoever pressed Ctrl-C wants the read to end, whatever the program makes of it.
fn ends_wait(status: &str) -> bool {
    let mask = |field: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
    };
    if status
        .lines()
        .any(|line| line.strip_prefix("State:").is_some_and(|state| state.trim_start().starts_with(['Z', 'X'])))
    {
        return true;
    }
    let pending = (mask("SigPnd") | mask("ShdPnd")) & !mask("SigBlk") & !mask("SigIgn");
    pending & FATAL_BY_DEFAULT & !mask("SigCgt") != 0 || pending & bit(SIGINT) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(pending: u64, shared: u64, blocked: u64, ignored: u64, caught: u64) -> String {
        format!(
            "Name:\tcat\nState:\tS (sleeping)\nSigQ:\t0/1\nSigPnd:\t{pending:016x}\nShdPnd:\t{shared:016x}\n\
             SigBlk:\t{blocked:016x}\nSigIgn:\t{ignored:016x}\nSigCgt:\t{caught:016x}\n"
        )
    }

    #[test]
    fn a_pending_kill_ends_the_wait() {
        assert!(ends_wait(&status(bit(9), 0, 0, 0, 0)));
        assert!(ends_wait(&status(0, bit(15), 0, 0, 0)), "for the whole process, too");
    }

    #[test]
    fn ctrl_c_ends_the_wait_even_where_the_program_catches_it() {
        assert!(ends_wait(&status(0, bit(2), 0, 0, bit(2))));
        assert!(!ends_wait(&status(0, bit(2), bit(2), 0, 0)), "but not where it is blocked");
        assert!(!ends_wait(&status(0, bit(2), 0, bit(2), 0)), "nor where it is ignored");
    }

    #[test]
    fn signals_of_daily_life_do_not_end_the_wait() {
        for signal in [17, 18, 20, 23, 28] {
            assert!(!ends_wait(&status(0, bit(signal), 0, 0, 0)), "signal {signal}");
        }
        assert!(!ends_wait(&status(0, bit(14), 0, 0, bit(14))), "an alarm somebody waits for");
        assert!(ends_wait(&status(0, bit(14), 0, 0, 0)), "an alarm that kills");
        assert!(!ends_wait(&status(0, 0, 0, 0, 0)));
    }

    #[test]
    fn a_thread_that_is_gone_ends_its_wait_and_a_living_one_does_not() {
        assert!(!is_to_end(std::process::id()));
        assert!(is_to_end(u32::MAX - 1));
        assert!(ends_wait("State:\tZ (zombie)\n"));
    }
}
