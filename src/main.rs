//! The `lunferry` command: parses, wires the rooms together, and turns outcomes into exit codes. It decides nothing about data.
//!
//! ```text
//!   cli         the flags, defined once: parser, help and shell completions come from here
//!   copy, verify, checkpoint, lun, agent, migration
//!               one file a verb: an options struct in, an exit code out
//!   control     the client of an agent's control socket
//!   shown       a migration's status in words
//!   exit        exit codes, and the one place where errors become one
//!   output      stdout and stderr that may be closed, or not be read, at any time; logs that do not break the bar
//!   progress/   the bar, the lines, and the rate behind both
//!   stop        Ctrl-C
//! ```

mod agent;
mod checkpoint;
mod cli;
mod control;
mod copy;
mod exit;
mod lun;
mod migration;
mod output;
mod progress;
mod shown;
mod stop;
mod summary;
mod verify;

use std::io::Write;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use crate::cli::{CheckpointVerb, Cli, LunVerb, Verb};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return ExitCode::from(wrong_use(&error)),
    };
    if let Err(error) = output::start() {
        // Before this nothing is open that could be held up.
        let _ = writeln!(std::io::stderr(), "lunferry: starting a thread failed: {error}");
        return ExitCode::from(exit::Exit::Failed);
    }
    output::start_logging(cli.log_format, cli.verbose.max(agent::least_verbose(&cli)));
    let exit = run(&cli);
    output::finish(output::LAST_WORDS);
    ExitCode::from(exit)
}

fn run(cli: &Cli) -> exit::Exit {
    match &cli.verb {
        Verb::Copy(args) => copy::run(args, cli),
        Verb::Verify(args) => verify::run(args, cli),
        Verb::Checkpoint(CheckpointVerb::Show(args)) => checkpoint::show(args, cli),
        Verb::Checkpoint(CheckpointVerb::Erase(args)) => checkpoint::erase(args, cli),
        Verb::Lun(LunVerb::List) => lun::list(cli),
        Verb::Lun(LunVerb::Show(args)) => lun::show(args, cli),
        Verb::Lun(LunVerb::Release(args)) => lun::release(args, cli),
        Verb::Agent(args) => agent::run(args, cli),
        Verb::Migration(args) => migration::run(args, cli),
        Verb::Completions { shell } => {
            clap_complete::generate(*shell, &mut Cli::command(), "lunferry", &mut output::Stdout);
            exit::Exit::Done
        }
    }
}

/// What clap has to say: help, the version, or what is wrong with the arguments. With `--json` the latter is a document on
/// stdout like every other error.
fn wrong_use(error: &clap::Error) -> exit::Exit {
    let asked_for = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    let wants_json = std::env::args_os().take_while(|arg| arg != "--").any(|arg| arg == "--json");
    if !asked_for && wants_json {
        return exit::usage_as_json(&error.render().to_string());
    }
    // Nobody may be there to read it.
    let _ = error.print();
    if asked_for { exit::Exit::Done } else { exit::Exit::Usage }
}
