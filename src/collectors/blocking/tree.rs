//! One look as a tree: who is who, and the text that people read.
//!
//! Must not: say what the server did not, or let a constant of a statement through.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use super::BlockingRow;
use crate::derive::blocking::{Graph, Id, RootBlocker, Waiter, graph, lines};
use crate::derive::statement::published;

/// Lines of the text.
const MOST_LINES: usize = 200;
/// Characters of an application's name.
const LONGEST_NAME: usize = 64;

/// Who holds up whom, with what is known of each.
pub(super) struct WaitTree<'a> {
    pub(super) graph: Graph,
    /// Sessions by process; prepared transactions by negative numbers.
    who: HashMap<Id, &'a BlockingRow>,
    waits: HashMap<Id, &'a BlockingRow>,
}

impl<'a> WaitTree<'a> {
    pub(super) fn new(all: &'a [BlockingRow]) -> Self {
        let of = |kind: &'static str| all.iter().filter(move |line| line.kind == kind);
        let pid = |line: &BlockingRow| line.pid.map(Id::from);
        let mut who: HashMap<Id, &BlockingRow> =
            of("session").filter_map(|l| pid(l).zip(Some(l))).collect();
        // By name: one that is in the way of several locks has a line for each.
        let mut prepared: BTreeMap<&str, Id> = BTreeMap::new();
        let mut in_the_way: HashMap<Id, Vec<Id>> = HashMap::new();
        for line in of("prepared") {
            let next = -1 - Id::try_from(prepared.len()).unwrap_or_default();
            let id = *prepared.entry(line.what.as_deref().unwrap_or_default()).or_insert(next);
            who.insert(id, line);
            in_the_way.entry(pid(line).unwrap_or_default()).or_default().push(id);
        }
        let asked: BTreeMap<Id, Vec<Id>> = of("asked")
            .filter_map(|line| {
                let id = pid(line)?;
                let pids = line.pids.iter().flatten().map(|pid| Id::from(*pid));
                // A prepared transaction that is gone by now is still in the way of somebody as 0.
                let blockers = pids.flat_map(|pid| match (pid, in_the_way.get(&id)) {
                    (0, Some(prepared)) => prepared.clone(),
                    _ => vec![pid],
                });
                Some((id, blockers.collect()))
            })
            .collect();
        let mut waits: HashMap<Id, &BlockingRow> = HashMap::new();
        let mut waiters: BTreeMap<Id, Waiter> = BTreeMap::new();
        for line in of("wait") {
            let Some(id) = pid(line) else { continue };
            waits.insert(id, line);
            let lock = line.what.clone().unwrap_or_default();
            waiters.insert(id, Waiter { id, lock, seconds: line.seconds.unwrap_or(0.0).max(0.0) });
        }
        let waiters: Vec<Waiter> = waiters.into_values().collect();
        Self { graph: graph(&waiters, &asked), who, waits }
    }

