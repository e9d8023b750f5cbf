//! The walls between the crates, checked against what `cargo metadata` says.
//!
//! The tables below are the drawing in docs/architecture.md, "The house", in a form a machine can read: whoever changes one
//! changes the other.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Which of our crates a crate may name, itself and directly. A crate that is not listed may not exist.
const ROOMS: &[(&str, Allowed)] = &[
    ("ouro-core", Allowed::Only(&[])),
    ("ouro-remote", Allowed::Only(&["ouro-core"])),
    ("ouro-repo", Allowed::Only(&["ouro-core", "ouro-remote"])),
    ("ouro-local", Allowed::Only(&["ouro-core"])),
    ("ouro-sync", Allowed::Only(&["ouro-core", "ouro-local", "ouro-repo", "ouro-remote"])),
    ("ouro-vfs", Allowed::Only(&["ouro-core", "ouro-local"])),
    ("ouro-engine", Allowed::Only(&["ouro-core", "ouro-remote", "ouro-repo", "ouro-local", "ouro-sync", "ouro-vfs"])),
    ("ouro-fuse", Allowed::Only(&["ouro-core", "ouro-vfs"])),
    ("ouro-dbus", Allowed::Only(&["ouro-core", "ouro-engine"])),
    ("ouro-gateway", Allowed::Only(&["ouro-core", "ouro-vfs", "ouro-engine"])),
    ("ouro-cli", Allowed::Only(&["ouro-core", "ouro-engine", "ouro-fuse", "ouro-dbus", "ouro-gateway"])),
    (TESTKIT, Allowed::Any),
    ("ouro-tests", Allowed::Any),
    ("xtask", Allowed::Only(&[])),
];

/// Test equipment: never part of what is shipped.
const TESTKIT: &str = "ouro-testkit";

/// Crates in which it is no matter that test equipment is an ordinary dependency.
const TEST_CRATES: &[&str] = &[TESTKIT, "ouro-tests"];

/// Foreign crates that stop at one wall: (crate, the only room that may name it).
const FOREIGN: &[(&str, &str)] = &[
    ("fuser", "ouro-fuse"),
    ("opendal", "ouro-remote"),
    ("reqwest", "ouro-remote"),
    ("rusqlite", "ouro-local"),
    ("zbus", "ouro-dbus"),
    ("s3s", "ouro-gateway"),
    ("tauri", "ouro-desktop"),
];

/// Rooms that may use tokio's runtime, clock and files; all others get them through the ports of ouro-core.
const RUNTIME_ROOMS: &[&str] = &["ouro-engine", "ouro-cli"];

/// The features of tokio by which a room would reach the runtime, the clock or the disk on its own.
const RUNTIME_FEATURES: &[&str] =
    &["full", "rt", "rt-multi-thread", "time", "fs", "net", "process", "signal", "io-std", "test-util"];

#[derive(Clone, Copy)]
enum Allowed {
    Only(&'static [&'static str]),
    Any,
}

/// One line of a `[dependencies]`, `[dev-dependencies]` or `[build-dependencies]` section.
#[derive(Debug, Clone)]
struct Edge {
    source: String,
    target: String,
    dev: bool,
    /// The target is a crate of this workspace.
    ours: bool,
    features: Vec<String>,
}

/// Lists every edge of the workspace at `root` that the drawing does not have.
///
/// # Errors
///
/// When `cargo metadata` cannot be run or says something unexpected.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(root)
        .output()
        .context("cargo metadata cannot be started")?;
    ensure!(output.status.success(), "cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    let metadata = serde_json::from_slice(&output.stdout).context("cargo metadata gave no JSON")?;
    let (rooms, edges) = read(&metadata)?;
    Ok(judge(&rooms, &edges))
}

/// Reads the workspace's crates and all their direct dependencies.
fn read(metadata: &Value) -> Result<(Vec<String>, Vec<Edge>)> {
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let text = |value: &Value| value.as_str().map(str::to_owned).context("cargo metadata misses a name");
    let mut rooms = Vec::new();
    let mut edges = Vec::new();
    for package in packages {
        let source = text(&package["name"])?;
        for dependency in package["dependencies"].as_array().context("a package without dependencies list")? {
            let features = dependency["features"].as_array().context("a dependency without features list")?;
            edges.push(Edge {
                source: source.clone(),
                target: text(&dependency["name"])?,
                dev: dependency["kind"] == "dev",
                ours: dependency["path"].is_string(),
                features: features.iter().map(text).collect::<Result<_>>()?,
            });
        }
        rooms.push(source);
    }
    Ok((rooms, edges))
}

fn judge(rooms: &[String], edges: &[Edge]) -> Vec<String> {
    let unknown = rooms
        .iter()
        .filter(|room| allowed(room).is_none())
        .map(|room| format!("{room} has no row in docs/architecture.md and in xtask/src/arch.rs"));
    unknown.chain(edges.iter().filter_map(judge_edge)).collect()
}

