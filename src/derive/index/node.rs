//! The text of node trees (`pg_node_tree`), as far as it takes to tell whether two expressions are
//! equal. PostgreSQL's own deparser opens the table, which may be locked; the text does not.
//!
//! Must not: say that two trees are equal where PostgreSQL's `equal()` says they are not.

/// Fields that PostgreSQL's `equal()` does not look at: where an expression stood in its statement, how
/// a call was written, and the function that an operator is known to have. Their values are numbers.
const IGNORED: &[&str] = &[
    ":location ",
    ":funcformat ",
    ":relabelformat ",
    ":coerceformat ",
    ":convertformat ",
    ":row_format ",
    ":opfuncid ",
    ":varnosyn ",
    ":varattnosyn ",
];

/// The tree without the fields that say nothing of its meaning.
pub(super) fn normalise(tree: &str) -> String {
    let mut out = String::with_capacity(tree.len());
    let mut rest = tree;
    while let Some(at) = rest.find(':') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        // A field follows a space; within a string a space is written `\ `.
        let begins = before.ends_with(' ') && !before.ends_with("\\ ");
        match IGNORED.iter().find(|field| begins && from.starts_with(**field)) {
            Some(field) => {
                let value = &from[field.len()..];
                rest = value.trim_start_matches(|c: char| c == '-' || c.is_ascii_digit());
            }
            None => {
                out.push(':');
                rest = &from[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

/// The elements of a list of nodes `({...} {...})`, each normalised; `None` where it is something else.
pub fn split(list: &str) -> Option<Vec<String>> {
    Some(elements(list)?.into_iter().map(normalise).collect())
}

fn elements(list: &str) -> Option<Vec<&str>> {
    let inside = list.trim().strip_prefix('(')?.strip_suffix(')')?;
    let (mut found, mut depth, mut start, mut escaped) = (Vec::new(), 0_usize, 0, false);
    for (at, byte) in inside.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'{' => {
                if depth == 0 {
                    start = at;
                }
                depth += 1;
            }
            b'}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    found.push(inside.get(start..=at)?);
                }
            }
            _ => {}
        }
    }
    (depth == 0).then_some(found)
}

/// The columns of a predicate that says `a IS NOT NULL [AND b IS NOT NULL ...]` and nothing else.
pub(super) fn not_null_columns(tree: &str) -> Option<Vec<i16>> {
    let tree = tree.trim();
    if let Some(all) = tree.strip_prefix("{BOOLEXPR :boolop and :args ") {
        let end = all.rfind(')')?;
        let mut columns = Vec::new();
        for element in elements(all.get(..=end)?)? {
            columns.extend(not_null_columns(element)?);
        }
        return Some(columns);
    }
    let var = tree.strip_prefix("{NULLTEST :arg {VAR ")?;
    let (var, test) = var.split_once('}')?;
    // IS_NULL is 0, IS_NOT_NULL is 1.
    if number(test, ":nulltesttype ")? != 1 || number(var, ":varlevelsup ")? != 0 {
        return None;
    }
    Some(vec![number(var, ":varattno ")?])
}

fn number(fields: &str, field: &str) -> Option<i16> {
    let (_, value) = fields.split_once(field)?;
    value.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LOWER: &str = "({FUNCEXPR :funcid 870 :funcresulttype 25 :funcretset false \
        :funcvariadic false :funcformat 0 :funccollid 100 :inputcollid 100 :args ({VAR :varno 1 \
        :varattno 2 :vartype 25 :vartypmod -1 :varcollid 100 :varlevelsup 0 :varnosyn 1 \
        :varattnosyn 2 :location 31}) :location 25} {VAR :varno 1 :varattno 1 :location 7})";
    const NOT_NULL: &str = "{NULLTEST :arg {VAR :varno 1 :varattno 3 :vartype 20 :vartypmod -1 \
        :varcollid 0 :varlevelsup 0 :varnosyn 1 :varattnosyn 3 :location 44} :nulltesttype 1 \
        :argisrow false :location 46}";

    #[test]
    fn places_and_spellings_do_not_count() {
        let other =
            LOWER.replace(":location 31", ":location -1").replace(":funcformat 0", ":funcformat 1");
        assert_ne!(LOWER, other);
        assert_eq!(split(LOWER), split(&other));
        assert_ne!(split(LOWER), split(&LOWER.replace(":varattno 2", ":varattno 3")));
        assert_eq!(split(LOWER).map(|e| e.len()), Some(2));
        assert!(!normalise(LOWER).contains("location"));
        assert_eq!(split("<>"), None);
        assert_eq!(split("({A :b \\})"), None, "an escaped brace closes nothing");
    }

    #[test]
    fn a_predicate_of_not_nulls_gives_its_columns() {
        assert_eq!(not_null_columns(NOT_NULL), Some(vec![3]));
        let both = format!(
            "{{BOOLEXPR :boolop and :args ({NOT_NULL} {}) :location 50}}",
            NOT_NULL.replace(":varattno 3", ":varattno 5")
        );
        assert_eq!(not_null_columns(&both), Some(vec![3, 5]));
        assert_eq!(not_null_columns(&both.replace("boolop and", "boolop or")), None);
        assert_eq!(not_null_columns(&NOT_NULL.replace(":nulltesttype 1", ":nulltesttype 0")), None);
        assert_eq!(not_null_columns(LOWER), None);
        let more = both.replace(&format!("{NOT_NULL} "), "{OPEXPR :opno 96 :args <>} ");
        assert_eq!(not_null_columns(&more), None);
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "[(){}\\\\: a-z0-9:location-]{0,60}") {
            split(&text);
            not_null_columns(&text);
            prop_assert!(normalise(&text).len() <= text.len());
        }
    }
}
