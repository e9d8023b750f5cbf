//! The file system over a real box on a temporary folder, without a kernel.

#[cfg(test)]
mod elsewhere;
#[cfg(test)]
mod identity;
#[cfg(test)]
mod listing;
#[cfg(test)]
mod model;
#[cfg(test)]
mod posix;
#[cfg(test)]
mod stress;
#[cfg(test)]
mod support;
#[cfg(test)]
mod trash;
#[cfg(test)]
mod writers;
