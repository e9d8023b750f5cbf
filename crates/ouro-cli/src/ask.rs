//! From a verb to an answer: by the running engine if there is one, else by an engine in this process.

use crate::args::{DevicesArgs, DevicesVerb, KeepArg, RemoteArgs, Verb};
use crate::client::Client;
use crate::places::Places;
use crate::progress::Bar;
use crate::secrets::{Purpose, credentials, passphrase};
use crate::wire::Line;
use crate::{host, start};
use anyhow::{Context, Result, bail};
use ouro_engine::api::{
    CollectRequest, Event, Failure, FailureKind, InitRequest, JoinRequest, KeepWish, MountRequest, PinWish, Request,
    Response,
};
use std::path::{Path, PathBuf};

/// What a verb asks for.
///
/// # Errors
///
/// If a path cannot be resolved, or a secret cannot be read.
pub(crate) fn request(verb: &Verb) -> Result<Request> {
    let request = match verb {
        Verb::Init(args) => {
            let RemoteArgs { remote, name, device_name, .. } = &args.remote;
            Request::Init(InitRequest {
                remote: remote.clone(),
                name: name.clone(),
                passphrase: passphrase(&args.remote, Purpose::Init)?,
                credentials: credentials(&args.remote)?,
                device_name: device_name.clone(),
            })
        }
        Verb::Join(args) => {
            let RemoteArgs { remote, name, device_name, .. } = &args.remote;
            Request::Join(JoinRequest {
                remote: remote.clone(),
                name: name.clone(),
                passphrase: passphrase(&args.remote, Purpose::Join)?,
                credentials: credentials(&args.remote)?,
                device_name: device_name.clone(),
            })
        }
        Verb::Fuse(args) => Request::Mount(MountRequest {
            mountpoint: place(&args.mountpoint)?,
            boxes: args.boxes.clone(),
            allow_other: args.allow_other,
            default_permissions: args.default_permissions || args.allow_other,
        }),
        Verb::Umount(args) => match &args.mountpoint {
            Some(mountpoint) => Request::Unmount { mountpoint: place(mountpoint)? },
            None => Request::Stop,
        },
        Verb::Status { paths } => Request::Status { paths: places_of(paths)? },
        Verb::Ls { path } => Request::List { path: place(path)? },
        Verb::Wait(args) => {
            Request::Wait { path: args.path.as_deref().map(place).transpose()?, timeout_seconds: args.timeout }
        }
        Verb::Pin(args) => Request::Pin {
            paths: places_of(&args.paths)?,
            pin: if args.online { PinWish::Online } else { PinWish::Keep },
        },
        Verb::Unpin { paths } => Request::Pin { paths: places_of(paths)?, pin: PinWish::Auto },
        Verb::Free { paths } => Request::Free { paths: places_of(paths)? },
        Verb::Import(args) => Request::Import {
            source: place(&args.source)?,
            into: args.into.as_deref().map(place).transpose()?,
            box_name: args.name.clone(),
        },
        Verb::Log(args) => {
            let path = args.path.as_deref().map(place).transpose()?;
            Request::Log { path, name: args.name.clone(), limit: args.limit }
        }
        Verb::Diff(args) => Request::Diff {
            from: args.from.clone(),
            to: args.to.clone(),
            path: args.path.as_deref().map(place).transpose()?,
            name: args.name.clone(),
        },
        Verb::Restore(args) => Request::Restore {
            path: if args.path == Path::new("/") { None } else { Some(place(&args.path)?) },
            at: args.at.clone(),
            to: args.to.as_deref().map(place).transpose()?,
            name: args.name.clone(),
        },
        Verb::Conflicts(args) => {
            Request::Conflicts { path: args.path.as_deref().map(place).transpose()?, name: args.name.clone() }
        }
        Verb::Events(args) => Request::Events { name: args.name.clone() },
        Verb::Resolve(args) => Request::Resolve {
            path: place(&args.path)?,
            keep: match args.keep {
                KeepArg::Mine => KeepWish::Mine,
                KeepArg::Theirs => KeepWish::Theirs,
                KeepArg::Both => KeepWish::Both,
            },
        },
        Verb::Snapshot(args) => Request::Snapshot {
            message: args.message.clone(),
            path: args.path.as_deref().map(place).transpose()?,
            name: args.name.clone(),
        },
        Verb::Branch(args) => match &args.branch {
            Some(branch) if args.delete => {
                Request::EndBranch { branch: branch.clone(), discard: args.discard, name: args.name.clone() }
            }
            Some(branch) => Request::Branch { branch: branch.clone(), at: args.at.clone(), name: args.name.clone() },
            None => Request::Branches { name: args.name.clone() },
        },
        Verb::Merge(args) => {
            Request::Merge { branch: args.branch.clone(), preview: args.preview, name: args.name.clone() }
        }
        Verb::Stats { remote } => Request::Stats { remote: *remote },
        Verb::Gc(args) => Request::Collect(CollectRequest {
            name: args.name.clone(),
            dry_run: args.dry_run,
            grace_seconds: Some(args.grace),
            keep_all_seconds: Some(args.keep_all),
        }),
        Verb::Check { read_data, repair } => Request::Check { read_data: *read_data, repair: *repair },
        Verb::Devices(DevicesArgs { verb: None }) => Request::Devices,
        Verb::Devices(DevicesArgs { verb: Some(DevicesVerb::Remove { device, name, this_device }) }) => {
            Request::RemoveDevice { device: device.clone(), name: name.clone(), this: *this_device }
        }
        Verb::Service(_) | Verb::Guard(_) => bail!("this is the engine itself, not a question to it"),
    };
    Ok(request)
}

