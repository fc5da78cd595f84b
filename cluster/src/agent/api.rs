//! What can be asked at the control socket, and the shapes of the answers. `docs/api.md` describes it, and a test holds it.
//!
//! Acts: it asks the loop. What it decides is which HTTP status an answer has.

use axum::body::{Body, Bytes as Raw};
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::stream;
use lunferry_engine::units::BytesPerSecond;
use lunferry_scsi::key::NodeId;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::io::Answer;
use super::run::{Ended, Handle};
use super::settings::Settings;
use super::told::Happened;
use super::view::MigrationView;
use crate::event::{Declined, Wish};
use crate::order::{Order, Reply};

/// An error on its way to an operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// A word for programs.
    pub code: String,
    /// What is wrong.
    pub message: String,
    /// What can be done.
    pub mend: String,
}

/// The body of an answer that is an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProblemBody {
    /// The error.
    pub error: Problem,
}

/// An error and its HTTP status.
#[derive(Debug)]
struct Refusal(StatusCode, Problem);

impl Refusal {
    fn new(status: StatusCode, code: &str, message: impl Into<String>, mend: impl Into<String>) -> Self {
        Self(status, Problem { code: code.into(), message: message.into(), mend: mend.into() })
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(ProblemBody { error: self.1 })).into_response()
    }
}

impl From<Ended> for Refusal {
    fn from(_: Ended) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ended", "the agent has ended", "start it again")
    }
}

/// Everything that can be asked.
pub(super) fn routes(handle: Handle) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/migrations", get(migrations))
        .route("/v1/migrations/{name}", get(migration))
        .route("/v1/migrations/{name}/{verb}", post(order))
        .route("/v1/events", get(events))
        .fallback(nothing_here)
        .method_not_allowed_fallback(wrong_method)
        .with_state(handle)
}

async fn nothing_here() -> Refusal {
    Refusal::new(
        StatusCode::NOT_FOUND,
        "no_such_path",
        "there is nothing at this path",
        "see docs/api.md for what there is",
    )
}

async fn wrong_method() -> Refusal {
    let mend = "GET asks, POST gives an order; see docs/api.md";
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "wrong_method", "this path doesn't take this method", mend)
}

async fn status(State(handle): State<Handle>) -> Result<Response, Refusal> {
    Ok(Json(handle.view().await?).into_response())
}

async fn migrations(State(handle): State<Handle>) -> Result<Response, Refusal> {
    let view = handle.view().await?;
    Ok(Json(json!({ "node": view.node, "migrations": view.migrations })).into_response())
}

async fn migration(State(handle): State<Handle>, Path(name): Path<String>) -> Result<Json<MigrationView>, Refusal> {
    let view = handle.view().await?;
    let found = view.migrations.into_iter().find(|migration| migration.name == name);
    found.map(Json).ok_or_else(|| no_migration(&name))
}

fn no_migration(name: &str) -> Refusal {
    let mend = "GET /v1/migrations lists those that there are";
    Refusal::new(
        StatusCode::NOT_FOUND,
        "no_such_migration",
        format!("there is no migration `{name}` in this agent's file"),
        mend,
    )
}

/// What an order may need to know.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Details {
    /// A node's name or number.
    node: Option<String>,
    /// Bytes a second; null for no limit.
    #[serde(default, with = "present")]
    limit_bytes_per_s: Option<Option<u64>>,
}

/// Tells a null from what isn't there.
mod present {
    use serde::{Deserialize, Deserializer};

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<u64>>, D::Error> {
        Option::deserialize(from).map(Some)
    }
}

async fn order(
    State(handle): State<Handle>,
    Path((name, verb)): Path<(String, String)>,
    body: Raw,
) -> Result<Response, Refusal> {
    let order = understood(&verb, &body, handle.settings())?;
    let answer = handle.order(&name, order).await?;
    answered(&name, answer, handle.settings())
}

fn bad(code: &str, message: impl Into<String>, mend: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, code, message, mend)
}

fn understood(verb: &str, body: &[u8], settings: &Settings) -> Result<Order, Refusal> {
    let details: Details = if body.trim_ascii().is_empty() {
        Details::default()
    } else {
        let mend = "send an object with what the order takes, such as {\"node\":\"alpha\"}";
        serde_json::from_slice(body)
            .map_err(|error| bad("bad_body", format!("the body isn't understood: {error}"), mend))?
    };
    let order = match verb {
        "define" => Order::Wish(Wish::Define),
        "sync" => Order::Wish(Wish::Sync),
        "pause" => Order::Wish(Wish::Pause),
        "resume" => Order::Wish(Wish::Resume),
        "move-to" => return Ok(Order::Wish(Wish::MoveTo(node(&details, settings)?))),
        "evict" => return Ok(Order::Wish(Wish::Evict(node(&details, settings)?))),
        "throttle" => return throttle(&details),
        _ => {
            let mend = "there are define, sync, pause, resume, move-to, evict and throttle";
            return Err(Refusal::new(
                StatusCode::NOT_FOUND,
                "no_such_order",
                format!("there is no order `{verb}`"),
                mend,
            ));
        }
    };
    if details.node.is_some() || details.limit_bytes_per_s.is_some() {
        return Err(bad("bad_body", format!("`{verb}` takes nothing more"), "leave the body out"));
    }
    Ok(order)
}

