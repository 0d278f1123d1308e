//! The trade schema in a database: made where it is missing, taken as it is where it is there, refused
//! where its names stand for something else.
//!
//! Must not: change a table that is there, but for the partitions that it lacks.

use std::collections::BTreeSet;
use std::fmt::Write;

use anyhow::{Context, bail, ensure};
use jiff::civil::Date;
use jiff::{Timestamp, ToSpan, tz::TimeZone};

use crate::cmd::trading::{FUNCTIONS, SCHEMA};
use crate::pg::{Admin, Row, columns};

/// Days after today that get a partition of trades, as in the demo.
const DAYS_AHEAD: i64 = 29;
/// Months after this one that get a partition of orders, as in the demo.
const MONTHS_AHEAD: i64 = 3;
/// Partitions made in one transaction: each takes some thirty locks.
const AT_ONCE: usize = 30;

/// What is in `public` under our names: a line per relation, and one per column of a table.
const FOUND: &str = "
SELECT c.relname::text AS relation,
       COALESCE(pg_catalog.pg_get_partkeydef(c.oid), '') AS key,
       COALESCE((SELECT pg_catalog.string_agg(
                            a.attname || ' ' || pg_catalog.format_type(a.atttypid, a.atttypmod)
                                      || CASE WHEN a.attnotnull THEN ' not null' ELSE '' END,
                            ', ' ORDER BY a.attnum)
                   FROM pg_catalog.pg_attribute a
                  WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), '')::text AS columns
  FROM pg_catalog.pg_class c
 WHERE c.relnamespace = 'public'::pg_catalog.regnamespace AND c.relname IN ('orders', 'trades')
 ORDER BY 1";

const PARTITIONS: &str = "
SELECT p.relname::text AS parent, c.relname::text AS name
  FROM pg_catalog.pg_inherits i
  JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
  JOIN pg_catalog.pg_class p ON p.oid = i.inhparent
 WHERE p.relnamespace = 'public'::pg_catalog.regnamespace AND p.relname IN ('orders', 'trades')
   AND p.relkind = 'p'";

/// Name, partition key and columns of the tables that [`SCHEMA`] makes.
const TABLES: [(&str, &str, &str); 2] = [
    (
        "orders",
        "RANGE (created_at)",
        "order_id uuid not null, user_id bigint not null, symbol text not null, side text not null, \
         type text not null, status text not null, quantity numeric(20,8) not null, \
         price numeric(20,8), filled_quantity numeric(20,8) not null, client_order_id text, \
         created_at timestamp with time zone not null, updated_at timestamp with time zone not null",
    ),
    (
        "trades",
        "RANGE (executed_at)",
        "trade_id uuid not null, symbol text not null, price numeric(20,8) not null, \
         quantity numeric(20,8) not null, buyer_user_id bigint not null, seller_user_id bigint not null, \
         buyer_order_id uuid, seller_order_id uuid, is_buyer_maker boolean not null, \
         executed_at timestamp with time zone not null",
    ),
];

/// Makes tables and functions where they are missing, and the partitions from `first` up to the runway that
/// the demo has too. Returns how many partitions it made.
///
/// # Errors
/// Something of another shape has our names, or the server refuses. Nothing has changed but, in the second
/// case, for partitions that are there already.
pub async fn prepare(admin: &Admin, first: Timestamp, now: Timestamp) -> anyhow::Result<usize> {
    let there = look(admin).await?;
    let names = if there { partitions(admin).await? } else { BTreeSet::new() };
    let missing: Vec<NewPartition> =
        wanted(first, now)?.into_iter().filter(|p| !names.contains(&p.name)).collect();
    if !there {
        // One implicit transaction.
        admin.batch(&format!("{SCHEMA};{FUNCTIONS}")).await.context("making the trade schema")?;
    }
    for some in missing.chunks(AT_ONCE) {
        let mut sql = String::new();
        for NewPartition { parent, name, lower, upper } in some {
            writeln!(
                sql,
                "CREATE TABLE public.{name} PARTITION OF public.{parent} \
                 FOR VALUES FROM ('{lower} 00:00:00+00') TO ('{upper} 00:00:00+00');"
            )?;
        }
        admin.batch(&sql).await.context("making partitions")?;
    }
    Ok(missing.len())
}

