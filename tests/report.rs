//! `pgrunway report` on a real server, and its HTML in a real Chromium.
//!
//! Must not: assert that a section is there without asserting what it says.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::path::{Path, PathBuf};
use std::time::Duration;

use common::process;
use pgrunway::cmd::cluster::Cluster;
use pgrunway::cmd::demo::setup;

struct Report {
    folder: tempfile::TempDir,
    markdown: String,
}

/// The demo's schema with 500 orders and 5,000 trades.
async fn database(expire_orders: bool) -> Cluster {
    let options = setup::cluster_options(pgrunway::cmd::cluster::find_binaries().unwrap());
    let cluster = Cluster::start(&options).await.unwrap();
    let (admin, _) = setup::schema(&cluster, expire_orders).await.unwrap();
    setup::data(&admin, 7).await.unwrap();
    cluster
}

fn dsn(cluster: &Cluster) -> String {
    format!(
        "host={} port={} user=postgres dbname={}",
        cluster.socket_dir().display(),
        cluster.port(),
        setup::DATABASE
    )
}

impl Report {
    async fn write(dsn: &str, args: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let (html, markdown) = (file("r.html"), file("r.md"));
        let mut all = vec!["report", "--over=6s", "--html", &html, "--markdown", &markdown];
        all.extend(args);
        let (code, out, err) = process::run(&all, &[("DATA_SOURCE_NAME", dsn)]).await;
        assert_eq!((code, out.as_str()), (0, ""), "{err}");
        let markdown = std::fs::read_to_string(markdown).unwrap();
        Self { folder, markdown }
    }

    fn html(&self) -> PathBuf {
        self.folder.path().join("r.html")
    }

    /// The cells of the table row that begins with these.
    fn row(&self, begins: &str) -> Vec<&str> {
        Self::row_of(&self.markdown, begins)
    }

    fn row_of<'a>(text: &'a str, begins: &str) -> Vec<&'a str> {
        let line = text.lines().find(|l| l.starts_with(&format!("| {begins}")));
        let line = line.unwrap_or_else(|| panic!("no row {begins} in {text}"));
        line.trim_matches('|').split('|').map(str::trim).collect()
    }

    fn first_verdict(&self) -> &str {
        self.markdown.lines().find(|l| l.starts_with("- **")).unwrap()
    }
}

