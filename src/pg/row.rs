//! Typed access to a result row: a NULL where none is allowed, a missing column or a wrong type
//! becomes an error that names the column.
//!
//! Must not: send anything or know what a column means.

use tokio_postgres::types::{FromSql, Type};

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

/// One row of an answer.
#[derive(Debug)]
pub struct Row(tokio_postgres::Row);

impl Row {
    pub(super) fn new(row: tokio_postgres::Row) -> Self {
        Self(row)
    }

    /// The value of a column by name; use `Option<T>` where NULL is possible.
    ///
    /// # Errors
    /// There is no such column, or it is of another type or NULL.
    pub fn get<'a, T: FromSql<'a>>(&'a self, column: &str) -> Result<T, CollectError> {
        self.0.try_get(column).map_err(|source| CollectError::Decode {
            column: column.to_owned(),
            source: source.into(),
        })
    }

    /// The value of a column by position, for scans of thousands of rows.
    ///
    /// # Errors
    /// As [`Row::get`].
    pub fn at<'a, T: FromSql<'a>>(&'a self, index: usize) -> Result<T, CollectError> {
        self.0.try_get(index).map_err(|source| CollectError::Decode {
            column: self.0.columns().get(index).map_or("?", |c| c.name()).to_owned(),
            source: source.into(),
        })
    }
}
