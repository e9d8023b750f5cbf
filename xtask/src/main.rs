//! Workspace chores: `cargo xtask arch` and `cargo xtask tidy`.
//!
//! Both print one line per violation and fail when there is one. They look at the whole tree as it stands, so they need no
//! build of the crates they judge.

mod arch;
mod tidy;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

fn main() -> Result<ExitCode> {
    let task = std::env::args().nth(1).unwrap_or_default();
    let root = workspace_root()?;
    let violations = match task.as_str() {
        "arch" => arch::check(&root)?,
        "tidy" => tidy::check(&root)?,
        _ => bail!("usage: cargo xtask arch|tidy"),
    };
    for violation in &violations {
        println!("{task}: {violation}");
    }
    if violations.is_empty() {
        println!("{task}: ok");
        return Ok(ExitCode::SUCCESS);
    }
    println!("{task}: {} to mend", violations.len());
    Ok(ExitCode::FAILURE)
}

/// The folder with the workspace's Cargo.toml: the parent of this crate's own.
fn workspace_root() -> Result<PathBuf> {
    let own = std::env::var_os("CARGO_MANIFEST_DIR").context("run me as `cargo xtask`")?;
    let root = PathBuf::from(own).parent().context("xtask stands inside the workspace")?.to_path_buf();
    Ok(root)
}
