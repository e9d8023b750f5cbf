//! ouro-local
