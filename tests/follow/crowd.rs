//! Who else is on the server while a script runs: a writer, a reader and somebody who holds locks.
//!
//! Must not: forgive an error, a row that is gone for a moment, or an update that found nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio_postgres::Client;

use super::case::{Case, Draw, Source};

/// What the crowd saw.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    pub inserted: u64,
    pub updated: u64,
    pub longest: Duration,
    pub faults: Vec<String>,
}

pub struct Crowd {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Seen>>,
}

impl Seen {
    fn took(&mut self, since: Instant) {
        self.longest = self.longest.max(since.elapsed());
    }
}

impl Crowd {
    pub fn start(case: &Case, writer: Client, reader: Client, blocker: Client) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let tasks = vec![
            tokio::spawn(write(case.clone(), writer, stop.clone())),
            tokio::spawn(read(case.clone(), reader, stop.clone())),
            tokio::spawn(block(case.clone(), blocker, stop.clone())),
        ];
        Self { stop, tasks }
    }

    pub async fn end(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Seen::default();
        for (n, task) in self.tasks.into_iter().enumerate() {
            let seen = task.await.unwrap();
            all.inserted += seen.inserted;
            all.updated += seen.updated;
            // The blocker waits for himself.
            if n < 2 {
                all.longest = all.longest.max(seen.longest);
            }
            all.faults.extend(seen.faults);
        }
        all
    }
}

async fn write(case: Case, client: Client, stop: Arc<AtomicBool>) -> Seen {
    let mut seen = Seen::default();
    let mut draw = Draw(case.seed ^ 0xbeef);
    let root = case.root();
    let far = if case.source == Source::None { 4 } else { 9 };
    let insert = format!(
        "INSERT INTO {root} (id, at, note) OVERRIDING SYSTEM VALUE \
         SELECT $1::int8, public.k(date_trunc('day', now()) + ($2::int8 - 1) * interval '1 day' + $1 * interval '1 second'), 'w' || $1"
    );
    let update = format!("UPDATE {root} SET note = note || 'u' WHERE id = $1");
    while !stop.load(Ordering::Relaxed) && seen.faults.len() < 5 {
        let id = 1000 + i64::try_from(seen.inserted).unwrap();
        let day = i64::try_from(draw.below(far)).unwrap();
        let began = Instant::now();
        match client.execute(&insert, &[&id, &day]).await {
            Ok(1) => seen.inserted += 1,
            Ok(n) => seen.faults.push(format!("{n} rows inserted")),
            Err(e) => seen.faults.push(format!("insert: {:?}", e.as_db_error())),
        }
        seen.took(began);
        if case.stuck() {
            continue;
        }
        let old = 1 + i64::try_from(draw.below(400)).unwrap();
        let began = Instant::now();
        match client.execute(&update, &[&old]).await {
            Ok(1) => seen.updated += 1,
            Ok(n) => seen.faults.push(format!("{n} rows updated: a row was not found")),
            Err(e) => seen.faults.push(format!("update: {:?}", e.as_db_error())),
        }
        seen.took(began);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    seen
}

async fn read(case: Case, client: Client, stop: Arc<AtomicBool>) -> Seen {
    let mut seen = Seen::default();
    let count = format!("SELECT count(*) FROM {}", case.root());
    let mut least = 400;
    while !stop.load(Ordering::Relaxed) && seen.faults.len() < 5 {
        let began = Instant::now();
        match client.query_one(&count, &[]).await {
            Ok(row) => {
                let rows: i64 = row.get(0);
                if rows < least {
                    seen.faults.push(format!("{rows} rows seen after {least}"));
                }
                least = rows.max(least);
            }
            Err(e) => seen.faults.push(format!("select: {:?}", e.as_db_error())),
        }
        seen.took(began);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    seen
}

/// Holds what a query takes for up to half a second, with as long a pause.
async fn block(case: Case, client: Client, stop: Arc<AtomicBool>) -> Seen {
    let mut draw = Draw(case.seed ^ 0xb10c);
    while !stop.load(Ordering::Relaxed) {
        let sql = format!("BEGIN; SELECT FROM {} LIMIT 1", case.root());
        let _ = client.batch_execute(&sql).await;
        tokio::time::sleep(Duration::from_millis(50 + draw.below(400))).await;
        let _ = client.batch_execute("COMMIT").await;
        tokio::time::sleep(Duration::from_millis(300 + draw.below(300))).await;
    }
    Seen::default()
}
