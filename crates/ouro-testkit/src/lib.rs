//! ouro-testkit
