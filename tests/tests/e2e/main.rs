//! End to end: the built `ourobox`, the kernel, and storage servers on this machine.
//!
//! Root and /dev/fuse are needed; `OUROBOX_TESTS_WITHOUT_FUSE=1` leaves everything out, `OUROBOX_LONG=1` makes it long.

mod two_devices;
