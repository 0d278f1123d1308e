//! Which alerts a standby may raise, and each firing case of the rule tests once more on a standby.
//!
//! Must not: leave an alert out; a new one is listed here with its reason.

use std::collections::BTreeSet;

use serde_json::{Value, json};

/// Whose doing it takes to end an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FromStandby {
    /// It is about this server, whatever its role: its sessions, disks, exporter. It comes from a standby too.
    Comes,
    /// A primary alone can do something, and has the same alert: it never comes from a standby.
    Never,
    /// It is about no server.
    Elsewhere,
}

use FromStandby::{Comes, Elsewhere, Never};

/// All alerts by name.
pub const ALERTS: &[(&str, FromStandby)] = &[
    ("PgBouncerClientWaitLong", Elsewhere),
    ("PgBouncerClientsNearLimit", Elsewhere),
    ("PgBouncerClientsWaiting", Elsewhere),
    ("PgBouncerDatabasePaused", Elsewhere),
    ("PgBouncerDown", Elsewhere),
    ("PgBouncerPoolExhausted", Elsewhere),
    ("PgrunwayCertificateExpiresSoon", Comes),
    ("PgrunwayCollectorFailing", Comes),
    ("PgrunwayCollectorStale", Comes),
    ("PgrunwayConfigReloadFailed", Elsewhere),
    ("PgrunwayDown", Elsewhere),
    ("PgrunwayRoleSeesLittle", Comes),
    // With archive_mode = always a standby archives for itself.
    ("PostgresArchiverFailing", Never),
    ("PostgresArchivingBehind", Never),
    ("PostgresAutovacuumOff", Never),
    ("PostgresCacheHitRatioLow", Comes),
    ("PostgresChecksumFailure", Comes),
    ("PostgresCheckpointsTooFrequent", Never),
    ("PostgresConnectionsExhausted", Comes),
    ("PostgresConnectionsNearLimit", Comes),
    ("PostgresDatabaseUnreadable", Comes),
    ("PostgresDeadlocks", Comes),
    ("PostgresDown", Comes),
    ("PostgresFailover", Comes),
    ("PostgresForeignKeyUnindexed", Never),
    ("PostgresIdleInTransactionLong", Comes),
    ("PostgresIndexExpectedMissing", Never),
    ("PostgresIndexInvalid", Never),
    ("PostgresIndexRedundant", Never),
    // A standby counts scans of its own: the index is built on the primary, the queries may be here only.
    ("PostgresIndexScanRatioLow", Comes),
    ("PostgresIndexUnused", Never),
    ("PostgresLatencyBudgetBurnFast", Comes),
    ("PostgresLatencyBudgetBurnSlow", Comes),
    ("PostgresLockWaitLong", Comes),
    ("PostgresPartitionDefaultRows", Never),
    ("PostgresPartitionGap", Never),
    ("PostgresPartitionJobFailed", Never),
    ("PostgresPartitionJobOverdue", Never),
    ("PostgresPartitionNotCovered", Never),
    ("PostgresPartitionOpenEnded", Never),
    ("PostgresPartitionRequiredMissing", Never),
    ("PostgresPartitionRetentionExceeded", Never),
    ("PostgresPartitionRunwayShort", Never),
    ("PostgresPartmanOverdue", Never),
    ("PostgresPreparedTransactionOld", Never),
    ("PostgresQueryLatencyHigh", Comes),
    ("PostgresQueryLatencyMayBeHigh", Comes),
    ("PostgresQueryRunningLong", Comes),
    ("PostgresReplicationLagHigh", Comes),
    ("PostgresReplicationSlotInactive", Never),
    ("PostgresReplicationSlotLost", Comes),
    ("PostgresReplicationSlotRetainsWal", Comes),
    ("PostgresReservedConnectionsUsed", Comes),
    ("PostgresRestarted", Comes),
    ("PostgresRolePasswordExpires", Never),
    ("PostgresSequenceRunningOut", Never),
    ("PostgresSessionsBlocked", Comes),
    ("PostgresSplitBrain", Never),
    // Of a cascade.
    ("PostgresStandbyBehind", Comes),
    ("PostgresStandbyNotStreaming", Comes),
    ("PostgresStatementLatencyHigh", Comes),
    // A library that is preloaded is each server's own.
    ("PostgresStatementsEvicting", Comes),
    ("PostgresStatementsMissing", Comes),
    ("PostgresSubscriptionDown", Never),
    ("PostgresSubscriptionFailing", Never),
    ("PostgresTempFilesHeavy", Comes),
    // It keeps the primary from vacuuming with hot_standby_feedback, else the standby from replaying.
    ("PostgresTransactionOpenLong", Comes),
    ("PostgresVacuumOverdue", Never),
    ("PostgresWalReceiverDown", Comes),
    ("PostgresWraparoundImminent", Never),
    ("PostgresWraparoundRisk", Never),
];

