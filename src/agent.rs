//! `lunferry agent`: the daemon, `check` and `key`.

use std::fs;
use std::process::exit;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use lunferry_cluster::agent::alone::only_one;
use lunferry_cluster::agent::control::serve;
use lunferry_cluster::agent::key;
use lunferry_cluster::agent::notify::Notifier;
use lunferry_cluster::agent::opener::Luns;
use lunferry_cluster::agent::run::{Handle, start};
use lunferry_cluster::agent::settings::{Mistake, Settings, Whoami, parse};
use lunferry_cluster::wire::Keys;
use lunferry_engine::lock::node::host_name;
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::cli::{AgentArgs, AgentVerb, Cli, ConfigArgs, KeyArgs, Verb};
use crate::exit::{Exit, Failure};
use crate::output;

/// How long the last words of a process that ends at once may take.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// A daemon tells of what it does without being asked to.
pub fn least_verbose(cli: &Cli) -> u8 {
    u8::from(matches!(&cli.verb, Verb::Agent(AgentArgs { verb: None, .. })))
}

/// Runs the daemon, or does one of the other things.
pub fn run(args: &AgentArgs, cli: &Cli) -> Exit {
    let done = match &args.verb {
        None => daemon(&args.config),
        Some(AgentVerb::Check(config)) => check(config, cli),
        Some(AgentVerb::Key(args)) => make_key(args, cli),
    };
    done.unwrap_or_else(|failure| failure.show(cli))
}

/// The settings and the keys; every mistake in them where there are any.
fn read(args: &ConfigArgs) -> Result<(Settings, Keys), Failure> {
    let path = args.config.display();
    let text = fs::read_to_string(&args.config).map_err(|error| {
        let mend = "name the file with --config; docs/agent.example.toml shows what belongs in it";
        Failure::new(Exit::Usage, "config", format!("config file {path}: {error}; {mend}"))
    })?;
    let host = host_name();
    let settings = parse(&text, Whoami { asked: args.node.as_deref(), host: &host });
    let settings = settings.map_err(|mistakes| {
        let entry = |mistake: Mistake| {
            let message = format!("{path}:{mistake}");
            let value = json!({
                "code": "config",
                "message": mistake.what,
                "line": mistake.line,
                "column": mistake.column,
            });
            (message, value)
        };
        Failure::of(Exit::Usage, mistakes.into_iter().map(entry).collect())
    })?;
    let of_file = |path| key::read(path).map_err(|error| Failure::new(Exit::Usage, "key", error.to_string()));
    let current = of_file(&settings.key_file)?;
    let other = settings.other_key_file.as_deref().map(of_file).transpose()?;
    Ok((settings, Keys::new(current, other)))
}

fn check(args: &ConfigArgs, cli: &Cli) -> Result<Exit, Failure> {
    let (settings, _) = read(args)?;
    let (node, nodes, migrations) = (&settings.this().name, settings.nodes.len(), settings.migrations.len());
    if cli.json {
        let good = json!({ "result": "good", "exit_code": 0, "node": node, "nodes": nodes, "migrations": migrations });
        output::json(&good);
    } else if !cli.quiet {
        let path = args.config.display();
        output::line(format_args!("{path}: good: this is {node}, one of {nodes} nodes; {migrations} migrations"));
    }
    Ok(Exit::Done)
}

fn make_key(args: &KeyArgs, cli: &Cli) -> Result<Exit, Failure> {
    key::make(&args.out).map_err(|error| Failure::new(Exit::Failed, "key", error.to_string()))?;
    if cli.json {
        output::json(&json!({ "result": "made", "exit_code": 0, "key_file": args.out }));
    } else if !cli.quiet {
        output::line(format_args!("{}: a new key; copy it to every node of the cluster", args.out.display()));
    }
    Ok(Exit::Done)
}

fn daemon(args: &ConfigArgs) -> Result<Exit, Failure> {
    let (settings, keys) = read(args)?;
    let failed =
        |code: &'static str| move |error: &dyn std::fmt::Display| Failure::new(Exit::Failed, code, error.to_string());
    let _alone =
        only_one(&settings.state_dir).map_err(|error| Failure::new(Exit::Locked, "alone", error.to_string()))?;
    let socket = settings.control_socket.clone();
    let opener = Arc::new(Luns::of(&settings));
    let (handle, agent) =
        start(settings, &keys, opener, Notifier::of_systemd()).map_err(|error| failed("start")(&error))?;
    serve(handle.clone()).map_err(|error| failed("control")(&error))?;
    leave_on_signals(handle).map_err(|error| failed("signals")(&error))?;
    let ended = agent.join();
    // Nobody listens there any more; where it is gone already, that's as good.
    let _ = fs::remove_file(socket);
    match ended {
        Ok(()) => Ok(Exit::Done),
        Err(_) => Err(Failure::new(Exit::Failed, "ended", "the agent's loop has ended in a panic")),
    }
}

/// The first SIGTERM or SIGINT lets the agent hand over and leave; the second one ends the process at once.
fn leave_on_signals(handle: Handle) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::Builder::new().name("signals".into()).spawn(move || {
        let mut is_leaving = false;
        for _ in signals.forever() {
            if is_leaving {
                output::error("ended at once; what was in flight may still land, and another node takes over");
                output::finish(LAST_WORDS);
                exit(Exit::Interrupted as i32);
            }
            is_leaving = true;
            handle.leave();
        }
    })?;
    Ok(())
}
