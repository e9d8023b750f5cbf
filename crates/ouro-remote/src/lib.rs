//! One storage place, whichever it is: an S3 bucket, a WebDAV or SFTP account, a folder, or memory.
//!
//! The principal types are [`Store`], the seam through which everything above sees a storage place, and [`Remote`], which implements it
//! for real ones: requests with a time limit, retries with growing and random pauses, a limit on requests in flight, exact request
//! accounting. [`MemoryStore`] implements it in memory.
//!
//! This crate never knows what a pack, a tree or a commit is, nor what this device holds.
//!
//! ```no_run
//! use bytes::Bytes;
//! use ouro_remote::{Credentials, Limits, Remote, RemoteUri, Store};
//!
//! # async fn example() -> Result<(), ouro_remote::RemoteError> {
//! let uri: RemoteUri = "s3://photos/repo?region=eu-central-1".parse()?;
//! let remote = Remote::open(&uri, &Credentials::from_env(), &Limits::default())?;
//! remote.probe().await?;
//! remote.publish("packs/0a/0a31", Bytes::from_static(b"data")).await?;
//! assert!(remote.get("packs/0a/none").await?.is_none());
//! # Ok(())
//! # }
//! ```

mod credentials;
mod dal;
mod disk;
mod error;
mod http;
mod limits;
mod memory;
mod meter;
mod remote;
mod s3;
mod sftp;
mod store;
mod uri;
mod webdav;

pub use credentials::Credentials;
pub use error::RemoteError;
pub use limits::Limits;
pub use memory::MemoryStore;
pub use meter::{PrefixBytes, Usage};
pub use ouro_core::port::BoxFuture;
pub use remote::{Probe, Remote};
pub use store::{ListedObject, Store, check_name, check_prefix};
pub use uri::{RemoteUri, Scheme};
