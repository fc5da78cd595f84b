//! Exit codes, and the one place where errors become one.

use std::process::ExitCode;

use lunferry_engine::checkpoint::store::StoreError;
use lunferry_engine::copy::error::CopyError;
use lunferry_engine::copy::plan::PlanRefusal;
use lunferry_engine::copy::prepare::{PrepareError, Refused};
use lunferry_engine::lock::error::LockError;
use lunferry_engine::lun::error::LunError;
use serde_json::{Value, json};

use crate::cli::Cli;
use crate::output;

/// What the process tells its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Failed.
    Failed = 1,
    /// Wrong use of the command line.
    Usage = 2,
    /// Refused by a safety check; nothing was written.
    Refused = 3,
    /// The lock is held elsewhere, or this host was fenced.
    Locked = 4,
    /// The compare found differences.
    Differs = 5,
    /// Interrupted, and can be resumed.
    Interrupted = 6,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// An error on its way out: what a person reads, what a program reads, and the exit code.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    errors: Vec<(String, Value)>,
}

impl Failure {
    /// One error with a stable word for machines.
    pub fn new(exit: Exit, code: &str, message: impl Into<String>) -> Self {
        let message = message.into();
        let value = json!({ "code": code, "message": message });
        Self { exit, errors: vec![(message, value)] }
    }

    /// Several errors, each in words and as a value.
    pub fn of(exit: Exit, errors: Vec<(String, Value)>) -> Self {
        Self { exit, errors }
    }

    /// Shows it, on stderr or as JSON on stdout; the exit code.
    pub fn show(self, cli: &Cli) -> Exit {
        if cli.json {
            return self.show_as_json();
        }
        for (message, _) in self.errors {
            output::error(&message);
        }
        self.exit
    }

    fn show_as_json(self) -> Exit {
        let errors: Vec<_> = self.errors.into_iter().map(|(_, value)| value).collect();
        let result = if self.exit == Exit::Failed { "failed" } else { "refused" };
        output::json(&json!({ "result": result, "exit_code": self.exit as u8, "errors": errors }));
        self.exit
    }
}

/// Shows wrong use of the command line as JSON, where no flags could be parsed; the exit code.
pub fn usage_as_json(message: &str) -> Exit {
    Failure::new(Exit::Usage, "usage", message.trim_end()).show_as_json()
}

impl From<LunError> for Failure {
    fn from(error: LunError) -> Self {
        let (exit, code) = match &error {
            LunError::LockedElsewhere { .. } => (Exit::Locked, "locked_elsewhere"),
            LunError::InUse { .. } => (Exit::Refused, "in_use"),
            LunError::ReadOnly { .. } => (Exit::Refused, "read_only"),
            LunError::WrongKind { .. } => (Exit::Refused, "wrong_kind"),
            LunError::NoDirectIo { .. } => (Exit::Refused, "no_direct_io"),
            LunError::Unfit { .. } => (Exit::Refused, "unfit"),
            LunError::NoLock { .. } => (Exit::Refused, "no_lock"),
            LunError::Replaced { .. } => (Exit::Refused, "replaced"),
            LunError::Open { .. } => (Exit::Failed, "open"),
            LunError::Fact { .. } => (Exit::Failed, "fact"),
            LunError::ToolMissing { .. } | LunError::ToolFailed { .. } => (Exit::Failed, "tool"),
        };
        Self::new(exit, code, error.to_string())
    }
}

impl From<PrepareError> for Failure {
    fn from(error: PrepareError) -> Self {
        match error {
            PrepareError::Lun(error) => error.into(),
            PrepareError::Refused(refused) => refused.into(),
            PrepareError::Store(error) => CopyError::Store(error).into(),
            PrepareError::Lock(error) => (*error).into(),
            PrepareError::Unreadable { .. } => Self::new(Exit::Failed, "source_unreadable", error.to_string()),
            PrepareError::Ring(_) => Self::new(Exit::Failed, "ring", error.to_string()),
        }
    }
}

impl From<LockError> for Failure {
    fn from(error: LockError) -> Self {
        let exit = match &error {
            error if error.is_elsewhere() => Exit::Locked,
            LockError::Foreign { .. }
            | LockError::OtherProgram { .. }
            | LockError::CannotFence { .. }
            | LockError::Unclear { .. } => Exit::Refused,
            _ => Exit::Failed,
        };
        Self::new(exit, error.code(), error.to_string())
    }
}

impl From<Vec<Refused>> for Failure {
    fn from(refused: Vec<Refused>) -> Self {
        let only_options = refused.iter().all(|r| matches!(r, Refused::Plan(PlanRefusal::Option { .. })));
        let entry = |refused: &Refused| {
            let message = format!("refused: {refused}");
            let value =
                json!({ "code": refused.code(), "message": refused.to_string(), "lifted_by": refused.lifted_by() });
            (message, value)
        };
        Self {
            exit: if only_options { Exit::Usage } else { Exit::Refused },
            errors: refused.iter().map(entry).collect(),
        }
    }
}

impl From<CopyError> for Failure {
    fn from(error: CopyError) -> Self {
        let (exit, code) = match &error {
            CopyError::Fenced { .. } => (Exit::Locked, "fenced"),
            error if error.is_fenced() => (Exit::Locked, "fenced"),
            CopyError::State { .. } => (Exit::Refused, "state"),
            CopyError::SourceChanged(_) => (Exit::Failed, "source_changed"),
            CopyError::ArrayLied { .. } => (Exit::Failed, "array_lied"),
            CopyError::SourceDead { .. } => (Exit::Failed, "source_dead"),
            CopyError::Store(StoreError::Lock(error)) => (Exit::Failed, error.code()),
            CopyError::Store(StoreError::Disturbed { .. }) => (Exit::Failed, "disturbed"),
            CopyError::Store(_) => (Exit::Failed, "metadata"),
            CopyError::NoSpace { .. } => (Exit::Failed, "no_space"),
            CopyError::Io { .. } => (Exit::Failed, "io"),
            CopyError::Ended { .. } => (Exit::Failed, "ended"),
            CopyError::Flush(_) => (Exit::Failed, "flush"),
            CopyError::TooManyUnreadable(_) => (Exit::Failed, "too_many_unreadable"),
            CopyError::Ring { .. } | CopyError::Memory { .. } => (Exit::Failed, "workers"),
        };
        Self::new(exit, code, error.to_string())
    }
}
