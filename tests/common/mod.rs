//! What the tests share: a real PostgreSQL of their own, and a way to run SQL on it.
//!
//! Must not: fall back to a fake where a part is missing; it panics and says what to install.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use pgrunway::cmd::cluster::{Cluster, Options};
use tokio_postgres::{Client, NoTls};

/// Starts a server with `pg_stat_statements` loaded and a login role `mon` that has only
/// `pg_monitor` (password `mon`).
pub async fn server() -> Cluster {
    server_with(&[], &[]).await
}

/// As [`server`], with settings and `pg_hba.conf` lines of the test's own.
pub async fn server_with(settings: &[(&str, &str)], hba: &[&str]) -> Cluster {
    let mut all = vec![
        ("shared_preload_libraries".to_owned(), "pg_stat_statements".to_owned()),
        ("max_connections".to_owned(), "50".to_owned()),
    ];
    all.extend(settings.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())));
    let options = Options {
        binaries: None,
        settings: all,
        hba: hba.iter().map(|l| (*l).to_owned()).collect(),
    };
    let cluster = Cluster::start(&options).await.expect("a real PostgreSQL is needed");
    let admin = admin(&cluster, "postgres").await;
    admin
        .batch_execute(
            "CREATE EXTENSION pg_stat_statements; CREATE ROLE mon LOGIN PASSWORD 'mon'; \
             GRANT pg_monitor TO mon;",
        )
        .await
        .expect("the test role");
    cluster
}

/// A superuser connection over the Unix socket.
pub async fn admin(cluster: &Cluster, dbname: &str) -> Client {
    client(cluster, "postgres", dbname).await
}

/// A connection of any role over the Unix socket.
pub async fn client(cluster: &Cluster, user: &str, dbname: &str) -> Client {
    let (client, connection) = tokio_postgres::Config::new()
        .host_path(cluster.socket_dir())
        .port(cluster.port())
        .user(user)
        .dbname(dbname)
        .connect(NoTls)
        .await
        .expect("connects to the test server");
    tokio::spawn(connection);
    client
}
