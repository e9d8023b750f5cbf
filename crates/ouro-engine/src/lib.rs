//! The composition root and the only API of Ourobox: config in; commands, queries and progress out.
//!
//! Owns the runtime and the real clock, and wires the rooms below together. The principal type is [`Engine`].
//!
//! Never knows: Tauri, D-Bus, terminal, kernel ABI.

pub mod api;
