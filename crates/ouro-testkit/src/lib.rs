//! What tests need: stores that fail on purpose and by a seed, and real servers on this machine.
//!
//! The principal types are [`FaultyStore`], which wraps any [`Store`](ouro_remote::Store), [`sim::Simulation`], in which everything follows
//! from a seed, and the guards in [`servers`]. A dev-dependency only: nothing that is shipped uses it.
//!
//! This crate never knows the repository format.
//!
//! ```
//! use bytes::Bytes;
//! use ouro_remote::Store;
//! use ouro_testkit::{FaultyStore, Faults, MemoryStore};
//!
//! let store = FaultyStore::new(MemoryStore::new(), 42, Faults { lose_after: 1000, ..Faults::none() });
//! let answer = futures::executor::block_on(store.publish("packs/0a/1", Bytes::from_static(b"data")));
//! assert!(answer.is_err());
//! assert_eq!(store.inner().snapshot().len(), 1);
//! ```

mod faults;
mod faulty;
pub mod servers;
pub mod sim;

pub use faults::{Faults, Operation};
pub use faulty::{Delay, FaultyStore};
pub use ouro_remote::MemoryStore;
