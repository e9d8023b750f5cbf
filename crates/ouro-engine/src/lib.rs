//! ouro-engine