/// Gets the answer.
///
/// # Errors
///
/// If no engine can be reached or started. What the engine itself refuses is an answer.
pub(crate) fn answer(places: &Places, request: Request, bar: &Bar) -> Result<Response> {
    if let Some(mut client) = Client::connect(places)?
        && let Some(response) = client.ask(request.clone(), &mut |step| bar.step(step))?
    {
        return Ok(response);
    }
    match &request {
        Request::Mount(_) => mount_in_background(places, request, bar),
        Request::Unmount { mountpoint } => clear_dead(mountpoint),
        Request::Stop => Ok(Response::Done),
        Request::Events { .. } => Ok(no_engine()),
        Request::List { path } | Request::Resolve { path, .. } => Ok(not_mounted(path)),
        Request::Status { paths } | Request::Pin { paths, .. } | Request::Free { paths } if !paths.is_empty() => {
            Ok(not_mounted(&paths[0]))
        }
        Request::Import { into: Some(path), .. }
        | Request::Log { path: Some(path), .. }
        | Request::Diff { path: Some(path), .. }
        | Request::Restore { path: Some(path), .. }
        | Request::Conflicts { path: Some(path), .. }
        | Request::Snapshot { path: Some(path), .. }
        | Request::Wait { path: Some(path), .. } => Ok(not_mounted(path)),
        _ => host::answer_here(places, request, bar),
    }
}

/// Tells events of a running engine as they come; returns when it, or the box, goes.
///
/// # Errors
///
/// If the engine cannot be reached, or dies.
pub(crate) fn follow(places: &Places, request: Request, tell: &mut dyn FnMut(&Event)) -> Result<Response> {
    let mut heard = |line| {
        if let Line::Event(event) = line {
            tell(&event);
        }
    };
    match Client::connect(places)? {
        Some(mut client) => Ok(client.listen(request, &mut heard)?.unwrap_or_else(no_engine)),
        None => Ok(no_engine()),
    }
}

fn no_engine() -> Response {
    let message =
        "no engine runs that could tell: mount a box with `ourobox fuse DIRECTORY`, or start `ourobox service`";
    Response::Failed(Failure { kind: FailureKind::NeedsUser, message: message.to_owned() })
}

/// Opens a branch and mounts it.
///
/// # Errors
///
/// As [`answer`].
pub(crate) fn branch_and_mount(places: &Places, verb: &Verb, mountpoint: &Path, bar: &Bar) -> Result<Response> {
    let mountpoint = place(mountpoint)?;
    let mut branched = match answer(places, request(verb)?, bar)? {
        Response::Branched(branched) => branched,
        refused => return Ok(refused),
    };
    let mount = MountRequest {
        mountpoint,
        boxes: vec![branched.box_name.clone()],
        allow_other: false,
        default_permissions: false,
    };
    Ok(match answer(places, Request::Mount(mount), bar)? {
        Response::Mounted { mountpoint } => {
            branched.mountpoint = Some(mountpoint);
            Response::Branched(branched)
        }
        refused => refused,
    })
}

/// Mounts by an engine that stays when this command ends. It is ended again if the mount fails.
fn mount_in_background(places: &Places, request: Request, bar: &Bar) -> Result<Response> {
    let started = start::start_detached(places);
    // A second `ourobox fuse` may have started one at the same time: then ours failed, and that one serves us both.
    let ours = started.is_ok();
    let Some(mut client) = Client::connect(places)? else {
        started?; // why it did not start; if it did, it has ended since
        bail!("the engine ended again; see {}", places.log_file().display());
    };
    let Some(response) = client.ask(request, &mut |step| bar.step(step))? else {
        bail!("the engine was just ending; try again");
    };
    if ours && matches!(response, Response::Failed(_)) {
        end_if_idle(places)?;
    }
    Ok(response)
}

