//! Which partitions are to go, as the server says just now: what the script of `remedy` is made of.
//!
//! Must not: judge ages (the derivation does), or read a row of theirs.

use std::collections::HashMap;
use std::time::Duration;

use jiff::tz::{Offset, TimeZone};

use super::catalogue::Catalogue;
use super::print::instant;
use crate::collectors::partitions::Zone;
use crate::config::duration;
use crate::derive::partition::plan::{Grain, KeyForm, NamedTree, retire};
use crate::pg::{Query, Row, Session, columns};
use crate::remedy::Relation;
use crate::remedy::retire::{Old, Retire};

/// Every zone that writers of this database are set to, by role or database.
const ZONES: &str = "\
SELECT DISTINCT pg_catalog.substr(s.setting, 10) AS zone \
  FROM pg_catalog.pg_db_role_setting r, pg_catalog.unnest(r.setconfig) s(setting) \
 WHERE pg_catalog.lower(s.setting) LIKE 'timezone=%' \
   AND (r.setdatabase = 0 OR r.setdatabase = (SELECT d.oid FROM pg_catalog.pg_database d \
          WHERE d.datname = pg_catalog.current_database()))";

/// The expression that leads a partition key. Deparsing opens the table.
const EXPRESSIONS: &str = "\
SELECT p.partrelid::int8 AS oid, pg_catalog.pg_get_expr(p.partexprs, p.partrelid) AS expression \
  FROM pg_catalog.pg_partitioned_table p \
 WHERE p.partrelid = ANY ($1::pg_catalog.oid[]) AND p.partattrs[0] = 0";

/// What a partition is attached by, and what outside of it needs it.
const FACTS: &str = "\
WITH RECURSIVE tree(top, id) AS ( \
SELECT u.id::pg_catalog.oid, u.id::pg_catalog.oid FROM pg_catalog.unnest($1::int8[]) u(id) \
UNION ALL \
SELECT t.top, i.inhrelid FROM tree t JOIN pg_catalog.pg_inherits i ON i.inhparent = t.id) \
SELECT c.oid::int8 AS oid, pg_catalog.pg_get_expr(c.relpartbound, 0) AS bound, \
       (SELECT pg_catalog.min('the foreign key ' || k.conname || ' of ' || n.nspname || '.' || r.relname \
                              || ' points to ' || CASE WHEN k.conparentid = 0 THEN 'it' ELSE 'the table' END) \
          FROM tree t JOIN pg_catalog.pg_constraint k ON k.confrelid = t.id AND k.contype = 'f' \
          JOIN pg_catalog.pg_class r ON r.oid = k.conrelid \
          JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace \
         WHERE t.top = c.oid AND NOT EXISTS (SELECT FROM tree o WHERE o.top = c.oid AND o.id = k.conrelid)) AS key, \
       (SELECT pg_catalog.min('the view ' || n.nspname || '.' || v.relname || ' reads it') \
          FROM tree t \
          JOIN pg_catalog.pg_depend d ON d.refobjid = t.id \
           AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass \
           AND d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass \
          JOIN pg_catalog.pg_rewrite w ON w.oid = d.objid \
          JOIN pg_catalog.pg_class v ON v.oid = w.ev_class \
          JOIN pg_catalog.pg_namespace n ON n.oid = v.relnamespace \
         WHERE t.top = c.oid AND NOT EXISTS (SELECT FROM tree o WHERE o.top = c.oid AND o.id = v.oid)) AS view \
  FROM pg_catalog.pg_class c \
 WHERE c.oid IN (SELECT t.top FROM tree t) AND c.relispartition";

columns! {
    struct ZoneRow {
        zone: String,
    }
}

columns! {
    struct ExpressionRow {
        oid: i64,
        expression: Option<String>,
    }
}

columns! {
    struct AttachedRow {
        oid: i64,
        bound: String,
        key: Option<String>,
        view: Option<String>,
    }
}

/// In which zones local times may have been written: the configured one alone, or all that the server
/// knows of. One that is not known here may be the last on earth.
async fn zones(session: &Session, configured: Option<&TimeZone>) -> anyhow::Result<Vec<TimeZone>> {
    if let Some(zone) = configured {
        return Ok(vec![zone.clone()]);
    }
    let mut names = vec![session.server().timezone.clone()];
    let rows: Vec<ZoneRow> = Row::all(&session.read(ZONES).await?)?;
    names.extend(rows.into_iter().map(|row| row.zone));
    let mut zones = vec![TimeZone::UTC];
    for name in names {
        zones.push(match Zone::find([name.as_str()]) {
            Zone::Known(zone) => zone,
            Zone::Unknown => TimeZone::fixed(Offset::constant(-12)),
        });
    }
    zones.dedup();
    Ok(zones)
}

