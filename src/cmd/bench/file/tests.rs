//! What a file may hold, and what each mistake in it is answered with.
//!
//! Must not: need a server.

use super::*;
use proptest::prelude::*;

const GOOD: &str = "\
-- Queries of the shop. Usage: pgrunway bench this_file
-- name: recent
-- target: 10ms
-- params: ['BTC/USDT', 'it''s, [odd]'], 1..400
-- params: (SELECT a, f('(') FROM t WHERE x IN (1, 2)), null, -0.25..2.5, 'x', 42
-- An ordinary comment.

SELECT *  -- note: a comment in the SQL
FROM t WHERE a = $1;

-- name: write
-- transaction: read write
-- timeout: 2s
INSERT INTO t VALUES (1);
";

#[test]
fn a_whole_file() {
    let queries = parse("q.sql", GOOD).unwrap();
    let text = |t: &str| Some(t.to_owned());
    assert_eq!(
        queries[0],
        FileQuery {
            name: "recent".into(),
            line: 2,
            sql_line: 8,
            sql: "SELECT *  -- note: a comment in the SQL\nFROM t WHERE a = $1".into(),
            target: Some(Duration::from_millis(10)),
            sources: vec![
                ParamSource::List(vec![text("BTC/USDT"), text("it's, [odd]")]),
                ParamSource::Integers(1, 400),
                ParamSource::Sql("SELECT a, f('(') FROM t WHERE x IN (1, 2)".into()),
                ParamSource::Literal(None),
                ParamSource::Decimals { from: -0.25, to: 2.5, places: 2 },
                ParamSource::Literal(text("x")),
                ParamSource::Literal(text("42")),
            ],
            params_line: Some(4),
            read_write: false,
            timeout: None,
        }
    );
    assert_eq!((queries[1].name.as_str(), queries[1].read_write), ("write", true));
    assert_eq!(queries[1].timeout, Some(Duration::from_secs(2)));
    assert_eq!((queries[1].sql.as_str(), queries.len()), ("INSERT INTO t VALUES (1)", 2));
}

#[test]
fn each_mistake_names_its_line_and_the_remedy() {
    for (text, line, words) in [
        ("", 1, ["no query", "-- name:"]),
        ("-- just a comment\n", 1, ["no query", "-- name:"]),
        ("\nSELECT 1", 2, ["without a name", "-- name:"]),
        ("-- nme: a\nSELECT 1", 1, ["`nme`", "`name`"]),
        ("-- target: 1ms\n-- name: a\nSELECT 1", 1, ["belongs to no query", "after"]),
        ("-- name: a\n-- taget: 1ms\nSELECT 1", 2, ["`taget`", "`target`"]),
        ("-- name: a\n-- whatever: 1ms\nSELECT 1", 2, ["`whatever`", "name, target, params"]),
        ("-- name: a\n-- target: 10\nSELECT 1", 2, ["without a unit", "10ms"]),
        ("-- name: a\n-- target: 0\nSELECT 1", 2, ["target of 0", "10ms"]),
        ("-- name: a\n-- transaction: serial\nSELECT 1", 2, ["read only", "one of the two"]),
        ("-- name: a\nSELECT 1\n-- target: 1ms", 3, ["after the beginning", "between"]),
        ("-- name: a b\nSELECT 1", 1, ["1 to 64", "recent_trades"]),
        ("-- name:\nSELECT 1", 1, ["1 to 64", "recent_trades"]),
        ("-- name: a\nSELECT 1\n-- name: a\nSELECT 2", 3, ["taken on line 1", "its own"]),
        ("-- name: a\n\n-- name: b\nSELECT 2", 1, ["a has no SQL", "below"]),
        ("-- name: a\n;\n", 1, ["a has no SQL", "below"]),
        ("-- name: a\n-- params:\nSELECT 1", 2, ["value is missing", "literal"]),
        ("-- name: a\n-- params: 'x\nSELECT 1", 2, ["closing quote", "literal"]),
        ("-- name: a\n-- params: [1, 2\nSELECT 1", 2, ["`,` or `]`", "list"]),
        ("-- name: a\n-- params: (SELECT 1\nSELECT 1", 2, ["closing parenthesis", "query"]),
        ("-- name: a\n-- params: ()\nSELECT 1", 2, ["is empty", "query"]),
        ("-- name: a\n-- params: 5..1\nSELECT 1", 2, ["5..1 is empty", "range"]),
        ("-- name: a\n-- params: a..b\nSELECT 1", 2, ["no range", "range"]),
        ("-- name: a\n-- params: 1,,2\nSELECT 1", 2, ["missing before `,2`", "commas"]),
        ("-- name: a\n-- params: BTC USDT\nSELECT 1", 2, ["needs quotes", "literal"]),
        ("-- name: a\n-- params: 'x' 'y'\nSELECT 1", 2, ["`,` is missing", "commas"]),
    ] {
        let e = parse("q.sql", text).unwrap_err().to_string();
        assert!(e.starts_with(&format!("q.sql:{line}: ")), "{text:?}: {e}");
        for word in words {
            assert!(e.contains(word), "{text:?}: {word:?} is not in: {e}");
        }
    }
}

proptest! {
    #[test]
    fn never_panics(text in "(-- ?(name|target|params|x): ?[a-z0-9'\\[\\](),. ]{0,12}\n|[ -~]{0,20}\n){0,8}") {
        let _ = parse("q.sql", &text);
    }

    #[test]
    fn quoted_texts_come_back(values in prop::collection::vec("[ -~é]{0,10}", 1..5)) {
        let quoted: Vec<String> =
            values.iter().map(|v| format!("'{}'", v.replace('\'', "''"))).collect();
        let text = format!("-- name: a\n-- params: [{}]\nSELECT $1", quoted.join(", "));
        let want = values.into_iter().map(Some).collect();
        prop_assert_eq!(&parse("q.sql", &text).unwrap()[0].sources, &vec![ParamSource::List(want)]);
    }
}