/// What a standby does about an alert.
pub fn from_standby(alert: &str) -> FromStandby {
    let found = ALERTS.iter().find(|(name, _)| *name == alert);
    found.unwrap_or_else(|| panic!("{alert} is not in tests/rules/standby.rs")).1
}

/// Long enough for each case at an interval of a minute.
const SAMPLES: u32 = 3_000;

/// A file of rule tests with a standby in the place of each server, and of each case what must come of it then; the
/// alerts that are asked about.
pub fn on_a_standby(file: &Value, own: &BTreeSet<&str>) -> (Value, BTreeSet<String>) {
    let mut asked = BTreeSet::new();
    let mut tests = Vec::new();
    for test in file["tests"].as_array().unwrap() {
        let mut test = test.clone();
        let mut targets = BTreeSet::new();
        let mut series = Vec::new();
        for one in test["input_series"].as_array().unwrap() {
            let (name, labels) = parsed(one["series"].as_str().unwrap());
            let target: Vec<_> = labels.into_iter().filter(|(n, _)| !own.contains(&**n)).collect();
            // What says that it is a primary, or what archive_mode it has, is not true of this one.
            if !["pg_replication_is_replica", "pg_settings_archive_mode"].contains(&&*name) {
                series.push(one.clone());
            }
            let archives = name == "pg_settings_archive_mode";
            if archives {
                series.push(json!({"series": one["series"], "values": format!("1x{SAMPLES}")}));
            }
            targets.insert(target);
        }
        for target in targets {
            let labels: Vec<_> = target.iter().map(|(n, v)| format!("{n}={v:?}")).collect();
            series.push(json!({
                "series": format!("pg_replication_is_replica{{{}}}", labels.join(",")),
                "values": format!("1x{SAMPLES}"),
            }));
        }
        let mut cases = Vec::new();
        for case in test["alert_rule_test"].as_array().unwrap() {
            let alert = case["alertname"].as_str().unwrap();
            let fires = !case["exp_alerts"].as_array().unwrap().is_empty();
            // Roles are said by the series themselves.
            if !fires || alert == "PostgresSplitBrain" {
                continue;
            }
            asked.insert(alert.to_owned());
            let mut case = case.clone();
            if from_standby(alert) == Never {
                case["exp_alerts"] = json!([]);
            }
            cases.push(case);
        }
        if cases.is_empty() {
            continue;
        }
        test["input_series"] = series.into();
        test["alert_rule_test"] = cases.into();
        tests.push(test);
    }
    let interval = file["evaluation_interval"].clone();
    // Only these: promtool evaluates every rule of every file at each step.
    let rules: BTreeSet<String> = asked.iter().map(|alert| super::file_of(alert)).collect();
    (json!({"rule_files": rules, "evaluation_interval": interval, "tests": tests}), asked)
}

/// Name and labels of a series as the rule tests write it.
fn parsed(series: &str) -> (String, Vec<(String, String)>) {
    let (name, rest) = series.split_once('{').unwrap_or((series, "}"));
    let mut labels = Vec::new();
    let mut rest = rest;
    while let Some((label, after)) = rest.split_once("=\"") {
        let mut escaped = false;
        let end = after.find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        let (value, after) = after.split_at(end.unwrap());
        let value = value.replace("\\\"", "\"").replace("\\\\", "\\");
        labels.push((label.trim_matches([',', ' ']).to_owned(), value));
        rest = &after[1..];
    }
    (name.trim().to_owned(), labels)
}
