//! One cause, one notification: which alerts the shipped Alertmanager configuration mutes, asked of a
//! real Alertmanager.
//!
//! Must not: judge by the text of the configuration.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;
mod rules;

use std::collections::BTreeSet;
use std::time::Duration;

use common::alertmanager::Alertmanager;
use common::http;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// An alert's name, instance and further labels.
type Alert<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);

/// Fails unless of the alerts, all posted at once, these are left to be notified.
async fn assert_left(alerts: &[Alert<'_>], left: &[(&str, &str)]) {
    let config = std::fs::read_to_string(
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("alerts/alertmanager.example.yml"),
    );
    let alertmanager = Alertmanager::start(&config.unwrap()).await;
    let labelled = |(alert, instance, more): &Alert<'_>| {
        let mut labels = json!({"alertname": alert, "instance": instance, "job": "pgrunway"});
        for (name, value) in *more {
            labels[name] = (*value).into();
        }
        json!({"labels": labels})
    };
    let all: Value = alerts.iter().map(labelled).collect();
    let answer = http::post(alertmanager.address, "/api/v2/alerts", &all).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let left: BTreeSet<(&str, &str)> = left.iter().copied().collect();
    // It learns of the sources by and by; what it says must stay for two seconds.
    let (end, mut steady) = (Instant::now() + Duration::from_secs(20), 0);
    while steady < 10 {
        let known = alertmanager.alerts().await;
        let text = |a: &'_ Value, name: &str| a["labels"][name].as_str().unwrap().to_owned();
        let active = known.iter().filter(|a| a["status"]["state"] == "active");
        let active: Vec<_> = active.map(|a| (text(a, "alertname"), text(a, "instance"))).collect();
        let active: BTreeSet<(&str, &str)> = active.iter().map(|(a, i)| (&**a, &**i)).collect();
        steady = if known.len() == alerts.len() && active == left { steady + 1 } else { 0 };
        assert!(Instant::now() < end, "{active:?} is not {left:?}");
        sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn a_server_a_pooler_or_an_exporter_that_is_gone_is_told_once() {
    let all = rules::rules();
    let partitions = ["PostgresPartitionNotCovered", "PostgresPartitionRunwayShort"];
    let down = ["PostgresDown", "PgBouncerDown", "PgrunwayDown"];
    for gone in down {
        let mut alerts: Vec<Alert<'_>> = vec![("PostgresCacheHitRatioLow", "db2", &[])];
        for rule in all.iter().filter(|r| r.alert == gone || !down.contains(&&*r.alert)) {
            // Of another table than the rest: it mutes another alert of its own.
            let orders = rule.alert == partitions[0];
            let labels: &[_] = if orders { &[("relname", "orders")] } else { &[] };
            alerts.push((&rule.alert, "db1", labels));
        }
        let left = [
            (gone, "db1"),
            (partitions[0], "db1"),
            (partitions[1], "db1"),
            ("PostgresCacheHitRatioLow", "db2"),
        ];
        assert_left(&alerts, &left).await;
    }
}

#[tokio::test]
async fn a_page_mutes_the_lesser_alert_of_the_same_thing_only() {
    let trades: &[(&str, &str)] = &[("datname", "trading"), ("relname", "trades")];
    let orders: &[(&str, &str)] = &[("datname", "trading"), ("relname", "orders")];
    let app: &[(&str, &str)] = &[("database", "shop"), ("user", "app")];
    let report: &[(&str, &str)] = &[("database", "shop"), ("user", "report")];
    let alerts: &[Alert<'_>] = &[
        ("PostgresPartitionNotCovered", "db1", trades),
        ("PostgresPartitionRunwayShort", "db1", trades),
        ("PostgresPartitionNotCovered", "db2", orders),
        ("PostgresPartitionRunwayShort", "db2", trades),
        ("PostgresConnectionsExhausted", "db1", &[]),
        ("PostgresConnectionsNearLimit", "db1", &[]),
        ("PostgresConnectionsNearLimit", "db2", &[]),
        ("PgBouncerPoolExhausted", "db1", app),
        ("PgBouncerClientWaitLong", "db1", app),
        ("PgBouncerClientsWaiting", "db1", app),
        ("PgBouncerClientsWaiting", "db1", report),
        ("PgBouncerClientWaitLong", "db2", app),
        ("PgBouncerClientsWaiting", "db2", app),
    ];
    let left = [
        ("PostgresPartitionNotCovered", "db1"),
        ("PostgresPartitionNotCovered", "db2"),
        ("PostgresPartitionRunwayShort", "db2"),
        ("PostgresConnectionsExhausted", "db1"),
        ("PostgresConnectionsNearLimit", "db2"),
        ("PgBouncerPoolExhausted", "db1"),
        ("PgBouncerClientsWaiting", "db1"),
        ("PgBouncerClientWaitLong", "db2"),
    ];
    assert_left(alerts, &left).await;
}
