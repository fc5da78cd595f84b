//! The client of an agent's control socket.
//!
//! Acts: a unix socket. HTTP is hyper's; what comes back is JSON.

use std::path::{Path, PathBuf};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use lunferry_cluster::agent::api::ProblemBody;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::runtime::Builder;

use crate::exit::{Exit, Failure};

/// Where an agent is asked.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// The agent that listens there.
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.into() }
    }

    /// What is at a path.
    pub fn get(&self, path: &str) -> Result<Value, Failure> {
        self.block_on(async { self.whole(Method::GET, path, Value::Null).await })
    }

    /// Gives an order.
    pub fn post(&self, path: &str, body: Value) -> Result<Value, Failure> {
        self.block_on(async { self.whole(Method::POST, path, body).await })
    }

    /// Each line of a stream, until it ends; `begun` when it has begun.
    pub fn lines(&self, path: &str, begun: impl FnOnce(), mut each: impl FnMut(&[u8])) -> Result<(), Failure> {
        self.block_on(async {
            let mut response = self.asked(Method::GET, path, Value::Null).await?;
            begun();
            let mut rest = Vec::new();
            while let Some(frame) = response.frame().await {
                let frame = frame.map_err(|error| self.failed(&error))?;
                let Some(data) = frame.data_ref() else {
                    continue;
                };
                rest.extend_from_slice(data);
                while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = rest.drain(..=end).collect();
                    each(&line);
                }
            }
            Ok(())
        })
    }

    fn block_on<T>(&self, asking: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let runtime = Builder::new_current_thread().enable_io().build();
        runtime.map_err(|error| self.failed(&error))?.block_on(asking)
    }

    fn failed(&self, error: &dyn std::fmt::Display) -> Failure {
        let socket = self.socket.display();
        let mend = "is the agent running, and does --socket name its `control_socket`?";
        Failure::new(
            Exit::Failed,
            "agent_unreachable",
            format!("the agent at {socket} doesn't answer: {error}; {mend}"),
        )
    }

    async fn whole(&self, method: Method, path: &str, body: Value) -> Result<Value, Failure> {
        let response = self.asked(method, path, body).await?;
        let bytes = response.into_body().collect().await.map_err(|error| self.failed(&error))?.to_bytes();
        serde_json::from_slice(&bytes).map_err(|error| self.failed(&error))
    }

    /// The answer, where it is no error.
    async fn asked(&self, method: Method, path: &str, body: Value) -> Result<Response<Incoming>, Failure> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.failed(&error))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.failed(&error))?;
        // Ends with the answer; its error is the answer's too.
        tokio::spawn(connection);
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = Request::builder().method(method).uri(path).header("host", "lunferry");
        let request = request.body(Full::new(Bytes::from(body))).map_err(|error| self.failed(&error))?;
        let response = sender.send_request(request).await.map_err(|error| self.failed(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let bytes = response.into_body().collect().await.map_err(|error| self.failed(&error))?.to_bytes();
        let problem: ProblemBody = serde_json::from_slice(&bytes).map_err(|error| self.failed(&error))?;
        Err(refused(status, problem))
    }
}

/// An agent's refusal as an exit code.
fn refused(status: StatusCode, ProblemBody { error }: ProblemBody) -> Failure {
    let exit = match status {
        StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Exit::Usage,
        StatusCode::CONFLICT => Exit::Refused,
        _ => Exit::Failed,
    };
    Failure::new(exit, &error.code, format!("{}; {}", error.message, error.mend))
}