/// Ends the engine unless somebody else has mounted something by now.
fn end_if_idle(places: &Places) -> Result<()> {
    let ask = |request| match Client::connect(places)? {
        Some(mut client) => client.ask(request, &mut |_| {}),
        None => Ok(None),
    };
    let status = ask(Request::Status { paths: Vec::new() })?;
    if matches!(&status, Some(Response::Status(status)) if status.boxes.iter().all(|one| one.mounted_at.is_none())) {
        ask(Request::Stop)?;
    }
    Ok(())
}

/// What `umount` can do when no engine runs: clear what a dead one left.
fn clear_dead(mountpoint: &Path) -> Result<Response> {
    if ouro_fuse::recover_dead_mount(mountpoint)? {
        return Ok(Response::Done);
    }
    let message = format!("nothing of Ourobox is mounted at {}", mountpoint.display());
    Ok(Response::Failed(Failure { kind: FailureKind::NeedsUser, message }))
}

fn not_mounted(path: &Path) -> Response {
    let message = format!("{} is in no mounted box: mount one with `ourobox fuse DIRECTORY`", path.display());
    Response::Failed(Failure { kind: FailureKind::NeedsUser, message })
}

fn places_of(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    paths.iter().map(|path| place(path)).collect()
}

/// The absolute path of what a person named: symlinks on the way are followed, one at the end is meant itself.
fn place(path: &Path) -> Result<PathBuf> {
    let absolute = std::path::absolute(path).with_context(|| format!("{} is no usable path", path.display()))?;
    let ends_in_name = matches!(absolute.components().next_back(), Some(std::path::Component::Normal(_)));
    let (Some(parent), Some(name), true) = (absolute.parent(), absolute.file_name(), ends_in_name) else {
        return absolute.canonicalize().with_context(|| format!("cannot find {}", path.display()));
    };
    // What cannot be resolved (it may not exist yet, or be a dead mount) is left to the engine.
    Ok(parent.canonicalize().map_or_else(|_| absolute.clone(), |parent| parent.join(name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Cli;
    use clap::Parser;

    fn request_of(line: &str) -> Request {
        let cli = Cli::try_parse_from(line.split_whitespace()).expect("good usage");
        request(&cli.verb).expect("no secret is asked for")
    }

    #[test]
    fn pin_and_unpin_are_three_wishes() {
        let wish = |line| match request_of(line) {
            Request::Pin { pin, .. } => pin,
            other => panic!("{other:?}"),
        };
        assert_eq!(wish("ourobox pin a"), PinWish::Keep);
        assert_eq!(wish("ourobox pin --online a"), PinWish::Online);
        assert_eq!(wish("ourobox unpin a"), PinWish::Auto);
    }

    #[test]
    fn letting_others_in_asks_for_the_kernels_checks_too() {
        let Request::Mount(mount) = request_of("ourobox fuse /tmp/m --allow-other --box a --box b") else { panic!() };
        assert!(mount.allow_other && mount.default_permissions);
        assert_eq!(mount.boxes, ["a", "b"]);
    }

    #[test]
    fn a_path_is_made_absolute_and_its_last_symlink_is_meant_itself() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let base = folder.path().canonicalize().expect("it exists");
        std::fs::create_dir(base.join("real")).expect("made");
        std::os::unix::fs::symlink("real", base.join("link")).expect("linked");
        assert_eq!(place(&base.join("link/../link/x")).expect("resolved"), base.join("real/x"), "as the kernel walks");
        assert_eq!(place(&base.join("link")).expect("resolved"), base.join("link"));
        assert_eq!(place(&base.join("none/x")).expect("left as it is"), base.join("none/x"));
        assert_eq!(place(Path::new("/")).expect("the root"), Path::new("/"));
    }

    #[test]
    fn without_an_engine_a_question_about_a_path_says_that_nothing_is_mounted() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let places = Places {
            config: folder.path().join("config"),
            data: folder.path().join("data"),
            cache: folder.path().join("cache"),
            run: folder.path().join("run"),
            socket_name: "engine.sock".into(),
        };
        let bar = Bar::new(false);
        for line in ["ourobox ls /x", "ourobox free /x", "ourobox log /x", "ourobox umount /x", "ourobox status /x"] {
            let response = answer(&places, request_of(line), &bar).expect("an answer");
            let Response::Failed(failure) = response else { panic!("{line}: {response:?}") };
            assert!(failure.message.contains("/x"), "{}", failure.message);
        }
        let response = answer(&places, Request::Stop, &bar).expect("an answer");
        assert!(matches!(response, Response::Done), "there is nothing to end");
        assert!(!folder.path().join("data").exists(), "and nothing was made");
    }
}
