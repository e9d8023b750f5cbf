//! ouro-vfs
