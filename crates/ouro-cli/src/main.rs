//! The `ourobox` command, which is also the headless service.
//!
//! The principal type is [`args::Verb`]: each is one call to the engine, answered by the running one over a private socket if there is one.
//!
//! Never knows: what a remote, a commit or a tree is; it translates and decides nothing.

mod args;
mod ask;
mod client;
mod guard;
mod holder;
mod host;
mod places;
mod progress;
mod secrets;
mod server;
mod show;
mod start;
mod wire;

use anyhow::Result;
use args::{BranchArgs, Cli, Verb};
use clap::Parser;
use ouro_engine::api::{Event, Failure, FailureKind, Response};
use places::Places;
use progress::Bar;
use std::io::Write;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// What one thread frees another one takes. An import of small files spent a quarter of its processor time in the C library's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Names what is logged, in the syntax of tracing's EnvFilter.
const LOG_VARIABLE: &str = "OUROBOX_LOG";

fn main() -> ExitCode {
    let cli = Cli::parse(); // ends with 2 on wrong usage
    start_log(&cli);
    let response = run(&cli).unwrap_or_else(|error| {
        let message = format!("{error:#}");
        Response::Failed(Failure { kind: FailureKind::NeedsUser, message })
    });
    tell(&cli, &response)
}

/// Prints an event at once; ends when nobody reads any more.
fn tell_event(cli: &Cli, event: &Event) {
    let line = if cli.json { serde_json::to_string(event).unwrap_or_default() } else { show::event(event) };
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

fn run(cli: &Cli) -> Result<Response> {
    if let Verb::Guard(args) = &cli.verb {
        return guard::keep_watch(args).map(|()| Response::Done);
    }
    let places = Places::from_environment()?;
    match &cli.verb {
        Verb::Service(args) => host::serve(&places, args.internal_detached),
        Verb::Fuse(args) if args.foreground => host::mount_here(&places, ask::request(&cli.verb)?),
        Verb::Branch(BranchArgs { mount: Some(mountpoint), .. }) => {
            ask::branch_and_mount(&places, &cli.verb, mountpoint, &Bar::new(!cli.json))
        }
        Verb::Events(_) => ask::follow(&places, ask::request(&cli.verb)?, &mut |event| tell_event(cli, event)),
        verb => ask::answer(&places, ask::request(verb)?, &Bar::new(!cli.json)),
    }
}

/// Prints the answer; says how it went.
fn tell(cli: &Cli, response: &Response) -> ExitCode {
    let failures = show::failures(response);
    let text = if cli.json {
        let document = serde_json::to_string(response);
        document.unwrap_or_else(|error| format!(r#"{{"answer":"failed","kind":"bug","message":"{error}"}}"#)) + "\n"
    } else {
        show::human(response)
    };
    let mut code = if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    // A reader that went away (`ourobox log | head`) is no failure worth a message.
    if let Err(error) = std::io::stdout().write_all(text.as_bytes())
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        code = ExitCode::FAILURE;
    }
    if !cli.json {
        for failure in failures {
            eprintln!("ourobox: {failure}");
        }
    }
    code
}

fn start_log(cli: &Cli) {
    let usual = match (cli.verbose, &cli.verb) {
        // The SSH client tells of every connection.
        (0, Verb::Service(_)) => "info,openssh=warn,openssh_sftp_client=warn",
        (0, _) => "warn",
        (1, _) => "ouro=debug,info",
        (_, _) => "trace",
    };
    let filter = EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| EnvFilter::new(usual));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
}
