//! What an operator sees of the cluster at any node of it, and how old each part of it is.
//!
//! Pure: from an agent to the shapes of `docs/api.md`. What other nodes are comes from their heartbeats; of a migration's
//! state the highest epoch and step is shown, with whose word that is and its age.

use std::collections::BTreeMap;

use lunferry_scsi::key::NodeId;
use serde::{Deserialize, Serialize};

use super::owner::Agent;
use super::part::{Part, Report, Stage};
use super::settings::Peer;
use crate::config::Ms;
use crate::hearing::Colour;
use crate::message::Role;
use crate::session::Dropped;

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeName {
    /// Its number.
    pub id: u16,
    /// Its name.
    pub name: String,
}

/// An agent's view of everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentView {
    /// UUID of the cluster.
    pub cluster: String,
    /// The node that was asked.
    pub node: NodeName,
    /// Which start of its agent.
    pub boot: String,
    /// The program's version.
    pub version: String,
    /// For how long it has run.
    pub up_ms: u64,
    /// Whether it's on its way out.
    pub leaving: bool,
    /// Every node.
    pub nodes: Vec<PeerView>,
    /// Datagrams that came to its sockets, whatever they were.
    pub received: u64,
    /// Datagrams that it has sent.
    pub sent: u64,
    /// Datagrams that were dropped, by kind.
    pub dropped: BTreeMap<String, u64>,
    /// Every migration.
    pub migrations: Vec<MigrationView>,
}

/// Another agent, as this one hears it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerView {
    /// Which node.
    #[serde(flatten)]
    pub node: NodeName,
    /// Whether it's the one that was asked.
    pub me: bool,
    /// Where it hears.
    pub addresses: Vec<String>,
    /// `green`, `yellow` or `red`.
    pub colour: String,
    /// When it was heard last; nothing where it never was.
    pub heard_ms_ago: Option<u64>,
}

/// A migration, as the whole cluster knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigrationView {
    /// Its name.
    pub name: String,
    /// Its UUID.
    pub uuid: String,
    /// The source, as this node's file names it.
    pub source: String,
    /// The target.
    pub target: String,
    /// What is agreed; nothing where nobody is heard that has a part in it.
    pub state: Option<String>,
    /// The epoch in which that was said.
    pub epoch: u64,
    /// The agreed step.
    pub step: u32,
    /// Whose word that is.
    pub according_to: Option<NodeName>,
    /// How old it is.
    pub said_ms_ago: Option<u64>,
    /// Who copies, where that was heard.
    pub mover: Option<NodeName>,
    /// How much is to be copied, where this node has opened the LUNs once.
    pub length_bytes: Option<u64>,
    /// How much of it is durable on the target, as the mover says.
    pub durable_bytes: Option<u64>,
    /// How much is written.
    pub written_bytes: Option<u64>,
    /// How fast it's copied.
    pub rate_bytes_per_s: Option<u64>,
    /// How fast it may be.
    pub limit_bytes_per_s: Option<u64>,
    /// The LUNs on this node.
    pub here: Here,
    /// Each node's part.
    pub nodes: Vec<PartView>,
}

/// A migration's LUNs on the node that was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Here {
    /// `closed`, `opening`, `open`, `closing` or `left`.
    pub luns: String,
    /// Why they're closed, where they couldn't be opened.
    pub why: Option<String>,
    /// When it's tried again.
    pub again_in_ms: Option<u64>,
}

/// One node's part in a migration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartView {
    /// Which node.
    #[serde(flatten)]
    pub node: NodeName,
    /// Whether it's the one that was asked.
    pub me: bool,
    /// What it is; nothing where it has no open LUNs or was never heard.
    pub role: Option<String>,
    /// `green`, `yellow` or `red`.
    pub colour: String,
    /// The state that it goes by.
    pub state: Option<String>,
    /// The epoch that it acts in.
    pub epoch: Option<u64>,
    /// How old that is; nothing where it was never heard.
    pub heard_ms_ago: Option<u64>,
}

/// The name of a kind of dropped datagram.
pub fn dropped_name(why: Dropped) -> &'static str {
    match why {
        Dropped::Cluster => "other_cluster",
        Dropped::Address => "wrong_address",
        Dropped::Replay => "replayed",
        Dropped::Unproven => "unproven",
        Dropped::Answer => "unasked_answer",
    }
}

fn name_of(peer: &Peer) -> NodeName {
    NodeName { id: peer.id.0, name: peer.name.clone() }
}

impl Agent {
    /// Everything, at `now`.
    pub fn view(&self, now: Ms) -> AgentView {
        let dropped = self.dropped.iter().map(|(why, count)| (dropped_name(*why).to_owned(), *count)).collect();
        AgentView {
            cluster: self.settings.cluster.to_string(),
            node: name_of(self.settings.this()),
            boot: format!("{:016x}", self.post.boot().0),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            up_ms: now.since(self.began).0,
            leaving: self.leaving,
            nodes: self.settings.nodes.iter().map(|peer| self.peer(now, peer)).collect(),
            received: 0,
            sent: 0,
            dropped,
            migrations: self.parts.iter().map(|part| self.migration(now, part)).collect(),
        }
    }

    /// One line for a service manager: how many migrations are in which role here.
    pub(super) fn summary(&self) -> String {
        let mut roles: BTreeMap<&str, usize> = BTreeMap::new();
        for part in &self.parts {
            let role = part.status().and_then(|status| status.role).map_or("closed", Role::name);
            *roles.entry(role).or_default() += 1;
        }
        let counts: Vec<String> = roles.iter().map(|(role, count)| format!("{count} {role}")).collect();
        let parts = if counts.is_empty() { "none".to_owned() } else { counts.join(", ") };
        format!("migrations: {parts}{}", if self.leaving { "; leaving" } else { "" })
    }

