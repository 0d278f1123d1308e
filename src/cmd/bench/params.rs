//! Values of parameters: fetched or checked once, then drawn.
//!
//! Must not: draw from anything but the generator that it is given.

use super::document::Failure;
use super::file::{FileQuery, ParamSource};
use crate::derive::sample::Random;
use crate::error::StatementError;
use crate::pg::{Bench, BenchStatement};

/// More values than this are not kept of a query for values.
pub const MOST_VALUES: usize = 100_000;

/// The values of one or, from SQL, of several parameters.
#[derive(Debug, Clone, PartialEq)]
enum ParamValues {
    /// One row is drawn of these.
    Rows(Vec<Vec<Option<String>>>),
    Integers(i64, i64),
    Decimals {
        from: f64,
        to: f64,
        places: usize,
    },
}

/// The values of all parameters of a query.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Pools(Vec<ParamValues>);

impl Pools {
    /// Draws a value for each parameter.
    pub fn draw(&self, random: &mut Random) -> Vec<Option<String>> {
        let mut values = Vec::new();
        for pool in &self.0 {
            match pool {
                ParamValues::Rows(rows) => {
                    values
                        .extend(rows.get(random.index(rows.len())).into_iter().flatten().cloned());
                }
                ParamValues::Integers(from, to) => {
                    // All of i64 has one value more than a u64 can count; nobody draws from that.
                    let span = to.abs_diff(*from).saturating_add(1);
                    let value = from.wrapping_add_unsigned(random.below(span));
                    values.push(Some(value.to_string()));
                }
                ParamValues::Decimals { from, to, places } => {
                    let value = from + random.uniform() * (to - from);
                    values.push(Some(format!("{value:.places$}")));
                }
            }
        }
        values
    }
}

/// Where in the file an error of the server is: it counts characters of the SQL.
pub fn place(path: &str, query: &FileQuery, e: &StatementError) -> String {
    let StatementError::Refused { position: Some(position), .. } = e else {
        return format!("{path}:{}", query.sql_line);
    };
    let before = usize::try_from(*position).unwrap_or(1).saturating_sub(1);
    let text: String = query.sql.chars().take(before).collect();
    let line = query.sql_line + text.matches('\n').count();
    let column = text.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
    format!("{path}:{line}:{column}")
}

/// An error of the server at a place of the file.
pub fn failure(place: String, e: &StatementError, prefix: &str) -> Failure {
    match e {
        StatementError::Refused { sqlstate, message, detail, hint, .. } => Failure {
            place,
            message: format!("{prefix}{message}"),
            detail: detail.clone(),
            hint: hint.clone(),
            sqlstate: Some(sqlstate.clone()),
        },
        other => Failure {
            place,
            message: format!("{prefix}{other}"),
            detail: None,
            hint: None,
            sqlstate: None,
        },
    }
}

fn fault(path: &str, query: &FileQuery, message: String, hint: &str) -> Failure {
    let line = query.params_line.unwrap_or(query.line);
    Failure {
        place: format!("{path}:{line}"),
        message,
        detail: None,
        hint: Some(hint.to_owned()),
        sqlstate: None,
    }
}

/// Prepares the query for its parameters' types, and makes sure that there are values for all.
///
/// # Errors
/// The server refuses the query or a value; too few or too many values; a query for values fails or
/// has no row.
pub async fn resolve(session: &Bench, path: &str, query: &FileQuery) -> Result<Pools, Failure> {
    let statement =
        session.prepare(&query.sql).await.map_err(|e| failure(place(path, query, &e), &e, ""))?;
    let types = statement.parameters();
    let mut pools = Vec::new();
    let mut given = 0;
    for source in &query.sources {
        let (pool, width) = match source {
            ParamSource::Literal(value) => (ParamValues::Rows(vec![vec![value.clone()]]), 1),
            ParamSource::List(values) => {
                (ParamValues::Rows(values.iter().map(|v| vec![v.clone()]).collect()), 1)
            }
            ParamSource::Integers(from, to) => (ParamValues::Integers(*from, *to), 1),
            ParamSource::Decimals { from, to, places } => {
                (ParamValues::Decimals { from: *from, to: *to, places: *places }, 1)
            }
            ParamSource::Sql(sql) => rows(session, path, query, sql).await?,
        };
        check(session, path, query, &statement, given, &pool).await?;
        given += width;
        pools.push(pool);
    }
    if given != types.len() {
        let named: Vec<String> =
            types.iter().enumerate().map(|(i, t)| format!("${} {t}", i + 1)).collect();
        let wants = match types.len() {
            0 => "takes no parameters".to_owned(),
            n => format!("takes {n} ({})", named.join(", ")),
        };
        return Err(fault(
            path,
            query,
            format!("{} {wants}, and {given} are given", query.name),
            "`-- params:` must have a value for each, with commas in between; a query for values gives \
             as many as it has columns",
        ));
    }
    Ok(Pools(pools))
}

