//! A query with its parameters.
//!
//! Must not: send it.

use std::borrow::Cow;

use tokio_postgres::types::{ToSql, Type};

use crate::pg::row::LONGEST_TEXT;

/// One parameter value and its type, so that the server need not be asked for it.
pub type Param<'a> = (&'a (dyn ToSql + Sync), Type);

/// A query with its parameters.
pub struct Query<'a> {
    pub(super) sql: Cow<'a, str>,
    pub(super) params: Vec<Param<'a>>,
    pub(super) longest: usize,
    /// Whether it is run as it is or not at all.
    pub(super) as_written: bool,
}

impl<'a> Query<'a> {
    /// A query without parameters.
    pub fn new(sql: impl Into<Cow<'a, str>>) -> Self {
        Self { sql: sql.into(), params: Vec::new(), longest: LONGEST_TEXT, as_written: false }
    }

    /// Has it run as it stands or not at all, which is for what a user wrote: else what the server does not have is
    /// left out of it, and is NULL.
    pub fn as_written(mut self) -> Self {
        self.as_written = true;
        self
    }

    /// Has a text come whole up to a length, in bytes, at which others are left out.
    pub fn longest(mut self, bytes: usize) -> Self {
        self.longest = bytes;
        self
    }

    pub(in crate::pg) fn sql(&self) -> &str {
        &self.sql
    }

    pub(in crate::pg) fn params(&self) -> &[Param<'a>] {
        &self.params
    }

    /// Adds an `int8[]` parameter.
    pub fn int8_array(mut self, value: &'a Vec<i64>) -> Self {
        self.params.push((value, Type::INT8_ARRAY));
        self
    }

    /// Adds an `int8` parameter.
    pub fn int8(mut self, value: &'a i64) -> Self {
        self.params.push((value, Type::INT8));
        self
    }

    /// Adds a `text[]` parameter.
    pub fn text_array(mut self, value: &'a Vec<String>) -> Self {
        self.params.push((value, Type::TEXT_ARRAY));
        self
    }

    /// Adds a `text` parameter.
    pub fn text(mut self, value: &'a String) -> Self {
        self.params.push((value, Type::TEXT));
        self
    }
}

impl<'a> From<&'a str> for Query<'a> {
    fn from(sql: &'a str) -> Self {
        Self::new(sql)
    }
}