    fn silence(&self, now: Ms, node: NodeId, heard: Option<Ms>) -> Option<Ms> {
        if node == self.settings.me { Some(Ms(0)) } else { heard.map(|at| now.since(at)) }
    }

    fn colour(&self, silence: Option<Ms>) -> String {
        Colour::of(silence, &self.settings.timing).name().to_owned()
    }

    fn peer(&self, now: Ms, peer: &Peer) -> PeerView {
        let silence = self.silence(now, peer.id, self.heard.get(&peer.id).copied());
        PeerView {
            node: name_of(peer),
            me: peer.id == self.settings.me,
            addresses: peer.addresses.iter().map(ToString::to_string).collect(),
            colour: self.colour(silence),
            heard_ms_ago: silence.map(|silence| silence.0),
        }
    }

    fn node_name(&self, id: NodeId) -> Option<NodeName> {
        self.settings.node(id).map(name_of)
    }

    fn migration(&self, now: Ms, part: &Part) -> MigrationView {
        let facts = self.facts(now, part);
        let best = facts.iter().filter(|fact| fact.epoch > 0).max_by_key(|fact| (fact.epoch, fact.step));
        // A mover that has been silent for so long that others act is none that an operator could count on.
        let is_heard = |fact: &&Fact| Ms(fact.age) < self.settings.timing.act_after;
        let movers = facts.iter().filter(is_heard).filter(|fact| fact.role == Role::Mover.name());
        let mover = movers.max_by_key(|fact| fact.epoch);
        let of_mover = |f: fn(&Fact) -> u64| mover.map(f);
        MigrationView {
            name: part.settings.name.clone(),
            uuid: part.uuid().to_string(),
            source: part.settings.source.clone(),
            target: part.settings.target.clone(),
            state: best.map(|fact| fact.state.to_owned()),
            epoch: best.map_or(0, |fact| fact.epoch),
            step: best.map_or(0, |fact| fact.step),
            according_to: best.and_then(|fact| self.node_name(fact.node)),
            said_ms_ago: best.map(|fact| fact.age),
            mover: mover.and_then(|fact| self.node_name(fact.node)),
            length_bytes: part.length.map(|length| length.0),
            durable_bytes: of_mover(|fact| fact.durable),
            written_bytes: of_mover(|fact| fact.written),
            rate_bytes_per_s: of_mover(|fact| fact.rate),
            limit_bytes_per_s: part.limit.map(|limit| limit.0),
            here: here(now, part),
            nodes: self.settings.nodes.iter().map(|peer| self.part_of(now, part, peer, &facts)).collect(),
        }
    }

    fn part_of(&self, now: Ms, part: &Part, peer: &Peer, facts: &[Fact]) -> PartView {
        let heard = part.reports.get(&peer.id).map(|report| report.at);
        let silence = self.silence(now, peer.id, heard);
        let fact = facts.iter().find(|fact| fact.node == peer.id);
        PartView {
            node: name_of(peer),
            me: peer.id == self.settings.me,
            role: fact.map(|fact| fact.role.to_owned()),
            colour: self.colour(silence),
            state: fact.filter(|fact| fact.epoch > 0).map(|fact| fact.state.to_owned()),
            epoch: fact.map(|fact| fact.epoch),
            heard_ms_ago: silence.map(|silence| silence.0),
        }
    }

    /// What is known of each node's part, of this node's own the newest.
    fn facts(&self, now: Ms, part: &Part) -> Vec<Fact> {
        let mut facts: Vec<Fact> = part.reports.iter().map(|(node, report)| Fact::heard(now, *node, report)).collect();
        facts.extend(Fact::own(self.settings.me, part));
        facts
    }
}

/// What is known of one node's part.
#[derive(Clone, Debug)]
struct Fact {
    node: NodeId,
    role: &'static str,
    epoch: u64,
    step: u32,
    state: &'static str,
    durable: u64,
    written: u64,
    rate: u64,
    age: u64,
}

impl Fact {
    fn heard(now: Ms, node: NodeId, report: &Report) -> Self {
        Self {
            node,
            role: report.role.name(),
            epoch: report.epoch.0,
            step: report.agreed.step,
            state: report.agreed.state.name(),
            durable: report.lo.0,
            written: report.gauges.written.0,
            rate: report.gauges.rate.0,
            age: now.since(report.at).0,
        }
    }

    fn own(me: NodeId, part: &Part) -> Option<Self> {
        let status = part.status()?;
        let agreed = status.agreed;
        Some(Self {
            node: me,
            role: status.role?.name(),
            epoch: agreed.map_or(0, |_| status.epoch.0),
            step: agreed.map_or(0, |agreed| agreed.step),
            state: agreed.map_or("defined", |agreed| agreed.state.name()),
            durable: status.durable.unwrap_or_default().0,
            written: status.written.unwrap_or_default().0,
            rate: part.rate().0,
            age: 0,
        })
    }
}

fn here(now: Ms, part: &Part) -> Here {
    let luns = match &part.stage {
        Stage::Closed { .. } => "closed",
        Stage::Opening(_) => "opening",
        Stage::Open(_) => "open",
        Stage::Retiring(_) => "closing",
        Stage::Gone => "left",
    };
    let (why, again_in_ms) = match &part.stage {
        Stage::Closed { until, why } => (why.clone(), Some(until.since(now).0)),
        Stage::Opening(_) | Stage::Open(_) | Stage::Retiring(_) | Stage::Gone => (None, None),
    };
    Here { luns: luns.to_owned(), why, again_in_ms }
}
