//! Devices that create, edit, move, link and remove, learn of each other in any order, and must always agree with each other, with what
//! POSIX promises, and with what the state is by definition.

mod cost;
mod device;
mod oracle;
mod purge;
mod random;
mod reference;
mod replant;
mod resolve;
mod table;
