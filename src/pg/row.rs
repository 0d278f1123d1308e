//! Typed access to a result row: a NULL where none is allowed, a missing column or a wrong type
//! becomes an error that names the column.
//!
//! Must not: send anything or know what a column means.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio_postgres::types::{FromSql, Kind, Type, WrongType};

use super::redact::Veil;
use crate::error::CollectError;

/// A name from a shared catalog, sent as bytes by `pg_catalog.textsend(name::text)`: the server keeps
/// it in the encoding of the database where it was created, and does not convert it. What is not
/// UTF-8 becomes U+FFFD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lossy(pub String);

impl<'a> FromSql<'a> for Lossy {
    fn from_sql(
        kind: &Type,
        raw: &'a [u8],
    ) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        let bytes = <&[u8]>::from_sql(kind, raw)?;
        Ok(Self(String::from_utf8_lossy(bytes).into_owned()))
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::BYTEA
    }
}

/// The bytes of a value, whatever its type.
struct Raw<'a>(Option<&'a [u8]>);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(Some(raw)))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(None))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// Names and types of an answer's columns.
pub(super) type Columns = Arc<[(String, Type)]>;

/// One row of an answer, packed. The driver's own would cost several times as much: it keeps what it read from the
/// socket, and 24 bytes for each value.
#[derive(Debug)]
pub struct Row {
    pub(super) columns: Columns,
    /// Each value after its length: in one byte below [`LONG`], else in four that follow that mark.
    data: Box<[u8]>,
}

/// Marks in place of a length: four bytes of it follow; there is no value; it is a text that is too long to be read.
const LONG: u8 = 0xfd;
const NULL: u8 = 0xfe;
const CUT: u8 = 0xff;
const WIDTH: usize = size_of::<u32>();
/// What a row costs beside its values: itself, and the allocator's share.
const OVERHEAD: u64 = 80;

/// Most bytes of a text that are read. A catalog's page holds half a megabyte of it, and a row 12, if it compresses
/// well. SQL cuts what a user can make longer by `cut!`, so that not all of it is sent.
pub const LONGEST_TEXT: usize = 16_384;

/// In SQL: the text of an expression, up to one character more than is read of it.
macro_rules! cut {
    ($text:literal) => {
        concat!("pg_catalog.left(", $text, ", 16385)")
    };
}
pub(crate) use cut;

/// Bytes that the rows of one answer, or of several that come together, may still take.
pub(super) struct Budget {
    limit: u64,
    taken: AtomicU64,
}

impl Budget {
    pub(super) fn new(limit: u64) -> Self {
        Self { limit, taken: AtomicU64::new(0) }
    }

    /// Whether so much more may be taken.
    pub(super) fn take(&self, bytes: u64) -> bool {
        self.taken.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) <= self.limit
    }

    /// What is said of an answer that does not fit.
    pub(super) fn spent(&self) -> CollectError {
        too_large(format!("the answer has more than {} bytes", self.limit), false)
    }
}

/// An answer that is larger than the settings allow; if it is `fatal`, the session is given up.
pub(super) fn too_large(what: String, fatal: bool) -> CollectError {
    CollectError::Limit {
        what,
        remedy: "raise answer_limit if the server is known to be that large".to_owned(),
        fatal,
    }
}

/// The type of a column that is unknown, since it rests on what the server does not have: every value is NULL. No
/// server sends it.
pub(super) const UNKNOWN: Type = Type::UNKNOWN;

/// What is read of a column that is unknown, if anything fits it.
///
/// # Errors
/// [`IsUnknown`]: neither NULL nor NaN does.
pub(super) fn unknown<'a, T: FromSql<'a>>() -> Result<T, crate::error::Source> {
    match T::from_sql_null(&UNKNOWN) {
        Ok(value) => Ok(value),
        Err(_) if T::accepts(&Type::FLOAT8) => T::from_sql(&Type::FLOAT8, &NAN),
        Err(_) => Err(IsUnknown.into()),
    }
}

const NAN: [u8; 8] = f64::NAN.to_be_bytes();

