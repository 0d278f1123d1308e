//! `/probe?target=`: what a request names is polled as long as it is asked for, and only where the configuration
//! allows it.

use nix::sys::signal::Signal;
use tokio::time::{Duration, Instant, sleep};

use super::common::{self, http};
use super::{Exporter, value};

async fn probe(exporter: &Exporter, query: &str) -> http::Answer {
    http::get(exporter.process.address, &format!("/probe?{query}")).await
}

/// Sessions of the role, by pid.
async fn sessions(admin: &tokio_postgres::Client) -> Vec<i32> {
    let sql = "SELECT pid FROM pg_stat_activity WHERE usename = 'mon' ORDER BY pid";
    admin.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn a_target_that_is_allowed_is_polled_as_long_as_it_is_asked_for() {
    let cluster = common::server().await;
    let admin = common::admin(&cluster, "postgres").await;
    let port = cluster.port();
    let file = format!(
        "targets:\n- {{name: t0, dsn: '{}'}}\n\
         probe:\n  allow: ['127.0.0.1:{port}', 'localhost:{port}']\n  keep: 10m\n  limit: 1\n\
         auth_modules:\n  mon:\n    type: userpass\n    userpass: {{username: mon, password: mon}}\n    \
         options: {{sslmode: disable, application_name: probed}}\n  wrong:\n    userpass: {{username: mon, \
         password: hunter2}}\n",
        cluster.uri("postgres", "postgres")
    );
    let on = [("PGRUNWAY_WEB_ENABLE_LIFECYCLE", "true")];
    let exporter = Exporter::start(&file, &on).await;
    // The first answer waits for the first round; every form that postgres_exporter takes leads to one poller.
    let plain = format!("target=127.0.0.1:{port}/postgres&auth_module=mon");
    let first = probe(&exporter, &plain).await;
    assert_eq!(first.status, 200, "{}", first.text());
    let text = first.text();
    assert_eq!(value(&text, "pg_up", &[]), Some(1.0), "{text}");
    assert!(value(&text, "pg_postmaster_start_time_seconds", &[]).is_some(), "{text}");
    let database = [("datname", "postgres")];
    assert!(value(&text, "pg_database_size_bytes", &database).is_some(), "{text}");
    assert!(!text.contains("process_cpu_seconds_total"), "the process has a page of its own");
    let before = sessions(&admin).await;
    assert!((1..=2).contains(&before.len()), "{before:?}");
    for form in [
        format!("postgresql://127.0.0.1:{port}/postgres?sslmode=prefer"),
        format!("host%3D127.0.0.1%20port%3D{port}%20dbname%3Dpostgres%20user%3Dnobody"),
    ] {
        let again = probe(&exporter, &format!("target={form}&auth_module=mon")).await;
        assert_eq!(again.status, 200, "{form}: {}", again.text());
        assert!(again.text().contains("\npg_up 1\n"));
    }
    assert!(sessions(&admin).await.len() <= 2);
    assert!(sessions(&admin).await.iter().any(|pid| before.contains(pid)), "it goes on");

    let limit = probe(&exporter, &format!("target=127.0.0.1:{port}/other&auth_module=mon")).await;
    assert!(limit.status == 503 && limit.text().contains("probe.limit"), "{}", limit.text());

    let named =
        probe(&exporter, &format!("target=localhost:{port}/postgres&auth_module=mon")).await;
    assert_eq!(named.status, 503, "it is another one: {}", named.text());

    // Nobody asks any more.
    exporter.write(&file.replace("keep: 10m", "keep: 1s"));
    let loaded = http::request(exporter.process.address, "POST", "/-/reload", &[]).await;
    assert_eq!(loaded.status, 200, "{}", loaded.text());
    let end = Instant::now() + Duration::from_secs(60);
    while !sessions(&admin).await.is_empty() {
        assert!(Instant::now() < end, "it is polled on: {:#?}", exporter.process.log());
        sleep(Duration::from_millis(100)).await;
    }

    // A wrong password is a target that is down, not an error of the request; and it shows nowhere.
    let wrong =
        probe(&exporter, &format!("target=127.0.0.1:{port}/postgres&auth_module=wrong")).await;
    assert_eq!((wrong.status, value(&wrong.text(), "pg_up", &[])), (200, Some(0.0)));
    assert!(!exporter.process.log().join("\n").contains("hunter2"));
}

#[tokio::test]
async fn a_request_leads_nowhere_else() {
    let cluster = common::server().await;
    let port = cluster.port();
    let file = format!(
        "targets:\n- {{name: t0, dsn: '{}'}}\nprobe: {{allow: ['2130706433:{port}', '10.99.0.0/16']}}\n",
        cluster.uri("mon", "postgres")
    );
    let mut exporter =
        Exporter::start(&file, &[("PGHOST", "127.0.0.1"), ("PGPASSWORD", "mon")]).await;
    for (query, status, said) in [
        ("", 400, "target is required"),
        ("target=", 400, "target is required"),
        (&*format!("target=127.0.0.1:{port}"), 403, "add it to `probe.allow`"),
        (&*format!("target=localhost:{port}"), 403, "what its name leads to"),
        ("target=169.254.169.254:80", 403, "add it to `probe.allow`"),
        ("target=[::1]:5432", 403, "add it to `probe.allow`"),
        // A name that is on the list, and leads to 127.0.0.1 once it is looked up.
        (&*format!("target=2130706433:{port}/postgres"), 403, "what its name leads to"),
        ("target=localhost:5432&auth_module=none", 400, "auth_module"),
        ("target=postgresql:///postgres?host=/tmp", 403, "probe.allow"),
        ("target=postgresql:///postgres", 400, "names no host"),
        ("target=postgresql://10.99.0.1/d?sslrootcert=/etc/passwd", 400, "sets `sslrootcert`"),
        ("target=postgresql://10.99.0.1/d?passfile=/etc/passwd", 400, "sets `passfile`"),
        ("target=postgresql://10.99.0.1,127.0.0.1/d", 403, "127.0.0.1"),
        ("target=postgresql://10.99.0.1/d?hostaddr=127.0.0.1", 400, "sets `hostaddr`"),
        ("target=postgresql://u:hunter2@evil@10.99.0.1/d", 400, "`@`"),
        ("target=service%3Dshop", 400, "sets `service`"),
    ] {
        let answer = probe(&exporter, query).await;
        let text = answer.text();
        assert!(
            answer.status == status && text.contains(said),
            "{query}: {} {text}",
            answer.status
        );
        assert!(!text.contains("hunter2"), "{query}: {text}");
    }
    // Without the key nothing may be probed.
    exporter.process.stop(Signal::SIGTERM).await;
    let exporter = Exporter::start(&file.replace("probe:", "# probe:"), &[]).await;
    let answer = probe(&exporter, "target=10.99.0.1").await;
    assert!(answer.status == 403 && answer.text().contains("probe.allow"), "{}", answer.text());
}

/// A `postgres_exporter.yml` is a configuration here too, and a silent target costs a scrape no more than it waits.
#[tokio::test]
async fn a_file_of_postgres_exporter_serves_and_deadlines_hold() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("postgres_exporter.yml");
    let text = "auth_modules:\n  first:\n    type: userpass\n    userpass:\n      username: first\n      \
                password: firstpass\n    options:\n      sslmode: disable\n";
    std::fs::write(&path, text).unwrap();
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let config = format!("--config.file={}", path.display());
    let args = [config.as_str(), "--web.listen-address=127.0.0.1:0", "--probe.allow=127.0.0.0/8"];
    let dsn = [("DATA_SOURCE_NAME", "host=127.0.0.1 port=1 user=x")];
    let process = common::process::Process::start(&args, &dsn).await;
    let path = format!("/probe?target=127.0.0.1:{port}&auth_module=first");
    let header = ("X-Prometheus-Scrape-Timeout-Seconds", "1");
    let answer = http::request(process.address, "GET", &path, &[header]).await;
    assert_eq!(answer.status, 200);
    assert!(answer.took < Duration::from_secs(5), "{:?}", answer.took);
    assert_eq!(value(&answer.text(), "pg_up", &[]), Some(0.0), "{}", answer.text());
}
