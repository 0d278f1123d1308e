//! What really happened: every execution that `auto_explain` logged, with its statement and duration.
//!
//! The server's log is followed file by file while it is written, and deleted behind us. In memory
//! stay 16 bytes a call.
//!
//! Must not: hold more of the log than one line of it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pgrunway::cmd::cluster::Cluster;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// What each line of interest begins with: Unix seconds, queryid and role. The lines of a plan
/// begin with a tab.
pub const LINE_PREFIX: &str = "@%n %Q %u ";
/// Longer lines are plans, of which nothing is wanted.
const LONGEST: usize = 4096;
const PAUSE: Duration = Duration::from_millis(200);
/// A call is logged so many seconds from when it is counted, at the most.
const NEAR: f64 = 0.3;

/// Role and queryid.
pub type Key = (String, i64);

/// Milliseconds since the start, and milliseconds taken.
type Call = (u32, f32);

/// All calls of one statement.
#[derive(Default)]
pub struct Calls {
    calls: Vec<Call>,
    /// Milliseconds of all before each, and of all.
    sums: Vec<f64>,
}

impl Calls {
    pub fn count(&self) -> usize {
        self.calls.len()
    }

    fn push(&mut self, call: Call, milliseconds: f64) {
        let before = self.sums.last().copied().unwrap_or_default();
        if self.sums.is_empty() {
            self.sums.push(0.0);
        }
        self.calls.push(call);
        self.sums.push(before + milliseconds);
    }
}

/// Everything that was logged.
pub struct Truth {
    origin: f64,
    pub statements: BTreeMap<Key, Calls>,
    record: Option<BufWriter<File>>,
}

/// Reads the log while the server writes it.
pub struct Follower {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Truth>,
}

impl Truth {
    /// Starts to follow the log of a cluster with [`super::load::cluster_options`], and writes it to a file: of each call
    /// the role, the queryid, Unix seconds of its end and milliseconds.
    pub fn follow(cluster: &Cluster, record: Option<&Path>) -> Follower {
        let record = record.map(|file| BufWriter::new(File::create(file).unwrap()));
        let dir = cluster.socket_dir().join("data/log");
        let (stop, mut stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let mut reader = Reader { dir, file: None, line: Vec::new(), skip: false };
            let mut truth = Truth { origin: super::now(), statements: BTreeMap::new(), record };
            loop {
                let last = stopped.try_recv().is_ok();
                reader.read(&mut truth);
                if last {
                    return truth;
                }
                sleep(PAUSE).await;
            }
        });
        Follower { stop, task }
    }

    fn take(&mut self, line: &[u8]) {
        let Some(text) = line.strip_prefix(b"@").and_then(|l| std::str::from_utf8(l).ok()) else {
            return;
        };
        let mut parts = text.splitn(4, ' ');
        let (Some(at), Some(queryid), Some(user), Some(rest)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return;
        };
        let Some(duration) = rest.strip_prefix("LOG:  duration: ") else { return };
        let (duration, what) = duration.split_once(" ms").unwrap();
        assert!(what.starts_with("  plan:"), "{text}");
        let milliseconds: f64 = duration.parse().unwrap();
        let at = (at.parse::<f64>().unwrap() - self.origin) * 1e3;
        if !user.starts_with("app_") {
            return;
        }
        if let Some(record) = &mut self.record {
            writeln!(record, "{user} {queryid} {} {milliseconds}", at / 1e3 + self.origin).unwrap();
        }
        let key = (user.to_owned(), queryid.parse().unwrap());
        let calls = self.statements.entry(key).or_default();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive")]
        calls.push((at.max(0.0) as u32, milliseconds as f32), milliseconds);
    }

    /// Calls of a statement until a Unix time, and their milliseconds.
    pub fn until(&self, key: &Key, unix: f64) -> (u64, f64) {
        let Some(calls) = self.statements.get(key) else { return (0, 0.0) };
        let at = (unix - self.origin) * 1e3;
        let n = calls.calls.partition_point(|call| f64::from(call.0) <= at);
        (n as u64, calls.sums[n])
    }

    /// Where the `n` calls of a statement that took `seconds` in all and began to be counted at about `unix` are among
    /// all of it, and by how many seconds their sum differs.
    pub fn find(&self, key: &Key, n: usize, seconds: f64, unix: f64) -> Option<(usize, f64)> {
        let calls = self.statements.get(key)?;
        let at = |unix: f64| (unix - self.origin) * 1e3;
        let first = |at: f64| calls.calls.partition_point(|call| f64::from(call.0) <= at);
        let (from, to) = (first(at(unix - NEAR)), first(at(unix + NEAR)));
        let off = |i: usize| ((calls.sums[i + n] - calls.sums[i]) / 1e3 - seconds).abs();
        let places = (from..=to).filter(|i| i + n <= calls.count());
        places.map(|i| (i, off(i))).min_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// Durations in seconds, ascending, of the calls of some statements that ended between two Unix
    /// times.
    pub fn between(&self, of: impl Fn(&Key) -> bool, (from, to): (f64, f64)) -> Vec<f64> {
        let at = |unix: f64| (unix - self.origin) * 1e3;
        let (from, to) = (at(from), at(to));
        let mut found = Vec::new();
        for (_, calls) in self.statements.iter().filter(|(key, _)| of(key)) {
            let within = calls.calls.iter().filter(|(at, _)| {
                let at = f64::from(*at);
                from < at && at <= to
            });
            found.extend(within.map(|(_, ms)| f64::from(*ms) / 1e3));
        }
        found.sort_by(f64::total_cmp);
        found
    }
}

