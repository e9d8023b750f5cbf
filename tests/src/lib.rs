//! End to end tests: the built `ourobox`, real mounts, real servers.
//!
//! The principal type is [`Device`]: one installation with a home, a mount and an engine of its own, which is unmounted and ended when it is
//! dropped, also by a failing test. [`Place`] is a storage; [`survey`] is what a tree looks like to a user.
//!
//! Everything here panics when something does not go as it should: it is called by tests only.

#![expect(clippy::disallowed_methods, reason = "tests watch other processes, which run on the machine's clock")]

mod corpus;
mod device;
mod kernel;
mod pair;
mod place;
mod pseudo;
mod survey;
mod watch;

pub use corpus::{plant_odd, plant_real};
pub use device::{Device, NOBODY, Outcome, is_gone, ourobox_binary, run};
pub use kernel::{Connections, OpenDevice};
pub use pair::{Pair, assert_devices_show_the_same};
pub use place::Place;
pub use pseudo::Pseudo;
pub use survey::{Entry, assert_same, look_same, survey, without_directory_times};
pub use watch::{EVER, SOON, is_long, pause, until};
