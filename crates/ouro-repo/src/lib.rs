//! The repository format: what Ourobox keeps on a remote, and how it is read and written.
//!
//! A [`Repository`] is one place behind a [`Store`](ouro_remote::Store): its configuration and keys, each device's log of commit
//! [`Record`]s, packs of blobs, packs of tree nodes, and hints about how far everything goes. [`Pipeline`] turns files into packs over all
//! cores; [`NodeWriter`] writes a tree. Every byte is described in docs/format.md.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use ouro_core::id::{DeviceId, Seq};
//! use ouro_remote::Store;
//! use ouro_repo::{Body, Ports, RepoError, Repository, Secret};
//!
//! # async fn example(store: Arc<dyn Store>, ports: Ports, device: DeviceId) -> Result<(), RepoError> {
//! let repo = Repository::open(store, ports, &Secret::Passphrase("open sesame".to_owned().into())).await?;
//! let mut seq = Seq(1);
//! while let Some((record, _hash, _inline)) = repo.read_record(device, seq).await? {
//!     if let Body::Delta(delta) = record.body {
//!         println!("{} files changed", delta.files.len());
//!     }
//!     seq = seq.next();
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Never knows: this device's disk, SQLite, the user, what a state means. Time, chance and tasks come in through [`Ports`].

mod assembly;
mod blob;
mod collection;
mod config;
mod crypto;
mod cut;
mod device;
mod error;
mod fetch;
mod frame;
mod keyslot;
mod moved;
mod node;
mod object;
mod pack;
mod pipeline;
mod rebuild;
mod record;
mod record_codec;
mod removed;
mod repack;
mod repository;
mod rules;
mod wire;

pub use blob::SealedBlob;
pub use collection::{Collection, CollectionNo, Covered, Gone, KeptState, MovedTable, Pin};
pub use config::{ChunkerParams, RepoConfig, RepositoryId};
pub use crypto::MasterKey;
pub use cut::Cutter;
pub use device::{Branch, DeviceInfo, Hint, author};
pub use error::RepoError;
pub use frame::{Effort, PLAIN_BYTES_MAX};
pub use keyslot::PassphraseCost;
pub use moved::{HOPS_MAX, Places, TABLE_PLACES_MAX};
pub use node::{NodeWriter, OpenNode, TOP_WINDOW_BYTES, WrittenNodes};
pub use object::{FORMAT_VERSION, HEADER_BYTES, pack_of};
pub use pack::{FinishedPack, PACK_BYTES, Packer};
pub use pipeline::{Known, Open, Pipeline, PipelineOptions, Sink, SinkError, Source, Totals};
pub use rebuild::{PackPart, Rebuilt};
pub use record::{
    Announcement, Body, INLINE_BLOB_BYTES_MAX, INLINE_TOTAL_BYTES_MAX, MESSAGE_BYTES_MAX, ReadRecord, Record,
    SealedRecord,
};
pub use removed::Removal;
pub use repack::StoredCopy;
pub use repository::{InitOptions, Ports, Repository, Secret};
pub use rules::{RULES, rules_in_effect};