/// What the leading expression of a key says of the time of a row, as the server deparses it.
fn form(expression: &str) -> KeyForm {
    let text = unwrapped(expression.trim());
    let exact = |text| if form(text) == KeyForm::Exact { KeyForm::Exact } else { KeyForm::Unknown };
    if identifier(text) {
        return KeyForm::Exact;
    }
    for cast in ["::date", "::timestamp without time zone", "::double precision"] {
        if let Some(inner) = text.strip_suffix(cast) {
            let inner = inner.trim();
            return if inner.ends_with(')') || identifier(inner) {
                form(inner)
            } else {
                KeyForm::Unknown
            };
        }
    }
    if let Some(inner) = call(text, "to_timestamp") {
        return exact(inner);
    }
    if let Some(inside) = call(text, "date_trunc") {
        let parts = inside.strip_prefix('\'').and_then(|rest| rest.split_once("'::text, "));
        let Some((word, inner)) = parts else { return KeyForm::Unknown };
        let grain = Grain::from_word(word).filter(|_| exact(inner) == KeyForm::Exact);
        return grain.map_or(KeyForm::Unknown, KeyForm::Truncated);
    }
    // 13 shows the function that later versions show as AT TIME ZONE.
    let zoned = match call(text, "timezone") {
        Some(inside) => inside.strip_prefix('\'').and_then(|rest| rest.split_once("'::text, ")),
        None => text.rsplit_once(" AT TIME ZONE '").and_then(|(inner, zone)| {
            zone.strip_suffix("'::text").map(|zone| (zone, unwrapped(inner)))
        }),
    };
    match zoned {
        Some((_, inner)) if identifier(inner) => KeyForm::Exact,
        _ => KeyForm::Unknown,
    }
}

/// Whether an expression converts a time between zones, as any version shows it.
fn converts(expression: &str) -> bool {
    expression.contains(" AT TIME ZONE ") || expression.contains("timezone(")
}

/// A column by its name alone.
fn identifier(text: &str) -> bool {
    match text.strip_prefix('"').and_then(|t| t.strip_suffix('"')) {
        Some(quoted) => !quoted.replace("\"\"", "").contains('"') && !quoted.is_empty(),
        None => {
            !text.is_empty()
                && !text.starts_with(|c: char| c.is_ascii_digit())
                && text.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '$')
        }
    }
}

/// Without the parentheses around all of it.
fn unwrapped(text: &str) -> &str {
    let Some(inside) = text.strip_prefix('(').and_then(|t| t.strip_suffix(')')) else {
        return text;
    };
    let mut depth = 0_i32;
    for c in inside.chars() {
        depth += match c {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        if depth < 0 {
            return text;
        }
    }
    unwrapped(inside.trim())
}

/// The arguments of a call that is all of the text.
fn call<'a>(text: &'a str, function: &str) -> Option<&'a str> {
    let rest = text.strip_prefix(function)?;
    let inside = unwrapped(rest);
    (rest.starts_with('(') && inside.len() < rest.len()).then_some(inside)
}