columns! {
    struct FoundTable {
        relation: String,
        key: String,
        columns: String,
    }
}

columns! {
    struct FoundPartition {
        parent: String,
        name: String,
    }
}

/// Whether the tables are there.
async fn look(admin: &Admin) -> anyhow::Result<bool> {
    let found: Vec<FoundTable> =
        Row::all(&admin.rows(FOUND).await.context("looking for the tables")?)?;
    if found.is_empty() {
        return Ok(false);
    }
    for (table, key, columns) in TABLES {
        let Some(there) = found.iter().find(|there| there.relation == table) else {
            bail!(
                "there are tables of another schema: public.{table} is missing; nothing was changed"
            );
        };
        let has_columns = there.columns.as_str();
        ensure!(
            there.key == key,
            "public.{table} is not ours: it is not partitioned by {key}; nothing was changed"
        );
        if has_columns != columns {
            let differs = has_columns.split(", ").find(|c| !columns.split(", ").any(|o| o == *c));
            let lacks = columns.split(", ").find(|c| !has_columns.split(", ").any(|o| o == *c));
            bail!(
                "public.{table} is not ours: it has {} instead of {}; nothing was changed",
                differs.unwrap_or("its columns in another order"),
                lacks.unwrap_or("others")
            );
        }
    }
    Ok(true)
}

/// Names of the partitions that are there.
async fn partitions(admin: &Admin) -> anyhow::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    let found = admin.rows(PARTITIONS).await.context("looking for partitions")?;
    for FoundPartition { parent, name } in Row::all(&found)? {
        let digits = name.strip_prefix(parent.as_str()).and_then(|rest| rest.strip_prefix('_'));
        let lengths: Option<Vec<usize>> = digits.map(|d| d.split('_').map(str::len).collect());
        let ours = match parent.as_str() {
            "orders" => lengths.as_deref() == Some(&[4, 2]),
            _ => lengths.as_deref() == Some(&[4, 2, 2]),
        };
        ensure!(
            ours,
            "public.{parent} is not partitioned like ours: it has a partition \"{name}\"; nothing was \
             changed"
        );
        names.insert(name);
    }
    Ok(names)
}

struct NewPartition {
    parent: &'static str,
    name: String,
    lower: Date,
    upper: Date,
}

/// Partitions by day of trades and by month of orders, in UTC.
fn wanted(first: Timestamp, now: Timestamp) -> anyhow::Result<Vec<NewPartition>> {
    let date = |at: Timestamp| at.to_zoned(TimeZone::UTC).date();
    let (first, today) = (date(first), date(now));
    let mut partitions = Vec::new();
    let mut lower = first.first_of_month();
    let last = today.first_of_month().checked_add(MONTHS_AHEAD.months())?;
    while lower <= last {
        let upper = lower.checked_add(1.month())?;
        let name = format!("orders_{:04}_{:02}", lower.year(), lower.month());
        partitions.push(NewPartition { parent: "orders", name, lower, upper });
        lower = upper;
    }
    let mut lower = first;
    let last = today.checked_add(DAYS_AHEAD.days())?;
    while lower <= last {
        let upper = lower.tomorrow()?;
        let name = format!("trades_{:04}_{:02}_{:02}", lower.year(), lower.month(), lower.day());
        partitions.push(NewPartition { parent: "trades", name, lower, upper });
        lower = upper;
    }
    Ok(partitions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_meet_from_the_first_day_to_the_runway() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let all = wanted(at("2026-02-27T00:00:00Z"), at("2026-03-01T00:00:01Z")).unwrap();
        let of = |parent: &str| all.iter().filter(|p| p.parent == parent).collect::<Vec<_>>();
        let (orders, trades) = (of("orders"), of("trades"));
        assert_eq!((orders.len(), trades.len()), (5, 32));
        assert_eq!(
            (orders[0].name.as_str(), orders[4].name.as_str()),
            ("orders_2026_02", "orders_2026_06")
        );
        assert_eq!(
            (trades[0].name.as_str(), trades[31].name.as_str()),
            ("trades_2026_02_27", "trades_2026_03_30")
        );
        for table in [orders, trades] {
            assert!(table.windows(2).all(|pair| pair[0].upper == pair[1].lower));
        }
    }
}