async fn rows(
    session: &Bench,
    path: &str,
    query: &FileQuery,
    sql: &str,
) -> Result<(ParamValues, usize), Failure> {
    let limited = format!("SELECT * FROM (\n{sql}\n) AS pgrunway_values LIMIT {MOST_VALUES}");
    let rows = session.text(&limited).await.map_err(|e| {
        let line = query.params_line.unwrap_or(query.line);
        failure(format!("{path}:{line}"), &e, "the query for values: ")
    })?;
    match rows.first().map(Vec::len) {
        None => Err(fault(
            path,
            query,
            "the query for values gives no row".to_owned(),
            "fill the table, or choose from another",
        )),
        Some(0) => Err(fault(
            path,
            query,
            "the query for values has no column".to_owned(),
            "name the column to take values from",
        )),
        Some(width) => Ok((ParamValues::Rows(rows), width)),
    }
}

/// Offers the server what can be written wrongly by hand: every value of a list, both ends of a
/// range, one row of a query.
async fn check(
    session: &Bench,
    path: &str,
    query: &FileQuery,
    statement: &BenchStatement,
    first: usize,
    pool: &ParamValues,
) -> Result<(), Failure> {
    let ends: Vec<Vec<Option<String>>> = match pool {
        ParamValues::Rows(rows) if rows.first().is_some_and(|r| r.len() > 1) => {
            rows.first().cloned().into_iter().collect()
        }
        ParamValues::Rows(rows) => rows.iter().take(100).cloned().collect(),
        ParamValues::Integers(from, to) => {
            vec![vec![Some(from.to_string())], vec![Some(to.to_string())]]
        }
        ParamValues::Decimals { from, to, places } => {
            [from, to].map(|end| vec![Some(format!("{end:.places$}"))]).to_vec()
        }
    };
    for row in ends {
        for (offset, value) in row.iter().enumerate() {
            let index = first + offset;
            let accepted = session.accepts(statement, index, value.as_deref()).await;
            accepted.map_err(|e| {
                let line = query.params_line.unwrap_or(query.line);
                failure(format!("{path}:{line}"), &e, &format!("a value for ${}: ", index + 1))
            })?;
        }
    }
    Ok(())
}

/// A value as SQL, whatever `standard_conforming_strings` says.
pub fn literal(value: Option<&str>) -> String {
    match value {
        None => "NULL".to_owned(),
        Some(text) if text.contains('\\') => {
            format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
        }
        Some(text) => format!("'{}'", text.replace('\'', "''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_repeatable_and_within_bounds() {
        let row = |texts: &[&str]| texts.iter().map(|t| Some((*t).to_owned())).collect::<Vec<_>>();
        let pools = Pools(vec![
            ParamValues::Rows(vec![row(&["a", "b"]), row(&["c", "d"])]),
            ParamValues::Integers(-2, 2),
            ParamValues::Decimals { from: 0.5, to: 1.0, places: 2 },
            ParamValues::Rows(vec![vec![None]]),
        ]);
        let draw = |seed| {
            let mut random = Random::new(&[seed]);
            (0..200).map(|_| pools.draw(&mut random)).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        let mut seen = std::collections::BTreeSet::new();
        for values in draw(1) {
            let pair = (values[0].clone().unwrap(), values[1].clone().unwrap());
            assert!(["ab", "cd"].contains(&format!("{}{}", pair.0, pair.1).as_str()), "{pair:?}");
            seen.insert(values[2].clone().unwrap());
            let decimal = values[3].clone().unwrap();
            assert!((0.5..=1.0).contains(&decimal.parse::<f64>().unwrap()) && decimal.len() == 4);
            assert_eq!((values.len(), &values[4]), (5, &None));
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["-1", "-2", "0", "1", "2"]);
    }

    #[test]
    fn literals_cannot_be_left() {
        assert_eq!(literal(None), "NULL");
        assert_eq!(literal(Some("it's")), "'it''s'");
        assert_eq!(literal(Some("\\'; DROP")), "E'\\\\''; DROP'");
    }

    #[test]
    fn a_position_is_found_in_the_file() {
        let text = "-- name: a\n-- target: 1ms\nSELECT é,\n  nosuch FROM t";
        let query = &crate::cmd::bench::file::parse("q.sql", text).unwrap()[0];
        let at = |position| {
            let (sqlstate, message) = (String::new(), String::new());
            let e =
                StatementError::Refused { sqlstate, message, detail: None, hint: None, position };
            place("q.sql", query, &e)
        };
        // Characters, not bytes: SELECT é,\n are ten.
        assert_eq!(at(Some(13)), "q.sql:4:3");
        assert_eq!(at(Some(1)), "q.sql:3:1");
        assert_eq!(at(None), "q.sql:3");
    }
}
