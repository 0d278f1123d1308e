//! Rows as structs: `columns!` declares a struct whose fields are the columns of an answer. Names become positions
//! once per answer, and types are checked there; each row then costs one pass over its bytes.
//!
//! Must not: keep rows, know what a column means, or take a column that is absent for one that is NULL unless the
//! field says so.

use std::sync::Arc;

use tokio_postgres::types::{FromSql, Type, WrongType};

use super::row::{Columns, IsUnknown, Lossy, Packed, Row, UNKNOWN, too_long, unknown, wrong};
use crate::error::CollectError;

/// What can be read from the columns of a row: one value, or a struct of `columns!`, which may be a field of another.
pub trait FromRow: Sized {
    /// Where the columns are in an answer.
    type At;

    /// Finds the columns; `name` is that of a single value's.
    ///
    /// # Errors
    /// A column is absent or of another type.
    fn find(columns: &[(String, Type)], name: &'static str) -> Result<Self::At, Unfit>;

    /// Reads one row.
    ///
    /// # Errors
    /// A value is NULL where none is allowed, too long, or makes no sense.
    fn read(row: &Cells<'_>, at: &Self::At) -> Result<Self, CollectError>;

    /// Whether it is NULL: of a struct its first column.
    fn is_null(row: &Cells<'_>, at: &Self::At) -> bool;
}

/// Why an answer does not have the columns.
#[derive(Debug)]
pub enum Unfit {
    /// There is none of this name.
    Absent(&'static str),
    /// It is of another type.
    Type(CollectError),
}

impl Unfit {
    fn error(self) -> CollectError {
        match self {
            Self::Absent(name) => wrong(name, "there is no such column".into()),
            Self::Type(error) => error,
        }
    }
}

/// The values of one row.
#[derive(Debug)]
pub struct Cells<'a> {
    columns: &'a [(String, Type)],
    values: Vec<Packed<'a>>,
}

impl<T: for<'a> FromSql<'a>> FromRow for T {
    type At = usize;

    fn find(columns: &[(String, Type)], name: &'static str) -> Result<usize, Unfit> {
        let at = columns.iter().position(|(n, _)| n == name).ok_or(Unfit::Absent(name))?;
        let kind = &columns[at].1;
        match *kind == UNKNOWN || T::accepts(kind) {
            true => Ok(at),
            false => Err(Unfit::Type(wrong(name, WrongType::new::<T>(kind.clone()).into()))),
        }
    }

    fn read(row: &Cells<'_>, at: &usize) -> Result<T, CollectError> {
        let Some((name, kind)) = row.columns.get(*at) else {
            return Err(wrong("?", format!("there is no column {at}").into()));
        };
        let value = match row.values.get(*at) {
            _ if *kind == UNKNOWN => unknown(),
            Some(Packed::Value(value)) => T::from_sql(kind, value),
            Some(Packed::Cut) => Err(too_long()),
            Some(Packed::Null) | None => T::from_sql_null(kind),
        };
        value.map_err(|e| wrong(name, e))
    }

    fn is_null(row: &Cells<'_>, at: &usize) -> bool {
        // What is unknown may be there.
        matches!(row.values.get(*at), Some(Packed::Null) | None)
            && row.columns.get(*at).is_none_or(|(_, kind)| *kind != UNKNOWN)
    }
}

/// `None` where the answer does not have the column, or one of the struct's: a version or a service lacks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IfColumn<T>(pub Option<T>);

impl<T: FromRow> FromRow for IfColumn<T> {
    type At = Option<T::At>;

    fn find(columns: &[(String, Type)], name: &'static str) -> Result<Self::At, Unfit> {
        match T::find(columns, name) {
            Ok(at) => Ok(Some(at)),
            Err(Unfit::Absent(_)) => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn read(row: &Cells<'_>, at: &Self::At) -> Result<Self, CollectError> {
        at.as_ref().map(|at| T::read(row, at)).transpose().map(Self)
    }

    fn is_null(row: &Cells<'_>, at: &Self::At) -> bool {
        at.as_ref().is_none_or(|at| T::is_null(row, at))
    }
}

impl<T> From<IfColumn<T>> for Option<T> {
    fn from(value: IfColumn<T>) -> Self {
        value.0
    }
}

impl<T> From<IfColumn<Option<T>>> for Option<T> {
    fn from(value: IfColumn<Option<T>>) -> Self {
        value.0.flatten()
    }
}

/// `None` where the first column of a struct is NULL: what an outer join did not find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IfFound<T>(pub Option<T>);

impl<T: FromRow> FromRow for IfFound<T> {
    type At = T::At;

    fn find(columns: &[(String, Type)], name: &'static str) -> Result<Self::At, Unfit> {
        T::find(columns, name)
    }

    fn read(row: &Cells<'_>, at: &Self::At) -> Result<Self, CollectError> {
        let value = (!T::is_null(row, at)).then(|| T::read(row, at));
        value.transpose().map(Self)
    }

    fn is_null(row: &Cells<'_>, at: &Self::At) -> bool {
        T::is_null(row, at)
    }
}

impl<T> From<IfFound<T>> for Option<T> {
    fn from(value: IfFound<T>) -> Self {
        value.0
    }
}

impl From<IfFound<Lossy>> for Option<String> {
    fn from(name: IfFound<Lossy>) -> Self {
        name.0.map(String::from)
    }
}

/// `None` where a text was too long to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uncut<T>(pub Option<T>);

impl<T: FromRow<At = usize>> FromRow for Uncut<T> {
    type At = usize;

    fn find(columns: &[(String, Type)], name: &'static str) -> Result<usize, Unfit> {
        T::find(columns, name)
    }

    fn read(row: &Cells<'_>, at: &usize) -> Result<Self, CollectError> {
        match row.values.get(*at) {
            Some(Packed::Cut) => Ok(Self(None)),
            _ => T::read(row, at).map(|value| Self(Some(value))),
        }
    }

    fn is_null(row: &Cells<'_>, at: &usize) -> bool {
        T::is_null(row, at)
    }
}

impl<T> From<Uncut<T>> for Option<T> {
    fn from(value: Uncut<T>) -> Self {
        value.0
    }
}

impl<T> From<Uncut<Option<T>>> for Option<T> {
    fn from(value: Uncut<Option<T>>) -> Self {
        value.0.flatten()
    }
}

/// Declares a type that is read as another and then changed: one that stands after `as` in `columns!`.
macro_rules! read_as {
    ($(#[$meta:meta])* $name:ident: $sql:ty => $value:ty, $read:expr) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq)]
        pub struct $name(pub $value);

        impl<'a> FromSql<'a> for $name {
            fn from_sql(
                kind: &Type,
                raw: &'a [u8],
            ) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
                let read: fn(Option<$sql>) -> Option<$value> = $read;
                let value = read(Some(<$sql>::from_sql(kind, raw)?));
                value.map(Self).ok_or_else(|| "it is out of range".into())
            }

            fn from_sql_null(kind: &Type) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
                let read: fn(Option<$sql>) -> Option<$value> = $read;
                if *kind == UNKNOWN {
                    return <$value as Figure>::UNKNOWN.map(Self).ok_or_else(|| IsUnknown.into());
                }
                read(None).map(Self).ok_or_else(|| Box::new(tokio_postgres::types::WasNull) as _)
            }

            fn accepts(kind: &Type) -> bool {
                <$sql as FromSql>::accepts(kind)
            }
        }

        impl From<$name> for $value {
            fn from(value: $name) -> Self {
                value.0
            }
        }
    };
}

/// What is read where a column is unknown: no number, and nothing where there is no such value.
trait Figure: Sized {
    const UNKNOWN: Option<Self> = None;
}

impl Figure for f64 {
    const UNKNOWN: Option<Self> = Some(f64::NAN);
}
impl Figure for bool {}
impl Figure for u64 {}

read_as! {
    /// A `float8` whose NULL is 0.
    OrZero: f64 => f64, |value| Some(value.unwrap_or(0.0))
}
read_as! {
    /// A `bool` whose NULL is false.
    OrFalse: bool => bool, |value| Some(value.unwrap_or(false))
}
read_as! {
    /// An `int8`, as a figure.
    Count: i64 => f64, |value| value.map(|n| n as f64)
}
read_as! {
    /// An `int8` that counts, below zero nothing.
    Whole: i64 => u64, |value| value.map(|n| u64::try_from(n).unwrap_or(0))
}
read_as! {
    /// A `float8` of milliseconds, as seconds.
    Milliseconds: f64 => f64, |value| value.map(|ms| ms / 1e3)
}

impl From<Lossy> for String {
    fn from(name: Lossy) -> Self {
        name.0
    }
}

impl From<Lossy> for Arc<str> {
    fn from(name: Lossy) -> Self {
        name.0.into()
    }
}

/// Reads rows of one answer.
struct Each<'a, T: FromRow> {
    rows: std::slice::Iter<'a, Row>,
    cells: Cells<'a>,
    at: Option<(&'a Columns, T::At)>,
}

/// Whether a value could not be read because the server does not have what it rests on.
fn is_unknown(e: &CollectError) -> bool {
    matches!(e, CollectError::Decode { source, .. } if source.is::<IsUnknown>())
}

impl<'a, T: FromRow> Each<'a, T> {
    fn read(&mut self, row: &'a Row) -> Result<T, CollectError> {
        let at = match self.at.take() {
            // Rows of another answer may follow.
            Some((columns, at)) if Arc::ptr_eq(columns, &row.columns) => at,
            _ => T::find(&row.columns, "").map_err(Unfit::error)?,
        };
        self.cells.columns = &row.columns;
        self.cells.values.clear();
        self.cells.values.extend(row.values());
        let value = T::read(&self.cells, &at);
        self.at = Some((&row.columns, at));
        value
    }
}

impl<T: FromRow> Iterator for Each<'_, T> {
    type Item = Result<T, CollectError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let row = self.rows.next()?;
            match self.read(row) {
                // A row of which what must be known is not is none.
                Err(e) if is_unknown(&e) => {}
                read => return Some(read),
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.rows.size_hint()
    }
}

impl Row {
    /// Each row of an answer as a struct of `columns!`. One is left out where a column is unknown that must not be.
    pub fn each<T: FromRow>(rows: &[Row]) -> impl Iterator<Item = Result<T, CollectError>> {
        let cells = Cells { columns: &[], values: Vec::new() };
        Each { rows: rows.iter(), cells, at: None }
    }

    /// All rows of an answer.
    ///
    /// # Errors
    /// A column is absent or of another type, or a value cannot be read: the error names the column.
    pub fn all<T: FromRow>(rows: &[Row]) -> Result<Vec<T>, CollectError> {
        let mut all = Vec::with_capacity(rows.len());
        for row in Self::each(rows) {
            all.push(row?);
        }
        Ok(all)
    }

    /// All rows of an answer, or `None` where something is unknown of one that must not be: for who counts rows.
    ///
    /// # Errors
    /// As [`Row::all`].
    pub fn whole<T: FromRow>(rows: &[Row]) -> Result<Option<Vec<T>>, CollectError> {
        let all = Self::all(rows)?;
        Ok((all.len() == rows.len()).then_some(all))
    }

    /// The one row of an answer that has one whatever the server holds.
    ///
    /// # Errors
    /// As [`Row::all`]; there is none.
    pub fn one<T: FromRow>(rows: &[Row]) -> Result<T, CollectError> {
        if let Some(row) = rows.first() {
            let cells = Cells { columns: &[], values: Vec::new() };
            return Each { rows: rows.iter(), cells, at: None }.read(row);
        }
        Err(CollectError::Missing {
            what: "the server answered with no row where there is always one".to_owned(),
            remedy: "check that this is a PostgreSQL server".to_owned(),
        })
    }

    /// The first row of an answer, if there is one.
    ///
    /// # Errors
    /// As [`Row::all`].
    pub fn first<T: FromRow>(rows: &[Row]) -> Result<Option<T>, CollectError> {
        Self::each(rows).next().transpose()
    }
}

/// Declares a struct whose fields are columns of an answer. A field is
///
/// - `name: Type`: the column of that name, NULL only if the type is an `Option`;
/// - `name: Type as Read`: read as `Read`, then converted: [`Lossy`], [`OrZero`], [`IfColumn`] and the others here;
/// - `name: Type = "column"`: the column has another name;
/// - a struct that `columns!` declares: its columns are of the same answer.
///
/// `impl Name { … }` says the same of a struct that is declared elsewhere, such as in `derive`.
macro_rules! columns {
    (
        $(#[$meta:meta])* $vis:vis struct $name:ident {
            $($(#[$field_meta:meta])* $field_vis:vis $field:ident: $kind:ty $(as $read:ty)? $(= $column:literal)?),*
            $(,)?
        }
    ) => {
        $(#[$meta])*
        $vis struct $name {
            $($(#[$field_meta])* $field_vis $field: $kind),*
        }

        $crate::pg::columns! { impl $name { $($field: $kind $(as $read)? $(= $column)?),* } }
    };
    (impl $name:ident { $($field:ident: $kind:ty $(as $read:ty)? $(= $column:literal)?),* $(,)? }) => {
        impl $crate::pg::FromRow for $name {
            type At = ($(<$crate::pg::columns!(@last $kind $(, $read)?) as $crate::pg::FromRow>::At,)*);

            fn find(
                columns: &[(String, $crate::pg::Type)],
                _: &'static str,
            ) -> Result<Self::At, $crate::pg::Unfit> {
                Ok(($(
                    <$crate::pg::columns!(@last $kind $(, $read)?) as $crate::pg::FromRow>::find(
                        columns,
                        $crate::pg::columns!(@name $field $($column)?),
                    )?,
                )*))
            }

            fn read(
                row: &$crate::pg::Cells<'_>,
                at: &Self::At,
            ) -> Result<Self, $crate::error::CollectError> {
                let ($($field,)*) = at;
                Ok(Self { $($field: $crate::pg::columns!(@read row, $field, $kind $(, $read)?)),* })
            }

            fn is_null(row: &$crate::pg::Cells<'_>, at: &Self::At) -> bool {
                $crate::pg::columns!(@null row, at; $([$kind $(, $read)?])*)
            }
        }
    };
    (@last $kind:ty) => { $kind };
    (@last $kind:ty, $read:ty) => { $read };
    (@null $row:ident, $at:ident; [$kind:ty] $($rest:tt)*) => {
        <$kind as $crate::pg::FromRow>::is_null($row, &$at.0)
    };
    (@null $row:ident, $at:ident; [$kind:ty, $read:ty] $($rest:tt)*) => {
        <$read as $crate::pg::FromRow>::is_null($row, &$at.0)
    };
    (@name $field:ident) => { stringify!($field) };
    (@name $field:ident $column:literal) => { $column };
    (@read $row:ident, $at:ident, $kind:ty) => { <$kind as $crate::pg::FromRow>::read($row, $at)? };
    (@read $row:ident, $at:ident, $kind:ty, $read:ty) => {
        <$kind>::from(<$read as $crate::pg::FromRow>::read($row, $at)?)
    };
}
pub(crate) use columns;

#[cfg(test)]
mod tests {
    use super::super::row::tests::{answer, int8, text};
    use super::*;

    columns! {
        #[derive(Debug, PartialEq)]
        struct Name {
            schema: String,
            name: String = "relname",
        }
    }

    columns! {
        #[derive(Debug, PartialEq)]
        struct Relation {
            oid: i64,
            name: Option<Name> as IfFound<Name>,
            comment: Option<Option<String>> as Uncut<Option<String>>,
            pages: f64 as Count,
            since: Option<i64> as IfColumn<Option<i64>>,
        }
    }

    const COLUMNS: [(&str, Type); 5] = [
        ("pages", Type::INT8),
        ("schema", Type::TEXT),
        ("relname", Type::TEXT),
        ("comment", Type::TEXT),
        ("oid", Type::INT8),
    ];

    #[test]
    fn columns_are_found_by_name_wherever_they_are() {
        let rows = answer(
            &COLUMNS,
            &[
                [int8(3), text("public"), text("orders"), Some(None), int8(16_384)],
                [int8(0), None, None, None, int8(16_385)],
            ],
        );
        let name = Name { schema: "public".to_owned(), name: "orders".to_owned() };
        let first =
            Relation { oid: 16_384, name: Some(name), comment: None, pages: 3.0, since: None };
        let second =
            Relation { oid: 16_385, name: None, comment: Some(None), pages: 0.0, since: None };
        assert_eq!(Row::first::<Relation>(&rows).unwrap().as_ref(), Some(&first));
        assert_eq!(Row::all::<Relation>(&rows).unwrap(), [first, second]);
        assert!(Row::all::<Relation>(&[]).unwrap().is_empty());
        assert!(Row::one::<Relation>(&[]).unwrap_err().to_string().contains("no row"));
    }

    #[test]
    fn a_column_that_is_there_on_some_versions_is_read_where_it_is() {
        let mut columns = COLUMNS;
        columns[1].0 = "since";
        columns[1].1 = Type::INT8;
        let rows = answer(&columns, &[[int8(3), int8(7), None, None, int8(1)]]);
        columns! { struct Since { since: Option<i64> as IfColumn<Option<i64>>, none: Option<Name> as IfColumn<Name> } }
        let read = Row::first::<Since>(&rows).unwrap().unwrap();
        assert_eq!((read.since, read.none), (Some(7), None));
    }

    #[test]
    fn what_does_not_fit_names_its_column() {
        let error = |rows: &[Row]| Row::all::<Relation>(rows).unwrap_err().to_string();
        let whole = [int8(3), text("public"), text("orders"), None, int8(1)];
        let mut columns = COLUMNS;
        columns[4].0 = "id";
        let absent = error(&answer(&columns, std::slice::from_ref(&whole)));
        assert!(absent.contains("oid") && absent.contains("there is no such column"), "{absent}");
        let mut columns = COLUMNS;
        columns[4].1 = Type::INT4;
        let other = error(&answer(&columns, std::slice::from_ref(&whole)));
        assert!(other.contains("oid") && other.contains("int4"), "{other}");
        let null = error(&answer(&COLUMNS, &[[int8(3), text("public"), None, None, int8(1)]]));
        assert!(null.contains("relname") && null.contains("NULL"), "{null}");
        let long = [int8(3), text("public"), Some(None), None, int8(1)];
        let long = error(&answer(&COLUMNS, &[long]));
        assert!(long.contains("relname") && long.contains("16384"), "{long}");
    }

    #[test]
    fn rows_of_several_answers_are_each_read_by_their_own_columns() {
        columns! { struct Pages { pages: i64 } }
        let one = answer(&[("pages", Type::INT8), ("x", Type::INT8)], &[[int8(1), int8(2)]]);
        let other = answer(&[("x", Type::INT8), ("pages", Type::INT8)], &[[int8(3), int8(4)]]);
        let both: Vec<Row> = one.into_iter().chain(other).collect();
        let pages: Vec<i64> =
            Row::all(&both).unwrap().into_iter().map(|p: Pages| p.pages).collect();
        assert_eq!(pages, [1, 4]);
    }
}
