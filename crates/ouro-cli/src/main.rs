//! The `ourobox` command.
fn main() {}
