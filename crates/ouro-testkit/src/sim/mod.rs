//! A world in one thread: tasks, time and chance that all follow from a seed.
//!
//! The principal type is [`Simulation`]. It stands behind the ports of [`ouro_core::port`]: of the tasks that could go on it picks one at
//! random, blocking work runs where it stands, and time goes only when nobody can do anything else. Tasks belong to a [`Group`] (a
//! device's process); ending a group drops its tasks wherever they are, which is what a crash does. The same seed and the same calls give
//! the same history.

mod chance;
mod executor;
mod ports;

pub use chance::Chance;
pub use executor::{Group, Simulation};