    pub(super) fn datname(&self, id: Id) -> &'a str {
        self.who.get(&id).and_then(|line| line.datname.as_deref()).unwrap_or_default()
    }

    /// As `pg_stat_activity` has it, or the type of a backend without a client; `prepared`, or `unknown` for one that was gone when it was looked for.
    pub(super) fn state(&self, id: Id) -> &'a str {
        self.who.get(&id).and_then(|line| line.state.as_deref()).unwrap_or("unknown")
    }

    fn seconds(&self, id: Id) -> f64 {
        self.waits.get(&id).and_then(|line| line.seconds).unwrap_or(0.0).max(0.0)
    }

    /// How many a root has held up for longer than that.
    pub(super) fn overdue(&self, root: &RootBlocker, objective: f64) -> usize {
        root.held_up.iter().filter(|id| self.seconds(**id) > objective).count()
    }

    /// `datname`, `usename`, `application_name`, `state`, `queryid` and `pid`.
    pub(super) fn labels(&self, id: Id) -> [String; 6] {
        let line = self.who.get(&id);
        let text =
            |of: fn(&BlockingRow) -> Option<&str>| line.and_then(|l| of(l)).unwrap_or_default();
        let application = text(|l| l.application.as_deref());
        [
            self.datname(id).to_owned(),
            text(|l| l.usename.as_deref()).to_owned(),
            application.chars().take(LONGEST_NAME).collect(),
            self.state(id).to_owned(),
            line.and_then(|l| l.queryid)
                .filter(|q| *q != 0)
                .map(|q| q.to_string())
                .unwrap_or_default(),
            if id > 0 { id.to_string() } else { String::new() },
        ]
    }

    /// The tree, a line each session, for people; `None` where nobody waits.
    pub(super) fn text(&self) -> Option<String> {
        let mut text = String::new();
        let mut left = MOST_LINES;
        for root in &self.graph.roots {
            if left == 0 {
                break;
            }
            left -= 1;
            let (name, count) = (self.name(root.id), root.held_up.len());
            let sessions = if count == 1 { "session" } else { "sessions" };
            let _ = writeln!(
                text,
                "{name} blocks {count} {sessions}, the first of them for {:.0} s{}",
                root.longest,
                self.query(root.id)
            );
            for (depth, id) in lines(root.id, &self.graph, left) {
                left -= 1;
                let lock =
                    self.waits.get(&id).and_then(|line| line.lock.as_deref()).unwrap_or("a lock");
                let _ = writeln!(
                    text,
                    "{}{} waits {:.0} s for {lock}{}",
                    "    ".repeat(depth.min(20)),
                    self.name(id),
                    self.seconds(id),
                    self.query(id)
                );
            }
        }
        if !self.graph.in_circle.is_empty() {
            let names: Vec<String> =
                self.graph.in_circle.iter().take(20).map(|id| self.name(*id)).collect();
            let _ = writeln!(text, "A deadlock, or behind one: {}", names.join("; "));
        }
        if self.graph.unresolved > 0 {
            let _ = writeln!(
                text,
                "{} more wait for locks of which it was not asked who has them",
                self.graph.unresolved
            );
        }
        (!text.is_empty()).then_some(text)
    }

    /// Who it is and what it does.
    fn name(&self, id: Id) -> String {
        let Some(line) = self.who.get(&id) else {
            return match id {
                0 => "A prepared transaction".to_owned(),
                _ => format!("pid {id} (gone by now)"),
            };
        };
        let [datname, usename, application, state, queryid, _] = self.labels(id).map(one_line);
        let since = line.seconds.map(|s| format!(" for {:.0} s", s.max(0.0))).unwrap_or_default();
        if id < 0 {
            let gid = one_line(line.what.clone().unwrap_or_default());
            let since = since.replace(" for ", " since ");
            return format!("Prepared transaction {gid:?} ({usename} in {datname}{since})");
        }
        // A worker has no role, and not every one a database.
        let place = match (usename.as_str(), datname.as_str()) {
            ("", "") => String::new(),
            ("", datname) => format!("in {datname}, "),
            (usename, "") => format!("{usename}, "),
            (usename, datname) => format!("{usename} in {datname}, "),
        };
        let mut said = format!("pid {id} ({place}{state}{since}");
        if !application.is_empty() {
            let _ = write!(said, ", {application:?}");
        }
        if !queryid.is_empty() {
            let _ = write!(said, ", queryid {queryid}");
        }
        said + ")"
    }

    /// Its statement without constants, where texts are wanted.
    fn query(&self, id: Id) -> String {
        let text = self.who.get(&id).and_then(|line| line.query.as_deref());
        text.map(|text| format!(": {}", one_line(published(text)))).unwrap_or_default()
    }
}

/// No control characters, and no line of its own.
fn one_line(text: String) -> String {
    text.chars()
        .map(|c| if c.is_control() || c == '\u{2028}' || c == '\u{2029}' { ' ' } else { c })
        .collect()
}
