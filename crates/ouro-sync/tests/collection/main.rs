//! Collection on several devices that share one remote in memory, in simulated time: what must stay stays, what must go goes, whoever
//! is away, whatever fails.
#![expect(clippy::unwrap_used, reason = "a failed assumption is a failed test")]

mod device;
mod faults;
mod held;
mod idle;
mod open;
mod purging;
mod references;
mod several;
mod single;
mod trash;
mod waiting;
