//! Answers whose columns nobody declared: of statements that the user wrote. Each value becomes one of a few kinds, as
//! lib/pq gives it to postgres_exporter.
//!
//! Must not: ask the server about a type.

use std::net::IpAddr;

use tokio_postgres::types::{FromSql, Kind, Type};

use super::row::{Columns, Packed, Row, too_long, wrong};
use crate::error::CollectError;

/// Microseconds from 1970 to 2000, where PostgreSQL's times begin.
const EPOCH: i64 = 946_684_800_000_000;
const DAY: i64 = 86_400_000_000;

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub enum WrittenCell {
    /// NULL.
    Null,
    /// A text that is too long to be read.
    TooLong,
    /// `boolean`.
    Boolean(bool),
    /// `int2`, `int4` and `int8`.
    Integer(i64),
    /// `float4` and `float8`.
    Number(f64),
    /// A time or a day, as Unix seconds; infinite ones are too.
    Time(f64),
    /// `interval`, in milliseconds; a month has 30 days.
    Milliseconds(f64),
    /// Anything else, as the server writes it.
    Text(String),
    /// An array of one dimension.
    List(Vec<WrittenCell>),
    /// Of a type that is not read here.
    Unread,
}

/// What a statement answered.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct WrittenAnswer {
    /// Names of the columns; none if there is no row.
    pub columns: Vec<String>,
    /// The rows, a value a column.
    pub rows: Vec<Vec<WrittenCell>>,
    /// Whether each value was read as text, of whatever type.
    pub as_text: bool,
}

impl WrittenAnswer {
    /// Whether a column is of a type that is not read here.
    pub fn has_unread(&self) -> bool {
        self.rows.iter().flatten().any(|cell| match cell {
            WrittenCell::Unread => true,
            WrittenCell::List(cells) => cells.contains(&WrittenCell::Unread),
            _ => false,
        })
    }

    pub(super) fn of(rows: &[Row]) -> Self {
        let names = |columns: &Columns| columns.iter().map(|(name, _)| name.clone()).collect();
        let cells = |row: &Row| {
            let kinds = row.columns.iter().map(|(_, kind)| kind);
            row.values().zip(kinds).map(|(value, kind)| cell(value, kind)).collect()
        };
        Self {
            columns: rows.first().map(|row| names(&row.columns)).unwrap_or_default(),
            rows: rows.iter().map(cells).collect(),
            as_text: false,
        }
    }

    /// From rows of row number, column and text.
    ///
    /// # Errors
    /// It is not such an answer, or a value is too long.
    pub(super) fn of_texts(rows: &[Row]) -> Result<Self, CollectError> {
        let mut answer = Self { as_text: true, ..Self::default() };
        let mut last = None;
        for row in rows {
            let n: i64 = row.get("n")?;
            let name: String = row.get("key")?;
            if last.replace(n) != Some(n) {
                answer.rows.push(Vec::new());
            }
            let value = match row.values().nth(2) {
                Some(Packed::Value(text)) => {
                    WrittenCell::Text(String::from_utf8_lossy(text).into_owned())
                }
                Some(Packed::Cut) => return Err(wrong(&name, too_long())),
                Some(Packed::Null) | None => WrittenCell::Null,
            };
            if answer.rows.len() == 1 {
                answer.columns.push(name);
            }
            if let Some(row) = answer.rows.last_mut() {
                row.push(value);
            }
        }
        Ok(answer)
    }
}

fn cell(value: Packed<'_>, kind: &Type) -> WrittenCell {
    match value {
        Packed::Null => WrittenCell::Null,
        Packed::Cut => WrittenCell::TooLong,
        Packed::Value(raw) => read(raw, kind).unwrap_or(WrittenCell::Unread),
    }
}

