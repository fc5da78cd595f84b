//! The control socket: HTTP and JSON for operators on this host. `docs/api.md` describes it.
//!
//! Acts: a unix socket, and a thread with a runtime of its own. It asks the loop and waits for its answers, so that an
//! operator who is slow holds nobody up.
//!
//! What must hold: nobody but the owner gets into the socket's directory unless an operator has opened it to a group, and a
//! socket that another agent listens at is left alone.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener as StdListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use tokio::net::UnixListener;
use tokio::runtime::Builder;
use tracing::error;

use super::api;
use super::run::Handle;

/// Of a directory that the agent makes: nobody else gets in. An operator may open it to a group.
const DIRECTORY: u32 = 0o700;
const SOCKET: u32 = 0o660;

/// Others who could write to the directory could put a socket of their own there.
const OTHERS_MAY_WRITE: u32 = 0o022;

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The kernel's reason.
    #[error("control socket {path}: {what}: {source}")]
    Io {
        /// Which socket.
        path: PathBuf,
        /// What was done.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// Another agent has it.
    #[error("control socket {path}: another agent listens there; stop it, or give this one another `control_socket`")]
    Taken {
        /// Which socket.
        path: PathBuf,
    },
    /// Others may put their own socket there.
    #[error(
        "control socket {path}: its directory has the mode {mode:04o}, so others may replace the socket; run `chmod go-w` on it"
    )]
    Open {
        /// Which socket.
        path: PathBuf,
        /// The directory's mode.
        mode: u32,
    },
}

/// Listens, and answers on a thread of its own until the agent has ended.
///
/// # Errors
/// Where the socket can't be made, or another agent has it.
pub fn serve(handle: Handle) -> Result<JoinHandle<()>, ControlError> {
    let path = handle.settings().control_socket.clone();
    let listener = listen(&path)?;
    let failed = |source| ControlError::Io { path: path.clone(), what: "the thread can't be started", source };
    let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let answering = move || {
        runtime.block_on(async move {
            let served = match UnixListener::from_std(listener) {
                Ok(listener) => {
                    let routes = api::routes(handle.clone());
                    axum::serve(listener, routes).with_graceful_shutdown(async move { handle.ended().await }).await
                }
                Err(error) => Err(error),
            };
            if let Err(error) = served {
                error!("the control socket is gone: {error}");
            }
        });
    };
    thread::Builder::new().name("control".into()).spawn(answering).map_err(failed)
}

fn listen(path: &Path) -> Result<StdListener, ControlError> {
    let failed = |what| move |source| ControlError::Io { path: path.into(), what, source };
    let directory = path.parent().unwrap_or(Path::new("/"));
    if !directory.exists() {
        let made = DirBuilder::new().recursive(true).mode(DIRECTORY).create(directory);
        made.map_err(failed("its directory can't be made"))?;
    }
    let mode = fs::metadata(directory).map_err(failed("its directory can't be looked at"))?.mode() & 0o7777;
    if mode & OTHERS_MAY_WRITE != 0 {
        return Err(ControlError::Open { path: path.into(), mode });
    }
    // A socket at which nobody listens was left by an agent that was killed.
    if path.exists() {
        if UnixStream::connect(path).is_ok() {
            return Err(ControlError::Taken { path: path.into() });
        }
        fs::remove_file(path).map_err(failed("what was left there can't be removed"))?;
    }
    let listener = StdListener::bind(path).map_err(failed("it can't be made"))?;
    fs::set_permissions(path, Permissions::from_mode(SOCKET)).map_err(failed("its permissions can't be set"))?;
    listener.set_nonblocking(true).map_err(failed("it can't be set up"))?;
    Ok(listener)
}