impl Truth {
    /// Durations in seconds, ascending, of calls of a statement by their number in the order of the log.
    pub fn slice(&self, key: &Key, range: std::ops::Range<usize>) -> Vec<f64> {
        let calls = self.statements.get(key).map_or(&[][..], |calls| &calls.calls);
        let end = range.end.min(calls.len());
        let taken = &calls[range.start.min(end)..end];
        let mut found: Vec<f64> = taken.iter().map(|(_, ms)| f64::from(*ms) / 1e3).collect();
        found.sort_by(f64::total_cmp);
        found
    }
}

/// The least of the durations that a share `q` of them does not exceed.
pub fn quantile(ascending: &[f64], q: f64) -> f64 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small index")]
    let rank = (q * ascending.len() as f64 - 1e-9).ceil() as usize;
    ascending[rank.clamp(1, ascending.len()) - 1]
}

impl Follower {
    /// Reads what is left.
    pub async fn finish(self) -> Truth {
        let _ = self.stop.send(());
        self.task.await.unwrap()
    }
}

struct Reader {
    dir: PathBuf,
    file: Option<(PathBuf, File)>,
    line: Vec<u8>,
    /// Inside a line that is too long.
    skip: bool,
}

impl Reader {
    fn read(&mut self, truth: &mut Truth) {
        loop {
            // Listed before reading: what has a successor now gets no more lines.
            let mut files: Vec<PathBuf> = std::fs::read_dir(&self.dir)
                .map(|entries| entries.flatten().map(|e| e.path()).collect())
                .unwrap_or_default();
            files.sort();
            let Some(oldest) = files.first() else { return };
            if self.file.is_none() {
                self.file = Some((oldest.clone(), File::open(oldest).unwrap()));
            }
            self.drain(truth);
            if files.len() < 2 {
                return;
            }
            if let Some((path, _)) = self.file.take() {
                std::fs::remove_file(path).unwrap();
            }
        }
    }

    fn drain(&mut self, truth: &mut Truth) {
        let Some((_, file)) = &mut self.file else { return };
        let mut buffer = vec![0; 1 << 16];
        loop {
            let read = file.read(&mut buffer).unwrap();
            if read == 0 {
                return;
            }
            let mut rest = &buffer[..read];
            while let Some(end) = rest.iter().position(|b| *b == b'\n') {
                if !self.skip {
                    self.line.extend_from_slice(&rest[..end]);
                    truth.take(&self.line);
                }
                self.line.clear();
                self.skip = false;
                rest = &rest[end + 1..];
            }
            if self.line.len() + rest.len() > LONGEST {
                self.skip = true;
                self.line.clear();
            }
            if !self.skip {
                self.line.extend_from_slice(rest);
            }
        }
    }
}