/// `None` where the type is not read, or the bytes make no sense.
fn read(raw: &[u8], kind: &Type) -> Option<WrittenCell> {
    if let Kind::Array(element) = kind.kind() {
        return list(raw, element).map(WrittenCell::List);
    }
    Some(match *kind {
        Type::BOOL => WrittenCell::Boolean(bool::from_sql(kind, raw).ok()?),
        Type::INT2 => WrittenCell::Integer(i16::from_sql(kind, raw).ok()?.into()),
        Type::INT4 => WrittenCell::Integer(i32::from_sql(kind, raw).ok()?.into()),
        Type::INT8 => WrittenCell::Integer(i64::from_sql(kind, raw).ok()?),
        // By its shortest text, or 0.1 would become 0.10000000149.
        Type::FLOAT4 => {
            WrittenCell::Number(f32::from_sql(kind, raw).ok()?.to_string().parse().ok()?)
        }
        Type::FLOAT8 => WrittenCell::Number(f64::from_sql(kind, raw).ok()?),
        Type::NUMERIC => WrittenCell::Text(numeric(raw)?),
        Type::OID | Type::XID | Type::CID => {
            WrittenCell::Text(u32::from_be_bytes(raw.try_into().ok()?).to_string())
        }
        Type::TIMESTAMP | Type::TIMESTAMPTZ => match i64::from_be_bytes(raw.try_into().ok()?) {
            i64::MAX => WrittenCell::Time(f64::INFINITY),
            i64::MIN => WrittenCell::Time(f64::NEG_INFINITY),
            // Whole seconds, as postgres_exporter has them.
            micros => WrittenCell::Time(micros.saturating_add(EPOCH).div_euclid(1_000_000) as f64),
        },
        Type::DATE => match i32::from_be_bytes(raw.try_into().ok()?) {
            i32::MAX => WrittenCell::Time(f64::INFINITY),
            i32::MIN => WrittenCell::Time(f64::NEG_INFINITY),
            days => WrittenCell::Time((i64::from(days) * 86_400 + EPOCH / 1_000_000) as f64),
        },
        Type::INTERVAL => {
            let (micros, rest) = raw.split_first_chunk()?;
            let (days, rest) = rest.split_first_chunk()?;
            let months: [u8; 4] = rest.try_into().ok()?;
            let micros = i64::from_be_bytes(*micros) as f64;
            let days = f64::from(i32::from_be_bytes(*days));
            let months = f64::from(i32::from_be_bytes(months));
            WrittenCell::Milliseconds((micros + (days + months * 30.0) * DAY as f64) / 1_000.0)
        }
        Type::TEXT
        | Type::VARCHAR
        | Type::BPCHAR
        | Type::NAME
        | Type::UNKNOWN
        | Type::JSON
        | Type::XML => WrittenCell::Text(String::from_utf8_lossy(raw).into_owned()),
        Type::BYTEA => WrittenCell::Text(String::from_utf8_lossy(raw).into_owned()),
        Type::JSONB => {
            WrittenCell::Text(String::from_utf8_lossy(raw.strip_prefix(&[1])?).into_owned())
        }
        Type::CHAR => WrittenCell::Text(match raw {
            [0] => String::new(),
            [byte] => String::from_utf8_lossy(&[*byte]).into_owned(),
            _ => return None,
        }),
        Type::UUID => WrittenCell::Text(uuid(raw)?),
        Type::INET | Type::CIDR => WrittenCell::Text(network(raw)?),
        Type::PG_LSN => {
            let lsn = u64::from_be_bytes(raw.try_into().ok()?);
            WrittenCell::Text(format!("{:X}/{:X}", lsn >> 32, lsn & 0xffff_ffff))
        }
        Type::VOID => WrittenCell::Text(String::new()),
        _ => return None,
    })
}

fn uuid(raw: &[u8]) -> Option<String> {
    let raw: [u8; 16] = raw.try_into().ok()?;
    let mut text = String::with_capacity(36);
    for (i, byte) in raw.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    Some(text)
}

/// An address: its family, its bits, whether it is a network, its length, and itself. As the server writes it: of one
/// host without its bits.
fn network(raw: &[u8]) -> Option<String> {
    let [_, bits, is_network, _, address @ ..] = raw else { return None };
    let (address, all) = match address.len() {
        4 => (IpAddr::from(<[u8; 4]>::try_from(address).ok()?), 32),
        16 => (IpAddr::from(<[u8; 16]>::try_from(address).ok()?), 128),
        _ => return None,
    };
    let whole = *bits == all && *is_network == 0;
    Some(if whole { address.to_string() } else { format!("{address}/{bits}") })
}

