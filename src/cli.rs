//! Every verb and flag of the command line, defined once.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use lunferry_engine::units::{Bytes, BytesPerSecond};

/// Moves the contents of block LUNs, safely and at device speed.
#[derive(Parser, Debug)]
#[command(name = "lunferry", version, max_term_width = 110, after_help = EXIT_CODES)]
pub struct Cli {
    /// Print one JSON document on stdout instead of text
    #[arg(long, global = true)]
    pub json: bool,
    /// Print nothing but errors
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// How log lines on stderr look
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Log more: once for state changes and checkpoints, twice for everything
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// What to do
    #[command(subcommand)]
    pub verb: Verb,
}

const EXIT_CODES: &str = "Exit codes: 0 done; 1 failed; 2 wrong use; 3 refused by a safety check; 4 the lock is held elsewhere, or \
this host was fenced; 5 the compare found differences; 6 interrupted, and can be resumed.";

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The verbs.
#[derive(Subcommand, Debug)]
pub enum Verb {
    /// Copy SOURCE onto TARGET: lock, copy with checkpoints on the target, resume, verify
    Copy(CopyArgs),
    /// Compare SOURCE with TARGET and list the ranges that differ
    Verify(VerifyArgs),
    /// Look at, or remove, the checkpoint on a target
    #[command(subcommand)]
    Checkpoint(CheckpointVerb),
    /// Look at LUNs: identity, limits, users, signatures
    #[command(subcommand)]
    Lun(LunVerb),
    /// Take part in a cluster that moves LUNs: the daemon, in the foreground
    Agent(AgentArgs),
    /// Ask the agent on this host: what is moved, and what is to become of it
    Migration(MigrationArgs),
    /// Print a shell's completion script
    Completions {
        /// Which shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
}

/// `lunferry copy`.
#[derive(Args, Debug)]
pub struct CopyArgs {
    /// The block device or file to read
    pub source: PathBuf,
    /// The block device or file to overwrite
    pub target: PathBuf,
    /// How bytes move
    #[arg(long, value_enum, default_value_t = Vehicle::Auto)]
    pub vehicle: Vehicle,
    /// Go on from the checkpoint on the target
    #[arg(long)]
    pub resume: bool,
    /// Fence whoever holds the LUNs, and go on from its checkpoint: when the host that copied is dead
    #[arg(long)]
    pub take_over: bool,
    /// Your word that every host that was fenced in this copy is down or was restarted: the reservations then end with the copy
    #[arg(long)]
    pub fenced_hosts_are_down: bool,
    /// This host's number in reservation keys and checkpoints [default: one that follows from /etc/machine-id]
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u16).range(1..))]
    pub node: Option<u16>,
    /// Whether the source is reserved too
    #[arg(long, value_enum, default_value_t = SourceFencing::Reservation)]
    pub source_fencing: SourceFencing,
    /// After copying, read the target again and compare it with the digests taken while copying
    #[arg(long)]
    pub verify: bool,
    /// Copy no faster than this, such as 200MiB/s
    #[arg(long, value_name = "RATE")]
    pub limit: Option<BytesPerSecond>,
    /// Bytes of one read and one write [default: 1MiB, or what the LUNs ask for]
    #[arg(long, value_name = "SIZE")]
    pub extent: Option<Bytes>,
    /// Extents in flight for each worker [default: 8 MiB of them]
    #[arg(long, value_name = "N")]
    pub depth: Option<usize>,
    /// Threads, each with a ring of its own [default: 1; 2 with --verify, and on LIO's loopback]
    #[arg(long, value_name = "N")]
    pub workers: Option<usize>,
    /// What becomes of zeroes
    #[arg(long, value_enum, default_value_t = Zeroes::Auto)]
    pub zeroes: Zeroes,
    /// Your word that all of the target reads as zeroes now: zeroes are then skipped
    #[arg(long)]
    pub target_is_zero: bool,
    /// Write zeroes where the source can't be read, instead of leaving the target as it is there
    #[arg(long)]
    pub fill_unreadable: bool,
    /// Overwrite a signature of this type on the target, such as ext4 or gpt; may be given again
    #[arg(long, value_name = "TYPE")]
    pub overwrite_signature: Vec<String>,
    /// Make the target, a regular file of the source's size, where it does not exist
    #[arg(long)]
    pub create: bool,
    /// Write a checkpoint after this much
    #[arg(long, value_name = "SIZE", default_value = "1GiB")]
    pub checkpoint_every: Bytes,
    /// Write a checkpoint after this many milliseconds
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(10..=3_600_000))]
    pub checkpoint_interval_ms: u64,
}

/// How bytes move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Vehicle {
    /// The array copies where both LUNs can and a trial shows that it does, else io_uring
    Auto,
    /// Direct I/O through io_uring
    Uring,
    /// SCSI READ and WRITE through SG_IO; only between SCSI LUNs
    Sg,
    /// The array copies (SCSI EXTENDED COPY); what it does not copy goes through io_uring
    Xcopy,
}

/// What becomes of zeroes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Zeroes {
    /// Skipped where the target is known to read zeroes, else punched where it can, else written
    Auto,
    /// Skipped; only on a target that is known to read zeroes
    Skip,
    /// Punched: write-zeroes, unmapping where the target can
    Punch,
    /// Written like data
    Write,
}

/// How the source is kept to one copier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SourceFencing {
    /// By a persistent reservation of the source
    Reservation,
    /// Not at all: for a source on which other hosts have registrations; the target's reservation alone counts
    None,
}

