//! ouro-remote
