//! The bytes of deltas and rows, and the tree over rows, through their public face.

mod codec;
mod corpus;
mod given;
mod golden;
mod tree;
