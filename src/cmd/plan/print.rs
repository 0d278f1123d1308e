//! A plan as SQL that `psql -f` runs, with comments that say what it does.
//!
//! Must not: print what cannot be run twice, or put a statement into a transaction that refuses one.

use std::fmt::{self, Write};

use jiff::tz::TimeZone;

use super::catalogue::{Catalogue, Relation};
use super::check;
use crate::derive::partition::plan::rhythm::local;
use crate::derive::partition::plan::{Creation, Extension};
use crate::pg::Server;
use crate::remedy::quote::literal;

/// Everything that goes on the page.
pub(super) struct Page<'a> {
    pub(super) server: &'a Server,
    pub(super) catalogue: &'a Catalogue,
    pub(super) writer: &'a TimeZone,
    /// Whether the writer's zone is more than a guess.
    pub(super) zone_known: bool,
    pub(super) days: u16,
    /// Microseconds since 1970.
    pub(super) until: i128,
    pub(super) extensions: &'a [Extension],
}

/// Microseconds since 1970 for people, in UTC to the second.
pub(super) fn instant(micros: i128) -> String {
    let whole = micros - micros.rem_euclid(1_000_000);
    match local(whole, &TimeZone::UTC) {
        Some(at) => format!("{} UTC", at.to_string().replace('T', " ")),
        None => format!("{} s since 1970", whole / 1_000_000),
    }
}

