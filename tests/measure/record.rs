//! What the view said, scan by scan, at more instants than any poller asks for: a run that is recorded once can be
//! replayed with other scans and other estimators in seconds.
//!
//! Must not: ask often enough to be felt.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use pgrunway::cmd::cluster::Cluster;
use pgrunway::cmd::demo::setup;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::load::Place;
use super::{now, sleep_until_unix};

/// When in each second the view is read, in milliseconds.
pub const OFFSETS: [u32; 9] = [0, 2, 5, 10, 20, 50, 250, 500, 750];

/// Reads the view once a second at each of [`OFFSETS`] and writes what it read.
pub struct Recorder {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Recorder {
    /// Writes to `file`: of each scan `S`, its place in [`OFFSETS`] and Unix seconds, then its rows: role, queryid,
    /// calls, total, minimum, maximum, mean, deviation (milliseconds), and since when the extremes are.
    pub fn start(cluster: &Cluster, file: &Path) -> Self {
        let place = Place::of(cluster);
        let mut out = std::io::BufWriter::new(std::fs::File::create(file).unwrap());
        let (stop, mut stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            // A server that restarts ends the session; there is another soon.
            while record(&place, &mut out, &mut stopped).await.is_none()
                && !stopped_by(&mut stopped)
            {
                sleep(Duration::from_millis(200)).await;
            }
            out.flush().unwrap();
        });
        Self { stop, task }
    }

    /// Ends it.
    pub async fn finish(self) {
        let _ = self.stop.send(());
        self.task.await.unwrap();
    }
}

fn stopped_by(stopped: &mut oneshot::Receiver<()>) -> bool {
    stopped.try_recv().is_ok()
}

/// Until the session ends (then there is nothing), or all does.
async fn record(
    place: &Place,
    out: &mut impl std::io::Write,
    stopped: &mut oneshot::Receiver<()>,
) -> Option<()> {
    let client = place.connect("postgres", setup::DATABASE).await.ok()?;
    let since = "SELECT count(*) > 0 FROM pg_attribute WHERE attname = 'minmax_stats_since' \
                 AND attrelid = 'pg_stat_statements'::regclass";
    let since = match client.query_one(since, &[]).await.ok()?.get(0) {
        true => "date_part('epoch', s.minmax_stats_since)",
        false => "0::float8",
    };
    let sql = format!(
        "SELECT r.rolname::text, s.queryid, s.calls, s.total_exec_time, s.min_exec_time, s.max_exec_time, \
                s.mean_exec_time, s.stddev_exec_time, {since} \
           FROM pg_stat_statements(false) s JOIN pg_roles r ON r.oid = s.userid AND r.rolname LIKE 'app\\_%'"
    );
    let scan = client.prepare(&sql).await.ok()?;
    loop {
        let second = now().ceil();
        for (i, offset) in OFFSETS.into_iter().enumerate() {
            sleep_until_unix(second + f64::from(offset) / 1e3).await;
            let rows =
                timeout(Duration::from_secs(2), client.query(&scan, &[])).await.ok()?.ok()?;
            writeln!(out, "S {i} {}", now()).unwrap();
            for row in rows {
                let (role, queryid, calls): (String, i64, i64) =
                    (row.get(0), row.get(1), row.get(2));
                write!(out, "{role} {queryid} {calls}").unwrap();
                for i in 3..9 {
                    write!(out, " {}", row.get::<_, f64>(i)).unwrap();
                }
                writeln!(out).unwrap();
            }
        }
        if stopped_by(stopped) {
            return Some(());
        }
    }
}