/// Why a value is not there: the server does not have what it rests on.
#[derive(Debug, thiserror::Error)]
#[error("the server does not have what it is made of")]
pub(super) struct IsUnknown;

/// Makes rows of the driver's.
pub(super) struct RowsOf<'v> {
    veil: &'v Veil,
    longest: usize,
    unknown: Option<&'v BTreeSet<String>>,
    columns: Option<Columns>,
    rows: Vec<Row>,
    too_long: TooLong,
}

/// Texts that were too long to be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TooLong {
    /// How many.
    pub count: u64,
    /// Which the first was: its column, and the first number of its row, which is an OID in most.
    pub first: String,
}

impl TooLong {
    pub(super) fn add(&mut self, other: Self) {
        if self.count == 0 {
            self.first = other.first;
        }
        self.count += other.count;
    }
}

impl<'v> RowsOf<'v> {
    /// Texts of more than `longest` bytes are left out.
    pub(super) fn new(veil: &'v Veil, longest: usize) -> Self {
        let too_long = TooLong::default();
        Self { veil, longest, unknown: None, columns: None, rows: Vec::new(), too_long }
    }

    /// Leaves out what stands in these columns.
    pub(super) fn without(mut self, unknown: Option<&'v BTreeSet<String>>) -> Self {
        self.unknown = unknown;
        self
    }

    /// Adds a row. False if it does not fit: then nothing is kept, and nothing more is.
    pub(super) fn push(
        &mut self,
        row: &tokio_postgres::Row,
        budget: &Budget,
    ) -> Result<bool, tokio_postgres::Error> {
        let columns = self.columns.get_or_insert_with(|| {
            let kind = |name: &str, kind: &Type| match self
                .unknown
                .is_some_and(|unknown| unknown.contains(name))
            {
                true => UNKNOWN,
                false => kind.clone(),
            };
            row.columns().iter().map(|c| (c.name().to_owned(), kind(c.name(), c.type_()))).collect()
        });
        let mut data = Vec::with_capacity(row.raw_size_bytes());
        let (mut number, mut cut) = (None, 0);
        for (i, (name, kind)) in columns.iter().enumerate() {
            let Raw(value) = row.try_get(i)?;
            match value.filter(|_| *kind != UNKNOWN) {
                None => data.push(NULL),
                Some(text) if text.len() > self.longest && is_text(kind) => {
                    let of = number.map(|n: i64| format!(" of {n}")).unwrap_or_default();
                    self.too_long.add(TooLong { count: 1, first: format!("{name}{of}") });
                    cut += text.len() as u64;
                    data.push(CUT);
                }
                Some(value) => pack(&mut data, &readable(kind, value, self.veil)),
            }
            if *kind == Type::INT8 && number.is_none() {
                number = row.try_get(i)?;
            }
        }
        if !budget.take(data.len() as u64 + OVERHEAD + cut) {
            self.rows = Vec::new();
            return Ok(false);
        }
        self.rows.push(Row { columns: columns.clone(), data: data.into_boxed_slice() });
        Ok(true)
    }

    pub(super) fn finish(self) -> (Vec<Row>, TooLong) {
        (self.rows, self.too_long)
    }
}

/// The bytes of a text, or of an array of texts, such that they are UTF-8 and without the password. A database with
/// encoding SQL_ASCII, and a shared catalog of any, hold names in other encodings.
fn readable<'a>(kind: &Type, value: &'a [u8], veil: &Veil) -> Cow<'a, [u8]> {
    match kind.kind() {
        Kind::Simple if is_text(kind) => readable_text(value, veil),
        Kind::Array(element) if is_text(element) => {
            readable_array(value, veil).map_or(Cow::Borrowed(value), Cow::Owned)
        }
        _ => Cow::Borrowed(value),
    }
}

fn is_text(kind: &Type) -> bool {
    let texts = [Type::TEXT, Type::VARCHAR, Type::BPCHAR, Type::NAME, Type::JSON];
    texts.contains(kind)
}

