//! Which zone a partition key by expression fixes: `((created AT TIME ZONE 'UTC')::date)` is no
//! local time of the writer.
//!
//! Must not: understand expressions beyond that; what is not found is local time.

/// OID of `timezone(text, timestamptz)`, which is what `AT TIME ZONE` calls on an instant.
const TIMEZONE: &str = ":funcid 1159 ";
/// `VARHDRSZ`.
const HEADER: usize = 4;

/// The zone that the leading expression converts an instant to, from the text of
/// `pg_partitioned_table.partexprs`; `None` where it does not, or not to a constant.
pub fn fixed_zone(exprs: &str) -> Option<String> {
    let call = first(exprs).split_once(TIMEZONE)?.1;
    let zone = call.split_once(":args (")?.1.strip_prefix("{CONST ")?;
    let bytes = zone.split_once(":constvalue ")?.1.split_once('[')?.1.split_once(']')?.0;
    // Bytes print as signed numbers.
    let bytes: Option<Vec<u8>> = bytes
        .split_ascii_whitespace()
        .map(|b| b.parse::<i8>().map(|b| b.to_ne_bytes()[0]).or_else(|_| b.parse()).ok())
        .collect();
    String::from_utf8(bytes?.get(HEADER..)?.to_vec()).ok()
}

/// The first node of a list.
fn first(exprs: &str) -> &str {
    let mut depth = 0_usize;
    for (at, c) in exprs.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth <= 1 => return exprs.get(..=at).unwrap_or(exprs),
            '}' => depth -= 1,
            _ => {}
        }
    }
    exprs
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UTC: &str = "({FUNCEXPR :funcid 1159 :funcresulttype 1114 :args ({CONST :consttype 25 \
        :constlen -1 :constvalue 7 [ 28 0 0 0 85 84 67 ]} {VAR :varno 1}) :location 60})";

    #[test]
    fn finds_the_constant_zone_of_the_leading_expression() {
        assert_eq!(fixed_zone(UTC).as_deref(), Some("UTC"));
        let second = format!("({{FUNCEXPR :funcid 2020 :args ({{VAR}})}} {})", &UTC[1..]);
        assert_eq!(fixed_zone(&second), None);
        assert_eq!(fixed_zone(&UTC.replace("{CONST", "{VAR")), None, "a column holds the zone");
        assert_eq!(fixed_zone(&UTC.replace("28 0 0 0 85 84 67", "28 0")), None);
    }

    proptest! {
        #[test]
        fn never_panics(text in "[{}()\\[\\] 0-9é-]{0,30}", cut in 0..UTC.len()) {
            let _ = (fixed_zone(&text), fixed_zone(&UTC[..cut]), fixed_zone(&UTC[cut..]));
        }
    }
}
