//! ouro-sync
