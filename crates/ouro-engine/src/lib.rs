//! The composition root and the only API of Ourobox: config in; commands, queries, progress and events out.
//!
//! Owns the runtime and the real clock, and wires the rooms below together. The principal type is [`Engine`]; doors (the command, later
//! the tray and D-Bus) speak with it in the words of [`api`] and mount what [`Engine::attach`] gives them.
//!
//! Never knows: Tauri, D-Bus, terminal, kernel ABI.

pub mod api;
mod boxes;
mod branch;
mod check;
mod collect;
mod config;
mod conflicts;
mod connect;
mod devices;
mod diff;
mod engine;
mod events;
mod failure;
mod fetcher;
mod import;
mod keeper;
mod log;
mod merge;
mod paths;
mod ports;
mod query;
mod restore;
mod snapshot;
mod walk;
mod when;

pub use engine::{Engine, EngineDirs};
pub use events::Events;
pub use ports::TokioRuntime;
