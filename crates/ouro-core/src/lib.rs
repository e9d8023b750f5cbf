//! ouro-core