/// In a comment a name must not begin a line of its own.
fn remark(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

impl Page<'_> {
    pub(super) fn text(&self) -> Result<String, fmt::Error> {
        let mut out = String::new();
        self.head(&mut out)?;
        for extension in self.extensions {
            self.extension(&mut out, extension)?;
        }
        check::write(&mut out, self)?;
        if self.extensions.is_empty() {
            writeln!(out, "\n-- Nothing to create: the partitions last until then.")?;
        }
        Ok(out)
    }

    fn head(&self, out: &mut String) -> fmt::Result {
        let table = self.catalogue.level_name(self.catalogue.root);
        let owner = self.catalogue.tables.get(self.catalogue.root).map_or("", |t| &t.owner);
        writeln!(
            out,
            "-- pgrunway plan: {} in database {}, from {} for {} days, until {}.",
            remark(&table),
            remark(&self.server.datname),
            instant(self.catalogue.now),
            self.days,
            instant(self.until),
        )?;
        writeln!(
            out,
            "-- Nothing has been executed. Run it as the table's owner, {}, and not inside a transaction:\n\
             --   psql -X -v ON_ERROR_STOP=1 -d DATABASE -f THIS_FILE\n\
             -- It can be run again: what is done already is passed over. A check at the end fails if a\n\
             -- table that got one of these names in the meantime is not the partition that is wanted.",
            remark(owner),
        )?;
        if !self.zone_known {
            writeln!(
                out,
                "-- The writer's time zone is not known here: local times count as UTC."
            )?;
        } else if self.extensions.iter().any(|e| e.rhythm.contains("local time")) {
            let zone = self.writer.iana_name().unwrap_or("the configured zone");
            writeln!(out, "-- Local times are taken as those of {zone}.")?;
        }
        for (parent, partition) in &self.catalogue.pending {
            writeln!(
                out,
                "-- {} is half detached, and in the way of a new one for its time. To finish that:\n\
                 --   ALTER TABLE {} DETACH PARTITION {} FINALIZE;",
                remark(&partition.sql),
                remark(parent),
                remark(&partition.sql)
            )?;
        }
        writeln!(
            out,
            "\n-- Creating a partition locks its parent against reads and writes for a moment. Who waits for\n\
             -- that lock holds up all who come after, so give up soon, and run this again.\n\
             SET lock_timeout = '2s';\n\
             -- Partitions go where their models are, not where this session would put them.\n\
             SET default_tablespace = '';\n\
             SET standard_conforming_strings = on;"
        )
    }

    fn extension(&self, out: &mut String, extension: &Extension) -> fmt::Result {
        let parent = self.catalogue.level_name(extension.level);
        let count = extension.creations.len();
        writeln!(out, "\n-- {}: {}, {count} to create.", remark(&parent), extension.rhythm)?;
        match &extension.pattern {
            Some(pattern) => writeln!(out, "-- Names follow {}.", remark(pattern))?,
            None => writeln!(
                out,
                "-- The names of its partitions follow no pattern that gives back all of them, so new\n\
                 -- ones are called after their parent, with _pYYYYMMDD (_HH24MISS) for their beginning."
            )?,
        }
        for (from, to) in &extension.past {
            writeln!(out, "-- Left as it is, since it is over: a gap from {from} to {to}.")?;
        }
        let default = extension.default.and_then(|i| self.catalogue.partition(extension.level, i));
        let table = self.catalogue.tables.get(extension.level);
        match (default, table) {
            (Some(default), Some(table)) => self.around(out, extension, table, default),
            _ => self.creations(out, extension, &parent, false),
        }
    }

    fn creations(
        &self,
        out: &mut String,
        extension: &Extension,
        parent: &str,
        inside: bool,
    ) -> fmt::Result {
        for creation in &extension.creations {
            // Never seen without its own partitions.
            let whole = !inside && !creation.children.is_empty();
            if whole {
                writeln!(out, "BEGIN;")?;
            }
            self.creation(out, creation, parent)?;
            if whole {
                writeln!(out, "COMMIT;")?;
            }
        }
        Ok(())
    }

    /// With a DEFAULT: rows of it that belong into a new partition forbid its creation.
    fn around(
        &self,
        out: &mut String,
        extension: &Extension,
        table: &Relation,
        default: &Relation,
    ) -> fmt::Result {
        let (parent, swallow) = (&table.sql, &default.sql);
        let key = table.leading.as_deref();
        let rows = default.rows;
        writeln!(
            out,
            "-- WARNING: {} is its DEFAULT and holds about {rows} rows (estimated). Rows of it that\n\
             -- belong into a new partition are in the way of its creation.",
            remark(swallow)
        )?;
        let range = |key: &str| {
            let one = |(from, to): &(String, String)| {
                format!("({key} >= {} AND {key} < {})", literal(from), literal(to))
            };
            extension.ranges.iter().map(one).collect::<Vec<_>>().join(" OR ")
        };
        if let Some(key) = key {
            writeln!(
                out,
                "-- How many there are:\n\
                 --   SELECT count(*) FROM {} WHERE {};",
                remark(swallow),
                remark(&range(key))
            )?;
        }
        let Some(key) = key.filter(|_| !self.catalogue.referenced) else {
            writeln!(
                out,
                "-- They are not moved here, because {}.\n\
                 -- Where there are such rows, what follows fails and changes nothing.",
                if key.is_none() {
                    "the key has several columns and begins with an expression"
                } else {
                    "a foreign key points to the table and forbids to detach rows it needs"
                }
            )?;
            return self.creations(out, extension, parent, false);
        };
        writeln!(
            out,
            "-- So the DEFAULT is taken off, the rows are moved to where they belong, and it is put back;\n\
             -- with no such rows, nothing is moved. All others wait until COMMIT, for as long as it takes\n\
             -- to move the rows and to read the DEFAULT twice. Triggers of the tables fire."
        )?;
        writeln!(out, "BEGIN;")?;
        writeln!(out, "ALTER TABLE {parent} DETACH PARTITION {swallow};")?;
        self.creations(out, extension, parent, true)?;
        let columns = table.columns.join(", ");
        writeln!(
            out,
            "WITH moved AS (\n  DELETE FROM {swallow}\n   WHERE {}\n  RETURNING {columns})\n\
             INSERT INTO {parent} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM moved;",
            range(key)
        )?;
        writeln!(out, "ALTER TABLE {parent} ATTACH PARTITION {swallow} DEFAULT;")?;
        writeln!(out, "COMMIT;")?;
        writeln!(
            out,
            "-- Else the estimate of its rows goes on telling of those that were moved."
        )?;
        writeln!(out, "ANALYZE {swallow};")
    }

    fn creation(&self, out: &mut String, creation: &Creation, parent: &str) -> fmt::Result {
        let name = self.catalogue.quote(&creation.name);
        let (level, child) = creation.like;
        let model = self.catalogue.partition(level, child);
        if let Some(taken) = &creation.instead_of {
            writeln!(
                out,
                "-- WARNING: the name {} is taken, and not by a partition for this time.",
                remark(taken)
            )?;
        }
        let leaf = model.is_some_and(|m| m.key.is_none());
        let unlogged = if leaf && model.is_some_and(|m| m.unlogged) { "UNLOGGED " } else { "" };
        write!(out, "CREATE {unlogged}TABLE IF NOT EXISTS {name} PARTITION OF {parent}\n  ")?;
        write!(out, "{}", creation.bound)?;
        if let Some(model) = model {
            if let Some(key) = &model.key {
                write!(out, "\n  PARTITION BY {key}")?;
            }
            if let Some(method) = &model.method {
                write!(out, "\n  USING {method}")?;
            }
            if !model.options.is_empty() {
                let option = |text: &String| match text.split_once('=') {
                    Some((name, value)) => format!("{name} = {}", literal(value)),
                    None => text.clone(),
                };
                let options: Vec<String> = model.options.iter().map(option).collect();
                write!(out, "\n  WITH ({})", options.join(", "))?;
            }
            let above = self.catalogue.tables.get(level).and_then(|t| t.tablespace.as_ref());
            match &model.tablespace {
                Some(tablespace) => write!(out, "\n  TABLESPACE {tablespace}")?,
                // Else it would go where its parent says.
                None if above.is_some() && leaf => {
                    write!(out, "\n  TABLESPACE {}", self.catalogue.tablespace)?;
                }
                None => {}
            }
        }
        writeln!(out, ";")?;
        for below in &creation.children {
            self.creation(out, below, &name)?;
        }
        Ok(())
    }
}
