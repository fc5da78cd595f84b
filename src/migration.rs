//! `lunferry migration`: asks the agent on this host.

use lunferry_cluster::agent::told::Happened;
use lunferry_cluster::agent::view::MigrationView;
use serde_json::{Value, json};

use crate::cli::{Cli, MigrationArgs, MigrationVerb};
use crate::control::Client;
use crate::exit::{Exit, Failure};
use crate::{output, shown};

/// Asks, and shows what comes back.
pub fn run(args: &MigrationArgs, cli: &Cli) -> Exit {
    let client = Client::new(&args.socket);
    let done = match &args.verb {
        MigrationVerb::Define(args) => order(&client, cli, &args.name, "define", Value::Null),
        MigrationVerb::Sync(args) => order(&client, cli, &args.name, "sync", Value::Null),
        MigrationVerb::Pause(args) => order(&client, cli, &args.name, "pause", Value::Null),
        MigrationVerb::Resume(args) => order(&client, cli, &args.name, "resume", Value::Null),
        MigrationVerb::Throttle(args) => {
            let limit = args.limit.0.map(|limit| limit.0);
            order(&client, cli, &args.name, "throttle", json!({ "limit_bytes_per_s": limit }))
        }
        MigrationVerb::MoveTo(args) => order(&client, cli, &args.name, "move-to", json!({ "node": args.node })),
        MigrationVerb::Evict(args) => order(&client, cli, &args.name, "evict", json!({ "node": args.node })),
        MigrationVerb::Status(args) => status(&client, cli, args.name.as_deref()),
        MigrationVerb::List => list(&client, cli),
        MigrationVerb::Watch(args) => watch(&client, cli, args.name.as_deref()),
    };
    done.unwrap_or_else(|failure| failure.show(cli))
}

fn order(client: &Client, cli: &Cli, name: &str, verb: &str, body: Value) -> Result<Exit, Failure> {
    let mut answer = client.post(&format!("{}/{verb}", path_of(name)?), body)?;
    if cli.json {
        answer["exit_code"] = 0.into();
        output::json(&answer);
    } else if !cli.quiet {
        let by = answer["by"].as_str().unwrap_or("another node");
        output::line(format_args!("{name}: {verb} has begun, by {by}"));
    }
    Ok(Exit::Done)
}

/// A migration's path. A name that needs escaping is no migration's name.
fn path_of(name: &str) -> Result<String, Failure> {
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    let message = format!("`{name}` is no migration's name; `lunferry migration list` shows those that there are");
    if is_name {
        Ok(format!("/v1/migrations/{name}"))
    } else {
        Err(Failure::new(Exit::Usage, "no_such_migration", message))
    }
}

fn unread(error: &serde_json::Error) -> Failure {
    let mend = "are agent and command of one version?";
    Failure::new(Exit::Failed, "answer", format!("the agent's answer isn't understood: {error}; {mend}"))
}

/// The migrations as the agent told them, and as values.
fn migrations(client: &Client, name: Option<&str>) -> Result<(Value, Vec<MigrationView>), Failure> {
    let told = match name {
        Some(name) => json!([client.get(&path_of(name)?)?]),
        None => client.get("/v1/migrations")?["migrations"].take(),
    };
    let views = serde_json::from_value(told.clone()).map_err(|error| unread(&error))?;
    Ok((told, views))
}

fn status(client: &Client, cli: &Cli, name: Option<&str>) -> Result<Exit, Failure> {
    let (told, views) = migrations(client, name)?;
    if cli.json {
        output::json(&json!({ "result": "shown", "exit_code": 0, "migrations": told }));
    } else {
        views.iter().flat_map(shown::status).for_each(output::line);
    }
    Ok(Exit::Done)
}

fn list(client: &Client, cli: &Cli) -> Result<Exit, Failure> {
    let (told, views) = migrations(client, None)?;
    if cli.json {
        output::json(&json!({ "result": "listed", "exit_code": 0, "migrations": told }));
    } else {
        output::line(shown::LIST_HEAD);
        views.iter().map(shown::row).for_each(output::line);
    }
    Ok(Exit::Done)
}

/// With `--json` each event is a line of its own, as the agent tells it.
fn watch(client: &Client, cli: &Cli, name: Option<&str>) -> Result<Exit, Failure> {
    if let Some(name) = name {
        // A name that doesn't exist would be watched for ever.
        migrations(client, Some(name))?;
    }
    let begun = || {
        if !cli.quiet {
            output::note("watching what happens from now on");
        }
    };
    client.lines("/v1/events", begun, |line| {
        let happened: Option<Happened> = serde_json::from_slice(line).ok();
        let is_wanted = happened.as_ref().is_none_or(|event| name.is_none_or(|name| name == event.migration));
        match happened {
            _ if !is_wanted => {}
            _ if cli.json => output::line(String::from_utf8_lossy(line.trim_ascii_end())),
            Some(happened) => output::line(shown::event(&happened)),
            None => output::line("some events were missed: this reader was too slow"),
        }
    })?;
    Err(Failure::new(Exit::Failed, "ended", "the agent has ended; another node's agent tells what happens now"))
}
