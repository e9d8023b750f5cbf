//! ouro-fuse