/// `lunferry verify`.
#[derive(Args, Debug)]
pub struct VerifyArgs {
    /// One LUN
    pub source: PathBuf,
    /// The other; it may be larger
    pub target: PathBuf,
    /// How it is compared
    #[arg(long, value_enum, default_value_t = Method::Read)]
    pub method: Method,
    /// How bytes are read
    #[arg(long, value_enum, default_value_t = Reading::Auto)]
    pub vehicle: Reading,
    /// Read no faster than this from each side, such as 200MiB/s
    #[arg(long, value_name = "RATE")]
    pub limit: Option<BytesPerSecond>,
}

/// How a verify compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Method {
    /// Both sides are read and compared here
    Read,
    /// The source is read, and the target's device compares (SCSI VERIFY(16) with BYTCHK), once it has proven that it does
    Verify16,
    /// By the device where it proves that it compares, else by reading
    Auto,
}

/// How a verify reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Reading {
    /// As the method needs it: SCSI commands for the device's compare, else io_uring
    Auto,
    /// Direct I/O through io_uring
    Uring,
    /// SCSI commands through SG_IO; only between SCSI LUNs
    Sg,
}

/// `lunferry checkpoint`.
#[derive(Subcommand, Debug)]
pub enum CheckpointVerb {
    /// Show what stands in both slots of a target
    Show(DeviceArgs),
    /// Remove the checkpoint from a target; the copy can't be resumed after that
    Erase(EraseArgs),
}

/// `lunferry lun`.
#[derive(Subcommand, Debug)]
pub enum LunVerb {
    /// List this host's block devices
    List,
    /// Show one LUN, its reservations, and whether a copy may overwrite it
    Show(DeviceArgs),
    /// Give back what this host has reserved: after a take-over, when the fenced host is down or was restarted, or after a crash
    Release(ReleaseArgs),
}

/// `lunferry lun release`.
#[derive(Args, Debug)]
pub struct ReleaseArgs {
    /// A block device or a regular file
    pub device: PathBuf,
    /// This host's number in reservation keys [default: one that follows from /etc/machine-id]
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u16).range(1..))]
    pub node: Option<u16>,
}

/// One device.
#[derive(Args, Debug)]
pub struct DeviceArgs {
    /// A block device or a regular file
    pub device: PathBuf,
}

/// `lunferry checkpoint erase`.
#[derive(Args, Debug)]
pub struct EraseArgs {
    /// The target
    pub device: PathBuf,
    /// Erase also what is damaged, of a later format, or about another LUN; it may be somebody's data
    #[arg(long)]
    pub force: bool,
}

/// `lunferry agent`.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct AgentArgs {
    /// Something else than to run
    #[command(subcommand)]
    pub verb: Option<AgentVerb>,
    /// Where the cluster is described
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// The config file, and which of its nodes this one is.
#[derive(Args, Debug)]
pub struct ConfigArgs {
    /// The config file
    #[arg(long, value_name = "FILE", default_value = "/etc/lunferry/agent.toml")]
    pub config: PathBuf,
    /// The name of this node in it [default: the file's `node`, or the host's name]
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
}

/// What `lunferry agent` can do besides running.
#[derive(Subcommand, Debug)]
pub enum AgentVerb {
    /// Read the config file and the key, and name every mistake with its line
    Check(ConfigArgs),
    /// Make a key for a cluster; copy the file to every node
    Key(KeyArgs),
}

/// `lunferry agent key`.
#[derive(Args, Debug)]
pub struct KeyArgs {
    /// The new file
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

/// `lunferry migration`.
#[derive(Args, Debug)]
pub struct MigrationArgs {
    /// The agent's control socket
    #[arg(long, global = true, value_name = "PATH", default_value = lunferry_cluster::agent::settings::CONTROL_SOCKET)]
    pub socket: PathBuf,
    /// What to do
    #[command(subcommand)]
    pub verb: MigrationVerb,
}

/// What the agent can be asked.
#[derive(Subcommand, Debug)]
pub enum MigrationVerb {
    /// Begin a migration that nobody has begun: reserve both LUNs, write the first checkpoint
    Define(NameArgs),
    /// Copy
    Sync(NameArgs),
    /// Stop copying until `resume`
    Pause(NameArgs),
    /// Go on copying
    Resume(NameArgs),
    /// Copy no faster than this
    Throttle(ThrottleArgs),
    /// Let another node copy
    MoveTo(NodeArgs),
    /// Fence a node: its keys go, and nothing that it had in flight lands any more
    Evict(NodeArgs),
    /// Show one migration or all, as the whole cluster knows them
    Status(MaybeNameArgs),
    /// List the migrations
    List,
    /// Print what happens, until interrupted
    Watch(MaybeNameArgs),
}

/// A migration.
#[derive(Args, Debug)]
pub struct NameArgs {
    /// The migration's name in the config file
    pub name: String,
}

/// A migration, or all.
#[derive(Args, Debug)]
pub struct MaybeNameArgs {
    /// The migration's name in the config file [default: all]
    pub name: Option<String>,
}

/// `lunferry migration throttle`.
#[derive(Args, Debug)]
pub struct ThrottleArgs {
    /// The migration's name in the config file
    pub name: String,
    /// A rate such as 200MiB/s, or `none`
    pub limit: Limit,
}

/// A migration and a node.
#[derive(Args, Debug)]
pub struct NodeArgs {
    /// The migration's name in the config file
    pub name: String,
    /// The node's name or number
    pub node: String,
}

/// A limit, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit(pub Option<BytesPerSecond>);

impl std::str::FromStr for Limit {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" { Ok(Self(None)) } else { text.parse().map(|rate| Self(Some(rate))) }
    }
}