fn readable_text<'a>(value: &'a [u8], veil: &Veil) -> Cow<'a, [u8]> {
    let text = String::from_utf8_lossy(value);
    match (veil.value(&text), text) {
        (Some(veiled), _) => Cow::Owned(veiled.into_bytes()),
        (None, Cow::Owned(text)) => Cow::Owned(text.into_bytes()),
        (None, Cow::Borrowed(_)) => Cow::Borrowed(value),
    }
}

/// An array as the server sends it: number of dimensions, flags, type, of each dimension its size and lower bound,
/// and then the elements, each after its length (-1 for NULL). `None` where it can stay as it is, also where it
/// makes no sense: whoever decodes it says so.
fn readable_array(value: &[u8], veil: &Veil) -> Option<Vec<u8>> {
    let dimensions = usize::try_from(number(value)?).ok()?;
    let start = dimensions.checked_mul(8)?.checked_add(12)?;
    let mut out = value.get(..start)?.to_vec();
    let (mut rest, mut changed) = (value.get(start..)?, false);
    while !rest.is_empty() {
        let length = number(rest)?;
        let (head, after) = rest.split_at(WIDTH);
        let Ok(length) = usize::try_from(length) else {
            out.extend_from_slice(head);
            rest = after;
            continue;
        };
        let element = after.get(..length)?;
        let text = readable_text(element, veil);
        changed |= matches!(text, Cow::Owned(_));
        out.extend_from_slice(&i32::try_from(text.len()).ok()?.to_be_bytes());
        out.extend_from_slice(&text);
        rest = &after[length..];
    }
    changed.then_some(out)
}

fn number(bytes: &[u8]) -> Option<i32> {
    bytes.first_chunk().map(|four| i32::from_be_bytes(*four))
}

impl Row {
    /// The value of a column by name, of an answer that is small: the name is looked up each time, where
    /// [`Row::all`] does it once. Use `Option<T>` where NULL is possible.
    ///
    /// # Errors
    /// There is no such column, or it is of another type or NULL.
    pub fn get<'a, T: FromSql<'a>>(&'a self, column: &str) -> Result<T, CollectError> {
        let Some(index) = self.columns.iter().position(|(name, _)| name == column) else {
            return Err(wrong(column, "there is no such column".into()));
        };
        let kind = &self.columns[index].1;
        if *kind == UNKNOWN {
            return unknown().map_err(|e| wrong(column, e));
        }
        if !T::accepts(kind) {
            return Err(wrong(column, WrongType::new::<T>(kind.clone()).into()));
        }
        let value = match self.values().nth(index) {
            Some(Packed::Value(value)) => T::from_sql(kind, value),
            Some(Packed::Cut) => Err(too_long()),
            Some(Packed::Null) | None => T::from_sql_null(kind),
        };
        value.map_err(|e| wrong(column, e))
    }

    /// Every value, in the order of the columns.
    pub(super) fn values(&self) -> impl Iterator<Item = Packed<'_>> {
        let mut rest = &*self.data;
        std::iter::from_fn(move || {
            let (value, after) = unpack(rest)?;
            rest = after;
            Some(value)
        })
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Packed<'a> {
    Value(&'a [u8]),
    Null,
    Cut,
}

fn pack(data: &mut Vec<u8>, value: &[u8]) {
    match u8::try_from(value.len()) {
        Ok(length) if length < LONG => data.push(length),
        _ => {
            data.push(LONG);
            // A message is shorter than 4 GiB.
            data.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_ne_bytes());
        }
    }
    data.extend_from_slice(value);
}

/// The first value, and what follows it.
fn unpack(data: &[u8]) -> Option<(Packed<'_>, &[u8])> {
    let (mark, rest) = data.split_first()?;
    let (length, rest) = match *mark {
        NULL => return Some((Packed::Null, rest)),
        CUT => return Some((Packed::Cut, rest)),
        LONG => {
            let (length, rest) = rest.split_first_chunk()?;
            (usize::try_from(u32::from_ne_bytes(*length)).ok()?, rest)
        }
        length => (usize::from(length), rest),
    };
    let (value, rest) = rest.split_at_checked(length)?;
    Some((Packed::Value(value), rest))
}

