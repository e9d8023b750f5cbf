//! End to end: the built `ourobox`, the kernel, and storage servers on this machine.
//!
//! Root and /dev/fuse are needed; `OUROBOX_TESTS_WITHOUT_FUSE=1` leaves everything out, `OUROBOX_LONG=1` makes it long.

#![expect(clippy::disallowed_methods, reason = "tests watch other processes, which run on the machine's clock")]

mod branches;
mod collection;
mod conflicts;
mod crash;
mod events;
mod history;
mod identity;
mod import;
mod lifecycle;
mod listing;
mod misuse;
mod never_together;
mod offline;
mod ordinary_user;
mod own;
mod power;
mod programs;
mod resume;
mod saves;
mod stuck;
mod suites;
mod trash;
mod two_devices;
