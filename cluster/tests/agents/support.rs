//! A cluster of agents for a test.

use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use lunferry_cluster::agent::io::Answer;
use lunferry_cluster::agent::notify::Notifier;
use lunferry_cluster::agent::run::{Handle, start};
use lunferry_cluster::agent::settings::{Settings, Whoami, parse};
use lunferry_cluster::agent::told::Happened;
use lunferry_cluster::agent::view::{AgentView, MigrationView};
use lunferry_cluster::event::Wish;
use lunferry_cluster::order::{Order, Reply};
use lunferry_cluster::wire::Keys;
use lunferry_fixtures::cluster_live::LivePair;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::broadcast::Receiver;
use tokio::time::timeout;

pub const KEY: [u8; 32] = [42; 32];
pub const NAMES: [&str; 3] = ["alpha", "beta", "gamma"];

/// Far longer than anything here takes on a slow machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How long a condition waits for an event before it looks again: durable bytes and rates have no event of their own.
const LOOK: Duration = Duration::from_millis(100);

/// Addresses that nobody else on this machine has: the process' own part of 127.0.0.0/8, and a port that was free.
fn addresses(count: usize) -> Vec<SocketAddr> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let process = std::process::id();
    (0..count)
        .map(|_| {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let [_, _, a, b] = process.to_be_bytes();
            let ip = std::net::Ipv4Addr::new(127, a.max(1), b, u8::try_from(number % 254 + 1).unwrap());
            UdpSocket::bind((ip, 0)).unwrap().local_addr().unwrap()
        })
        .collect()
}

/// One agent of it.
pub struct Running {
    pub handle: Handle,
    pub thread: JoinHandle<()>,
}

/// A cluster that shares one pair of LUNs.
pub struct Cluster {
    pub pair: LivePair,
    pub dir: TempDir,
    pub file: String,
    pub addresses: Vec<SocketAddr>,
    pub agents: Vec<Option<Running>>,
    runtime: Runtime,
}