#[tokio::test]
async fn an_expired_table_leads_and_figures_are_the_servers() {
    let cluster = database(true).await;
    let admin = common::admin(&cluster, setup::DATABASE).await;
    // Nineteen, whatever anyone counted by hand.
    let sql = "SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
               WHERE c.relkind = 'I' AND NOT c.relispartition";
    let indexes: i64 = admin.query_one(sql, &[]).await.unwrap().get(0);
    assert_eq!(indexes, 19);
    // Sizes are compared: nothing may add a map to a table in between.
    admin.batch_execute("ALTER SYSTEM SET autovacuum = off").await.unwrap();
    admin.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    // Two days that are complete.
    let past = "DO $$ DECLARE today timestamptz := date_trunc('day', now(), 'UTC'); BEGIN \
        EXECUTE format('CREATE TABLE trades_past PARTITION OF trades FOR VALUES FROM (%L) TO (%L)', \
                       today - interval '48 hours', today); END $$; \
        INSERT INTO trades SELECT (jsonb_populate_record(t, jsonb_build_object( \
            'executed_at', date_trunc('day', now(), 'UTC') - interval '1 hour'))).* \
          FROM trades t WHERE executed_at >= date_trunc('day', now(), 'UTC') LIMIT 3000";
    admin.batch_execute(past).await.unwrap();
    let worker = common::client(&cluster, "postgres", setup::DATABASE).await;
    let work = tokio::spawn(async move {
        let sql = "SELECT symbol, count(*) FROM trades GROUP BY symbol";
        loop {
            let rows = worker.query(sql, &[]).await.unwrap();
            assert_eq!(rows.len(), 5);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let sleeper = common::client(&cluster, "postgres", setup::DATABASE).await;
    let sleep = tokio::spawn(async move { sleeper.batch_execute("SELECT pg_sleep(600)").await });
    let report = Report::write(&dsn(&cluster), &["--host.memory=16GB"]).await;
    sleep.abort();
    work.abort();

    // It slept in every sample.
    let slept = report.row("`Timeout:PgSleep`");
    assert_eq!((slept[1], slept[2]), (setup::DATABASE, "1.00"), "{}", report.markdown);
    let share: f64 = slept[3].trim_end_matches(" %").parse().unwrap();
    let (low, high) = slept[4].trim_end_matches(" %").split_once(" to ").unwrap();
    let (low, high): (f64, f64) = (low.parse().unwrap(), high.parse().unwrap());
    assert!(low < share && share <= high && low > 0.0, "{slept:?}");
    // It has not ended, so pg_stat_statements does not have its text; 13 does not tell statements.
    let version = "SELECT current_setting('server_version_num')::int4";
    if admin.query_one(version, &[]).await.unwrap().get::<_, i32>(0) >= 140_000 {
        let mut lines = report.markdown.lines();
        let sleeps = lines.any(|l| l.starts_with("| `queryid ") && l.ends_with("Timeout 100 % |"));
        assert!(sleeps, "{}", report.markdown);
    }

    let first = report.first_verdict();
    assert!(
        first.starts_with(
            "- **CRITICAL**: **Create partitions ahead**: `public.orders`: Coverage ended"
        ) && first.ends_with(" d ago: inserts fail."),
        "{first}"
    );
    // Midnight was 22 days and the time of day ago.
    let days = first.split_once("ended ").unwrap().1.split(' ').next().unwrap();
    let days: f64 = days.parse().unwrap();
    assert!((22.0..=23.0).contains(&days), "{first}");
    assert_eq!(report.row("`public.orders`")[1], "CRITICAL");
    let trades = report.row("`public.trades`");
    assert_eq!((trades[1], trades[4]), ("OK", "31"));
    assert!(report.markdown.contains("19 indexes on 2 tables"), "{}", report.markdown);
    assert_eq!(report.row("`trades` | `idx_trades_maker_flag`")[6], "31 of 31");
    let size = "SELECT sum(relpages)::int8 * 8192 FROM pg_class c \
                WHERE relname LIKE 'trades%maker%' OR relname LIKE 'idx_trades_maker%'";
    let bytes: i64 = admin.query_one(size, &[]).await.unwrap().get(0);
    let shown = pgrunway::derive::units::bytes(bytes as f64);
    assert_eq!(report.row("`trades` | `idx_trades_maker_flag`")[5], shown);
    let statement = report.row("`SELECT symbol, count(*) FROM trades GROUP BY symbol`");
    assert_eq!(statement[6], "5.0", "rows a call");
    let calls: f64 = statement[3].parse().unwrap();
    assert!((2.0..=20.0).contains(&calls), "{calls} calls a second, one each 50 ms or slower");
    for sql in [
        "ALTER SYSTEM SET shared_buffers = '4GB';",
        "ALTER SYSTEM SET effective_cache_size = '12GB';",
    ] {
        assert!(report.markdown.contains(sql), "{sql}");
    }
    let size = "SELECT pg_total_relation_size('trades_past')";
    let past: i64 = admin.query_one(size, &[]).await.unwrap().get(0);
    let size = "SELECT sum(pg_total_relation_size(relid))::int8 FROM pg_partition_tree('trades') WHERE isleaf";
    let all: i64 = admin.query_one(size, &[]).await.unwrap().get(0);
    let (past, all) = (past as f64, all as f64);
    let growth: Vec<String> =
        [all, past / 2.0, all + past * 15.0, all + past * 45.0, all + past * 182.5]
            .map(pgrunway::derive::units::bytes)
            .into();
    let after = &report.markdown[report.markdown.find("### Growth").unwrap()..];
    let row = Report::row_of(after, "`public.trades`");
    assert_eq!([row[2], row[3], row[5], row[6], row[7]].as_slice(), growth);
    assert_eq!(row[4], "2 d");
    let section = &after[..after.find("### Connections").unwrap()];
    assert!(!section.contains("public.orders"), "it takes no rows, so that it does not grow");
    assert!(!report.markdown.contains("`storage.growth`, info"), "less than 1 GB a year");
    assert!(report.markdown.contains("pgrunway plan public.orders --days 14 --database=trading"));
    assert!(!report.markdown.contains("/* pgrunway */") && !report.markdown.contains("Not read"));
}

#[tokio::test]
async fn what_cannot_be_read_is_said_and_the_rest_is_there() {
    let cluster = database(false).await;
    let admin = common::admin(&cluster, setup::DATABASE).await;
    admin.batch_execute("DROP EXTENSION pg_stat_statements").await.unwrap();
    let report = Report::write(&dsn(&cluster), &["--no-collector.sizes"]).await;
    assert_eq!(report.row("`public.orders`")[1], "OK");
    assert!(report.markdown.contains("Not measured: this needs"));
    assert!(report.markdown.contains("sizes of database trading: collector sizes is switched off"));
    assert!(report.markdown.contains("Not known: `pg_stat_statements` could not be read"));
    assert!(
        report.markdown.contains("CREATE EXTENSION pg\\_stat\\_statements"),
        "{}",
        report.markdown
    );
}

#[tokio::test]
async fn a_short_watch_leaves_no_database_and_no_collector_out() {
    let cluster = common::server().await;
    let names = ["eins", "zwei", "drei", "vier", "fünf"];
    for name in names {
        let admin = common::admin(&cluster, "postgres").await;
        admin.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        let admin = common::admin(&cluster, name).await;
        let sql = format!(
            "CREATE TABLE of_{name} (a int) PARTITION BY RANGE (a);
             CREATE TABLE part PARTITION OF of_{name} FOR VALUES FROM (0) TO (10);
             CREATE TABLE t (a int); CREATE INDEX one ON t (a); CREATE INDEX two ON t (a);"
        );
        admin.batch_execute(&sql).await.unwrap();
    }
    // One that `plan` refuses, and one of which it leaves rows where they are.
    let admin = common::admin(&cluster, "eins").await;
    admin
        .batch_execute(
            "CREATE TABLE odd (ts timestamptz) PARTITION BY RANGE (ts);
             CREATE TABLE odd_1 PARTITION OF odd FOR VALUES FROM ('2026-01-01') TO ('2026-01-02 07:13');
             CREATE TABLE odd_2 PARTITION OF odd FOR VALUES FROM ('2026-01-02 07:13') TO ('2026-01-05 01:01');
             CREATE TABLE kept (ts timestamptz PRIMARY KEY) PARTITION BY RANGE (ts);
             DO $$ BEGIN FOR i IN -2 .. -1 LOOP EXECUTE format('CREATE TABLE %I PARTITION OF kept FOR VALUES FROM (%L) TO (%L)',
               'kept_' || i + 9, current_date + i, current_date + i + 1); END LOOP; END $$;
             CREATE TABLE kept_rest PARTITION OF kept DEFAULT; CREATE PUBLICATION all_leaves FOR TABLE kept",
        )
        .await
        .unwrap();
    let args = ["report", "--over=100ms", "--databases.exclude=vier"];
    let dsn = format!(
        "host={} port={} user=postgres dbname=postgres",
        cluster.socket_dir().display(),
        cluster.port()
    );
    let (code, report, err) = process::run(&args, &[("DATA_SOURCE_NAME", &dsn)]).await;
    assert_eq!(code, 0, "{err}");
    for name in names {
        let wanted = name != "vier";
        // By the collectors, by the catalogs, by the rules.
        for said in [
            format!("| `public.of_{name}` |"),
            format!("### Database {name}\n"),
            format!("### Drop indexes that are the same as another ({name})\n"),
        ] {
            assert_eq!(report.contains(&said), wanted, "{said} in {report}");
        }
    }
    assert!(!report.contains("Not read"), "{report}");
    let plain = report.replace('\\', "");
    assert!(
        plain.contains(
            "refuses this table: the 2 partitions of public.odd have no regular interval"
        ),
        "{plain}"
    );
    assert!(!plain.contains("pgrunway plan public.odd"), "{plain}");
    assert!(plain.contains("pgrunway plan public.kept --days"), "{plain}");
    assert!(
        plain.contains(
            "Rows of public.kept_rest are not moved, because publication all_leaves would send"
        ),
        "{plain}"
    );
    // Its own at least, which a collector of the whole server counts.
    let used: u32 = Report::row_of(&report, "in use at the end")[1].parse().unwrap();
    assert!((1..=50).contains(&used), "{used}: {report}");
}

#[tokio::test]
async fn a_server_that_is_away_gives_no_report() {
    let folder = tempfile::tempdir().unwrap();
    let html = folder.path().join("r.html");
    let args = ["report", "--over=1s", "--html", html.to_str().unwrap()];
    let dsn = format!("host={} user=x dbname=x", folder.path().display());
    let (code, out, err) = process::run(&args, &[("DATA_SOURCE_NAME", &dsn)]).await;
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    assert!(!html.exists());
}

/// What Chromium logged, the page's tree, and what it asked the network for beside its maker.
async fn browse(page: &Path) -> (String, String, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let net = folder.path().join("net.json");
    let mut command = tokio::process::Command::new("chromium");
    command
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"])
        .args([
            "--disable-component-update",
            "--disable-sync",
            "--no-first-run",
            "--disable-extensions",
        ])
        .args(["--enable-logging=stderr", "--v=0", "--dump-dom"])
        .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
        .arg(format!("--log-net-log={}", net.display()))
        .arg(format!("file://{}", page.display()))
        .kill_on_drop(true);
    let out = tokio::time::timeout(Duration::from_secs(90), command.output())
        .await
        .expect("Chromium ends in time")
        .expect("Chromium is needed: scripts/deps test installs it");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let asked = std::fs::read_to_string(net).unwrap();
    let makers = ["google.com/", "googleapis.com/", "gstatic.com/"];
    let urls = asked
        .split("\"url\":\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .filter(|url| url.starts_with("http") && !makers.iter().any(|maker| url.contains(maker)))
        .map(str::to_owned)
        .collect();
    (text(&out.stderr), text(&out.stdout), urls)
}

#[tokio::test]
async fn the_page_opens_in_chromium_without_errors_or_network() {
    let cluster = database(true).await;
    let report = Report::write(&dsn(&cluster), &[]).await;
    let (log, tree, asked) = browse(&report.html()).await;
    assert!(!log.contains("CONSOLE"), "{log}");
    assert_eq!(asked, Vec::<String>::new());
    assert!(
        tree.contains("<strong>Create partitions ahead</strong>: <code>public.orders</code>"),
        "{tree}"
    );
    assert!(tree.matches("<svg").count() >= 5 && tree.contains("class=\"gap\""), "{tree}");

    // The check can fail: a page that asks for a picture and says something.
    let other = report.folder.path().join("other.html");
    let page = "<img src=\"http://127.0.0.1:9/x.png\"><script>console.error('oh')</script>";
    std::fs::write(&other, page).unwrap();
    let (log, _, asked) = browse(&other).await;
    assert!(log.contains("CONSOLE") && log.contains("oh"), "{log}");
    assert!(asked.iter().any(|url| url.contains("/x.png")), "{asked:?}");
}
