//! ouro-repo
