//! End to end tests: real mount, real servers.