/// An array of one dimension.
fn list(raw: &[u8], element: &Type) -> Option<Vec<WrittenCell>> {
    let (dimensions, rest) = number(raw)?;
    // Flags, and the type.
    let (_, rest) = number(rest)?;
    let (_, mut rest) = number(rest)?;
    if dimensions == 0 {
        return Some(Vec::new());
    }
    if dimensions != 1 {
        return None;
    }
    let (count, after) = number(rest)?;
    rest = number(after)?.1;
    let mut cells = Vec::new();
    for _ in 0..count {
        let (length, after) = number(rest)?;
        let Ok(length) = usize::try_from(length) else {
            cells.push(WrittenCell::Null);
            rest = after;
            continue;
        };
        let (value, after) = after.split_at_checked(length)?;
        cells.push(read(value, element).unwrap_or(WrittenCell::Unread));
        rest = after;
    }
    Some(cells)
}

fn number(bytes: &[u8]) -> Option<(i32, &[u8])> {
    bytes.split_first_chunk().map(|(four, rest)| (i32::from_be_bytes(*four), rest))
}

/// A `numeric` in decimal: its digits in base 10000, the weight of the first, its sign, and how many decimals to show.
fn numeric(raw: &[u8]) -> Option<String> {
    let mut words = raw.chunks_exact(2).map(|two| u16::from_be_bytes([two[0], two[1]]));
    let (count, weight, sign, scale) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let weight = i32::from(weight.cast_signed());
    let mut text = match sign {
        0x0000 => String::new(),
        0x4000 => "-".to_owned(),
        0xC000 => return Some("NaN".to_owned()),
        0xD000 => return Some("Infinity".to_owned()),
        0xF000 => return Some("-Infinity".to_owned()),
        _ => return None,
    };
    let digits: Vec<u16> = words.by_ref().take(usize::from(count)).collect();
    if digits.len() != usize::from(count) || digits.iter().any(|digit| *digit > 9_999) {
        return None;
    }
    let digit = |place: i32| -> u16 {
        let at = usize::try_from(weight - place).ok();
        at.and_then(|at| digits.get(at)).copied().unwrap_or(0)
    };
    text.push_str(&digit(weight.max(0)).to_string());
    for place in (0..weight.max(0)).rev() {
        text.push_str(&format!("{:04}", digit(place)));
    }
    if scale > 0 {
        let mut decimals = String::new();
        for place in 1..=i32::from(scale).div_euclid(4) + 1 {
            decimals.push_str(&format!("{:04}", digit(-place)));
        }
        decimals.truncate(usize::from(scale));
        text.push('.');
        text.push_str(&decimals);
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn raw(count: u16, weight: i16, sign: u16, scale: u16, digits: &[u16]) -> Vec<u8> {
        let head = [count, weight.cast_unsigned(), sign, scale];
        head.iter().chain(digits).flat_map(|word| word.to_be_bytes()).collect()
    }

    #[test]
    fn numerics_as_the_server_writes_them() {
        for (bytes, text) in [
            (raw(0, 0, 0, 0, &[]), "0"),
            (raw(0, 0, 0, 2, &[]), "0.00"),
            (raw(1, 0, 0, 0, &[42]), "42"),
            (raw(1, 1, 0, 0, &[5]), "50000"),
            (raw(2, 0, 0x4000, 2, &[12, 3400]), "-12.34"),
            (raw(1, -1, 0, 4, &[1]), "0.0001"),
            (raw(1, -2, 0, 6, &[100]), "0.000001"),
            (raw(3, 1, 0, 3, &[1, 2, 3450]), "10002.345"),
            (raw(0, 0, 0xC000, 0, &[]), "NaN"),
        ] {
            assert_eq!(numeric(&bytes).as_deref(), Some(text));
        }
        assert_eq!(numeric(&raw(3, 0, 0, 0, &[1])), None, "cut off");
        assert_eq!(numeric(&raw(1, 0, 7, 0, &[1])), None);
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            for kind in [Type::NUMERIC, Type::INT4_ARRAY, Type::INTERVAL, Type::TIMESTAMPTZ, Type::DATE,
                         Type::TEXT_ARRAY, Type::CHAR, Type::JSONB, Type::NUMERIC_ARRAY] {
                let _ = read(&bytes, &kind);
            }
        }
    }
}