impl Cluster {
    /// `count` agents, none of them started yet.
    pub fn new(count: usize, pair: LivePair) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let addresses = addresses(count);
        let file = config(&dir, &addresses, 1);
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        Self { pair, dir, file, addresses, agents: (0..count).map(|_| None).collect(), runtime }
    }

    /// The same, all of them started.
    pub fn started(count: usize, pair: LivePair) -> Self {
        let mut cluster = Self::new(count, pair);
        (0..count).for_each(|index| cluster.start(index));
        cluster
    }

    pub fn settings(&self, index: usize) -> Settings {
        let whoami = Whoami { asked: Some(NAMES[index]), host: "" };
        let mut settings = parse(&self.file, whoami).unwrap();
        settings.control_socket = self.socket(index);
        settings
    }

    pub fn socket(&self, index: usize) -> PathBuf {
        self.dir.path().join(format!("{}.sock", NAMES[index]))
    }

    pub fn start(&mut self, index: usize) {
        self.start_with(index, &Keys::new(KEY, None));
    }

    pub fn start_with(&mut self, index: usize, keys: &Keys) {
        self.start_as(index, keys, self.settings(index));
    }

    pub fn start_as(&mut self, index: usize, keys: &Keys, settings: Settings) {
        let opener = Arc::new(self.pair.clone());
        let (handle, thread) = start(settings, keys, opener, Notifier::none()).unwrap();
        self.agents[index] = Some(Running { handle, thread });
    }

    /// As SIGKILL: no hand-over, nothing retired.
    pub fn kill(&mut self, index: usize) {
        let agent = self.agents[index].take().unwrap();
        agent.handle.kill();
        agent.thread.join().unwrap();
    }

    /// As SIGTERM; returns when it has ended.
    pub fn leave(&mut self, index: usize) {
        let agent = self.agents[index].take().unwrap();
        agent.handle.leave();
        agent.thread.join().unwrap();
    }

    pub fn handle(&self, index: usize) -> Handle {
        self.agents[index].as_ref().unwrap().handle.clone()
    }

    pub fn view(&self, index: usize) -> AgentView {
        self.runtime.block_on(self.handle(index).view()).unwrap()
    }

    pub fn order(&self, index: usize, order: Order) -> Answer {
        let handle = self.handle(index);
        self.runtime.block_on(async { timeout(PATIENCE, handle.order("db01", order)).await.unwrap().unwrap() })
    }

    /// Gives an order that must be accepted.
    pub fn wish(&self, index: usize, wish: Wish) {
        let answer = self.order(index, Order::Wish(wish));
        assert!(matches!(answer, Answer::Replied(_, Reply::Accepted)), "{wish:?}: {answer:?}");
    }

    /// Waits until the migration is so, as an agent sees it.
    pub fn until(&self, index: usize, what: &str, mut is_so: impl FnMut(&MigrationView) -> bool) -> MigrationView {
        let handle = self.handle(index);
        let mut watch = handle.watch().unwrap();
        let waiting = async {
            loop {
                let view = handle.view().await.unwrap().migrations.remove(0);
                if is_so(&view) {
                    return view;
                }
                let _ = timeout(LOOK, watch.recv()).await;
            }
        };
        let found = self.runtime.block_on(async { timeout(PATIENCE, waiting).await.ok() });
        found.unwrap_or_else(|| panic!("{what}: not so after {PATIENCE:?}: {:#?}", self.view(index)))
    }

    /// The index of the agent that is the mover, as `index` sees it.
    pub fn mover(&self, index: usize) -> usize {
        let view = self.until(index, "somebody is the mover", |view| view.mover.is_some());
        let name = view.mover.unwrap().name;
        NAMES.iter().position(|known| *known == name).unwrap()
    }

    /// Waits for an event.
    pub fn event(&self, watch: &mut Receiver<Happened>, name: &str) -> Happened {
        let waiting = async {
            loop {
                let happened = watch.recv().await.unwrap();
                if happened.event == name {
                    return happened;
                }
            }
        };
        self.runtime.block_on(async { timeout(PATIENCE, waiting).await.unwrap() })
    }

    /// Begins the migration, and waits until every agent takes part and it copies.
    pub fn begun(&self) {
        let count = self.agents.iter().flatten().count();
        self.wish(0, Wish::Define);
        self.until(0, "all take part", |view| taking_part(view) == count);
        self.wish(0, Wish::Sync);
        self.until(0, "it copies", |view| view.state.as_deref() == Some("syncing") && view.durable_bytes > Some(0));
    }
}

pub fn taking_part(view: &MigrationView) -> usize {
    let takes_part = |role: &str| matches!(role, "mover" | "member");
    view.nodes.iter().filter(|node| node.colour != "red" && node.role.as_deref().is_some_and(takes_part)).count()
}

/// A config file for agents at these addresses.
pub fn config(dir: &TempDir, addresses: &[SocketAddr], migrations: usize) -> String {
    let mut text = format!(
        "cluster = \"6f0c1d9e-6a0e-4e0e-9a4b-0d6f1a2b3c4d\"\nkey_file = \"{0}/key\"\nstate_dir = \"{0}\"\n",
        dir.path().display()
    );
    for (index, address) in addresses.iter().enumerate() {
        let name = NAMES.get(index).map_or_else(|| format!("node{index}"), |name| (*name).to_owned());
        text += &format!("[[nodes]]\nid = {}\nname = \"{name}\"\naddresses = [\"{address}\"]\n", index + 1);
    }
    for number in 1..=migrations {
        text += &format!(
            "[[migrations]]\nname = \"db{number:02}\"\nuuid = \"11111111-2222-4333-8444-{number:012}\"\n\
             source = \"/source/{number}\"\ntarget = \"/target/{number}\"\n"
        );
    }
    text
}