fn judge_edge(edge: &Edge) -> Option<String> {
    let Edge { source, target, dev, ours, features } = edge;
    if *ours {
        return judge_room_edge(source, target, *dev);
    }
    let owner = FOREIGN.iter().find(|(foreign, _)| foreign == target).map(|(_, owner)| *owner);
    if let Some(owner) = owner
        && owner != source
        && !TEST_CRATES.contains(&source.as_str())
    {
        return Some(format!("{source} imports {target}, which only {owner} may"));
    }
    if target == "tokio" && !dev && ![RUNTIME_ROOMS, TEST_CRATES].concat().contains(&source.as_str()) {
        let reached: Vec<_> = features.iter().filter(|f| RUNTIME_FEATURES.contains(&f.as_str())).cloned().collect();
        if !reached.is_empty() {
            return Some(format!("{source} uses tokio's {}: go through the ports of ouro-core", reached.join(", ")));
        }
    }
    None
}

fn judge_room_edge(source: &str, target: &str, dev: bool) -> Option<String> {
    let Some(Allowed::Only(direct)) = allowed(source) else {
        return None;
    };
    if target == TESTKIT {
        return (!dev).then(|| format!("{source} imports {TESTKIT} outside its dev-dependencies"));
    }
    if direct.contains(&target) || dev && below(source).contains(target) {
        return None;
    }
    Some(format!("{source} imports {target}: imports go down, along the lines in docs/architecture.md"))
}

fn allowed(room: &str) -> Option<Allowed> {
    ROOMS.iter().find(|(name, _)| *name == room).map(|(_, allowed)| *allowed)
}

/// All rooms that can be reached downwards from `room`.
fn below(room: &str) -> BTreeSet<&'static str> {
    let Some(Allowed::Only(direct)) = allowed(room) else {
        return BTreeSet::new();
    };
    direct.iter().flat_map(|target| below(target).into_iter().chain([*target])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(source: &str, target: &str, dev: bool) -> Edge {
        let ours = target.starts_with("ouro-");
        Edge { source: source.into(), target: target.into(), dev, ours, features: Vec::new() }
    }

    #[track_caller]
    fn finds(edge: &Edge, words: &str) {
        let found = judge_edge(edge).expect("a violation");
        assert!(found.contains(words), "{found}");
    }

    #[test]
    fn an_import_upwards_is_a_violation() {
        finds(&edge("ouro-core", "ouro-local", false), "ouro-core imports ouro-local");
        finds(&edge("ouro-vfs", "ouro-sync", false), "ouro-vfs imports ouro-sync");
        finds(&edge("ouro-local", "ouro-vfs", true), "imports go down");
    }

    #[test]
    fn an_import_along_the_drawing_is_none() {
        assert_eq!(judge_edge(&edge("ouro-sync", "ouro-local", false)), None);
        assert_eq!(judge_edge(&edge("ouro-cli", "ouro-local", true)), None, "tests may reach further down");
    }

    #[test]
    fn test_equipment_stays_out_of_what_is_shipped() {
        finds(&edge("ouro-sync", "ouro-testkit", false), "outside its dev-dependencies");
        assert_eq!(judge_edge(&edge("ouro-sync", "ouro-testkit", true)), None);
    }

    #[test]
    fn foreign_crates_stop_at_their_wall() {
        finds(&edge("ouro-vfs", "fuser", false), "only ouro-fuse may");
        finds(&edge("ouro-sync", "rusqlite", true), "only ouro-local may");
        assert_eq!(judge_edge(&edge("ouro-remote", "opendal", false)), None);
    }

    #[test]
    fn only_the_engine_reaches_the_runtime() {
        let tokio = |source, features: &[&str]| Edge {
            features: features.iter().map(|f| (*f).to_owned()).collect(),
            ..edge(source, "tokio", false)
        };
        finds(&tokio("ouro-sync", &["sync", "time"]), "tokio's time");
        assert_eq!(judge_edge(&tokio("ouro-sync", &["sync"])), None);
        assert_eq!(judge_edge(&tokio("ouro-engine", &["rt", "time", "fs"])), None);
    }

    #[test]
    fn a_crate_without_a_row_is_a_violation() {
        let found = judge(&["ouro-extra".into()], &[]);
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("ouro-extra has no row"));
    }

    #[test]
    fn metadata_is_read_with_kinds_and_features() {
        let metadata = serde_json::json!({"packages": [{"name": "ouro-vfs", "dependencies": [
            {"name": "ouro-core", "kind": null, "path": "/x", "features": []},
            {"name": "tokio", "kind": "dev", "features": ["rt"]},
        ]}]});
        let (rooms, edges) = read(&metadata).expect("well-formed");
        assert_eq!(rooms, ["ouro-vfs"]);
        assert!(edges[0].ours && !edges[0].dev);
        assert!(!edges[1].ours && edges[1].dev && edges[1].features == ["rt"]);
    }
}