fn node(details: &Details, settings: &Settings) -> Result<NodeId, Refusal> {
    let names = || settings.nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>().join(", ");
    if details.limit_bytes_per_s.is_some() {
        return Err(bad("bad_body", "this order takes no limit", "send {\"node\":NAME} alone"));
    }
    let Some(name) = &details.node else {
        return Err(bad("bad_body", "`node` is missing", format!("name one of: {}", names())));
    };
    let found = settings.node_named(name).map(|node| node.id);
    found.ok_or_else(|| bad("no_such_node", format!("there is no node `{name}`"), format!("name one of: {}", names())))
}

fn throttle(details: &Details) -> Result<Order, Refusal> {
    match (details.limit_bytes_per_s, &details.node) {
        (Some(limit), None) if limit != Some(0) => Ok(Order::Throttle(limit.map(BytesPerSecond))),
        (Some(_), None) => {
            Err(bad("bad_limit", "a limit of 0 would never end", "send null for no limit, or `pause` the copy"))
        }
        _ => Err(bad(
            "bad_body",
            "`limit_bytes_per_s` is missing, or something else is there",
            "send a number of bytes a second, or null for no limit",
        )),
    }
}

fn answered(name: &str, answer: Answer, settings: &Settings) -> Result<Response, Refusal> {
    let called = |id: NodeId| settings.node(id).map_or_else(|| format!("node {}", id.0), |node| node.name.clone());
    let conflict = |code: &str, message: String, mend: &str| Refusal::new(StatusCode::CONFLICT, code, message, mend);
    Err(match answer {
        Answer::Replied(by, Reply::Accepted) => {
            return Ok(Json(json!({ "result": "accepted", "migration": name, "by": called(by) })).into_response());
        }
        Answer::Replied(by, Reply::NotOpen) => {
            let message = format!("{} hasn't opened the LUNs of `{name}`", called(by));
            conflict("not_open", message, "the status of the migration on that node says why")
        }
        Answer::Replied(by, Reply::Declined(why)) => match why {
            Declined::NotMover => {
                conflict("not_mover", format!("{} isn't the mover of `{name}` any more", called(by)), "ask again")
            }
            Declined::Busy => {
                conflict("busy", format!("`{name}` is in the middle of a step or a hand-over"), "ask again")
            }
            Declined::State(state) => {
                let mend = "the status of the migration shows its state; the guide says what can be done in it";
                conflict("state", format!("`{name}` is in the state {state}, which doesn't allow it"), mend)
            }
            Declined::NoMember(node) => {
                let mend = "the status of the migration lists its nodes and their roles";
                conflict("no_member", format!("{} takes no part in `{name}`, or isn't heard", called(node)), mend)
            }
        },
        Answer::NoMigration => no_migration(name),
        Answer::NoMover => {
            let mend = "where nobody has begun it, `define` does; else a node takes over within seconds, so ask again";
            conflict("no_mover", format!("nobody is heard that moves `{name}`"), mend)
        }
        Answer::Silent(to) => {
            let message = format!("{} didn't answer in time; whether it has begun isn't known", called(to));
            Refusal::new(StatusCode::GATEWAY_TIMEOUT, "silent", message, "look at the status, then ask again")
        }
        Answer::Leaving => {
            let mend = "ask another node";
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "leaving", "this agent is on its way out", mend)
        }
    })
}

/// One event a line, for as long as somebody reads.
async fn events(State(handle): State<Handle>) -> Result<Response, Refusal> {
    let lines = stream::unfold(handle.watch()?, |mut watch| async move { Some((next(&mut watch).await?, watch)) });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}

/// The next line; nothing where the agent has ended.
async fn next(watch: &mut Receiver<Happened>) -> Option<Result<String, serde_json::Error>> {
    match watch.recv().await {
        Ok(happened) => Some(serde_json::to_string(&happened).map(|line| line + "\n")),
        Err(RecvError::Lagged(missed)) => Some(Ok(json!({ "event": "missed", "count": missed }).to_string() + "\n")),
        Err(RecvError::Closed) => None,
    }
}