/// Of a text that was left out.
pub(super) fn too_long() -> crate::error::Source {
    format!("it is longer than {LONGEST_TEXT} bytes").into()
}

pub(super) fn wrong(column: &str, source: crate::error::Source) -> CollectError {
    CollectError::Decode { column: column.to_owned(), source }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A value of an answer: NULL, too long, or its bytes.
    pub(crate) type Cell = Option<Option<Vec<u8>>>;

    pub(crate) fn int8(value: i64) -> Cell {
        Some(Some(value.to_be_bytes().to_vec()))
    }

    pub(crate) fn text(value: &str) -> Cell {
        Some(Some(value.as_bytes().to_vec()))
    }

    /// The rows of an answer.
    pub(crate) fn answer<const N: usize>(
        columns: &[(&str, Type); N],
        rows: &[[Cell; N]],
    ) -> Vec<Row> {
        let columns: Columns =
            columns.iter().map(|(name, kind)| ((*name).to_owned(), kind.clone())).collect();
        let row = |cells: &[Cell; N]| {
            let mut data = Vec::new();
            for cell in cells {
                match cell {
                    None => data.push(NULL),
                    Some(None) => data.push(CUT),
                    Some(Some(value)) => pack(&mut data, value),
                }
            }
            Row { columns: columns.clone(), data: data.into() }
        };
        rows.iter().map(row).collect()
    }

    #[test]
    fn values_of_any_length_are_packed() {
        let lengths = [0, 1, 252, 253, 254, 255, 256, 70_000];
        let mut data = vec![NULL, CUT];
        lengths.iter().for_each(|length| pack(&mut data, &vec![7; *length]));
        let columns = (0..lengths.len() + 2).map(|i| (format!("c{i}"), Type::BYTEA)).collect();
        let row = Row { columns, data: data.into() };
        assert_eq!(row.get::<Option<&[u8]>>("c0").unwrap(), None);
        assert!(row.get::<Option<&[u8]>>("c1").is_err());
        for (i, length) in lengths.iter().enumerate() {
            assert_eq!(row.get::<&[u8]>(&format!("c{}", i + 2)).unwrap(), vec![7; *length]);
        }
        assert!(row.get::<&[u8]>("x").is_err() && row.get::<i64>("c2").is_err());
    }

    #[test]
    fn texts_and_arrays_of_texts_become_utf8() {
        let veil = Veil::new(Some("a secret"), &[]);
        let text = |bytes| readable(&Type::TEXT, bytes, &veil).into_owned();
        assert_eq!(text(b"plain"), b"plain");
        assert_eq!(text(b"caf\xe9"), "caf\u{fffd}".as_bytes());
        assert_eq!(text(b"not a secret?"), b"not ***?");
        assert_eq!(readable(&Type::BYTEA, b"\xff a secret", &veil).as_ref(), b"\xff a secret");
        let array = |elements: &[&[u8]]| {
            let mut out = [1, 0, 25, 3, 1].map(i32::to_be_bytes).concat();
            out.extend((-1i32).to_be_bytes());
            for element in elements {
                out.extend(i32::try_from(element.len()).unwrap().to_be_bytes());
                out.extend_from_slice(element);
            }
            out
        };
        let bad = array(&[b"ok", b"x\xff"]);
        let good = readable(&Type::TEXT_ARRAY, &bad, &veil).into_owned();
        assert_eq!(good, array(&[b"ok", "x\u{fffd}".as_bytes()]));
        let read = <Vec<Option<String>>>::from_sql(&Type::TEXT_ARRAY, &good).unwrap();
        assert_eq!(read, [None, Some("ok".to_owned()), Some("x\u{fffd}".to_owned())]);
        // What makes no sense stays as it is.
        for end in 0..bad.len() {
            let cut = readable(&Type::TEXT_ARRAY, &bad[..end], &veil).into_owned();
            assert!(cut == bad[..end] || cut.len() <= good.len());
        }
    }
}
