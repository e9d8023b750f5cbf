//! What a box keeps on this device.
//!
//! The live state of a box stands on the stores here: the journal of everything not yet published ([`ledger::Ledger`], the principal
//! type), bytes being written ([`layers`]), the clean cache of blobs ([`blobs`]), tree nodes ([`nodes`]) and where chunks are stored
//! ([`locations`]), what the user wants kept ([`pins`]) and what is never to travel ([`mod@ignore`]). The journal and the layers hold what
//! exists nowhere else: their damage is an error. All other stores can be learnt again: a damaged one is emptied.
//!
//! Never knows: remotes, the repository format, the kernel, the desktop.

pub mod blobs;
pub mod database;
pub mod disk;
mod error;
mod filter;
pub mod ignore;
pub mod layers;
pub mod ledger;
pub mod locations;
pub mod nodes;
pub mod pins;
pub mod volume;

pub use error::LocalError;