/// What to take off and drop of a table: the partitions whose every row is `age` old or older.
pub(super) async fn plan(
    session: &Session,
    catalogue: &Catalogue,
    tree: NamedTree<'_>,
    configured: Option<&TimeZone>,
    age: Duration,
) -> anyhow::Result<Retire> {
    let zones = zones(session, configured).await?;
    let micros = i128::try_from(age.as_micros()).unwrap_or(i128::MAX / 2);
    let oids: Vec<i64> = catalogue.tables.iter().map(|t| t.oid).collect();
    let rows = session.read(Query::new(EXPRESSIONS).int8_array(&oids)).await?;
    let rows: Vec<ExpressionRow> = Row::all(&rows)?;
    let expressions = rows.into_iter().map(|row| (row.oid, row.expression.unwrap_or_default()));
    let expressions: HashMap<i64, String> = expressions.collect();
    let mut notes = Vec::new();
    let forms: Vec<KeyForm> = tree
        .levels
        .iter()
        .zip(&catalogue.tables)
        .map(|(level, table)| {
            let Some(expression) = expressions.get(&table.oid) else { return KeyForm::Exact };
            // A zone that is not known here decides when its days end.
            let local = level.time_key().is_some_and(|key| key.is_local());
            let form = match local && level.zone.is_none() && converts(expression) {
                true => KeyForm::Unknown,
                false => form(expression),
            };
            if form == KeyForm::Unknown && level.time_key().is_some() {
                notes.push(format!(
                    "The partitions of {} stay: its key is the expression {expression}, and a row may be \
                     younger than the expression says.",
                    table.sql
                ));
            }
            form
        })
        .collect();
    let old = retire(tree, catalogue.now, micros, &zones, &forms);
    let sizes = catalogue.sizes(session, &old).await;
    let found: Vec<_> =
        old.iter().filter_map(|r| Some((r, catalogue.partition(r.level, r.child)?))).collect();
    let ids: Vec<i64> = found.iter().map(|(_, partition)| partition.oid).collect();
    let rows: Vec<AttachedRow> =
        Row::all(&session.read(Query::new(FACTS).int8_array(&ids)).await?)?;
    let facts = rows.into_iter().map(|row| (row.oid, (row.bound, row.key.or(row.view))));
    let mut facts: HashMap<i64, _> = facts.collect();
    let root = catalogue.tables.get(catalogue.root);
    let named =
        |name: &crate::derive::partition::plan::Name| Relation::new(&*name.schema, &*name.table);
    let mut plan = Retire {
        database: session.server().datname.clone(),
        table: root.map_or_else(|| Relation::new("", ""), |t| named(&t.name)),
        oid: root.map_or(0, |t| t.oid),
        owner: root.map_or_else(String::new, |t| t.owner.clone()),
        age: format!(
            "{} old or older, from before {}",
            duration::format(age),
            instant(catalogue.now - micros)
        ),
        partitions: Vec::new(),
        spared: Vec::new(),
        notes,
    };
    for (retirement, partition) in found {
        let Some(parent) = catalogue.tables.get(retirement.level) else { continue };
        let relation = named(&partition.name);
        let (bound, needed) = match facts.remove(&partition.oid) {
            Some(facts) => facts,
            None => {
                plan.spared.push((relation, "it was detached or dropped just now".to_owned()));
                continue;
            }
        };
        if let Some(needed) = needed {
            plan.spared.push((relation, needed));
            continue;
        }
        let children = catalogue.level(retirement.level).map(|l| l.children.as_slice());
        let default = children
            .unwrap_or_default()
            .iter()
            .any(|c| c.bound == Some(crate::derive::partition::Bound::Default));
        plan.partitions.push(Old {
            oid: partition.oid,
            relation,
            parent: named(&parent.name),
            parent_oid: parent.oid,
            bound,
            size: sizes.get(&partition.oid).map_or("size unknown", String::as_str).to_owned(),
            concurrently: session.server().version_num >= 140_000 && !default,
        });
    }
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_known_or_left_alone() {
        use KeyForm::{Exact, Truncated, Unknown};
        for (expression, want) in [
            ("((ts AT TIME ZONE 'Asia/Tokyo'::text))::date", Exact),
            ("(ts AT TIME ZONE 'UTC'::text)", Exact),
            ("(timezone('Asia/Tokyo'::text, ts))::date", Exact),
            ("timezone('UTC'::text, (ts - x))", Unknown),
            ("timezone(zone, ts)", Unknown),
            ("public.timezone('UTC'::text, ts)", Unknown),
            ("(ts)::date", Exact),
            ("\"At\"", Exact),
            ("to_timestamp((seconds)::double precision)", Exact),
            ("date_trunc('day'::text, ts)", Truncated(Grain::Micros(86_400_000_000))),
            (
                "date_trunc('month'::text, (ts AT TIME ZONE 'UTC'::text))",
                Truncated(Grain::Months(1)),
            ),
            ("(date_trunc('week'::text, ts))::date", Truncated(Grain::Week)),
            ("date_trunc('century'::text, ts)", Unknown),
            ("(ts - '30 days'::interval)", Unknown),
            ("((ts - '30 days'::interval))::date", Unknown),
            ("billing_day(ts)", Unknown),
            ("(a)::date, b", Unknown),
            ("((ts - x) AT TIME ZONE 'UTC'::text)", Unknown),
            ("to_timestamp(((ms / 1000))::double precision)", Unknown),
            ("", Unknown),
        ] {
            assert_eq!(form(expression), want, "{expression}");
        }
    }
}
