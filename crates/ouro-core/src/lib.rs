//! The words of Ourobox and its pure functions.
//!
//! Everything here is a function over values and given bytes: ids and versions ([`id`]), what a file is ([`state`]), what a commit
//! changes ([`delta`]), how a state is laid out as sorted rows ([`row`]) and stored as a prolly tree ([`tree`]), how a delta changes rows
//! ([`apply`]), what a person sees of them ([`render`]), what an operation on the seen writes ([`edit`]), how two states differ ([`compare`]) and what a commit did
//! ([`deed`]), which state of the past somebody means ([`when`]), which commits stay ([`retention`]), and where a byte stream is cut ([`chunk`]). The principal type is [`state::File`].
//!
//! Never knows: disk, network, clock, SQL, kernel. It gets plain bytes: no cipher, no compressor.
#![cfg_attr(not(test), no_std)]
extern crate alloc;

pub mod apply;
pub mod birth;
pub mod codec;
pub mod compare;
pub mod content;
pub mod deed;
pub mod delta;
pub mod digest;
pub mod edit;
pub mod id;
mod layout;
pub mod name;
pub mod port;
pub mod render;
pub mod retention;
pub mod row;
mod sibling;
pub mod state;
pub mod time;
pub mod tree;
pub mod when;
