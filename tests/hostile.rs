//! A server on which one database belongs to `eve`, a plain role. She tries to run code as the monitoring
//! role, to read other databases through it, and to falsify or blind what is told of them. Nothing of it
//! works, and each try shows: in a metric, on the page, in the log.
//!
//! Each way is tried with the monitor as a role that has `pg_monitor` (`mon`), as a member of eve's role
//! (`kin`), and as a superuser (`root`). What eve wrote tells in the server's log as whom it ran.
//!
//! Must not: take for granted that a trap works: each is sprung once by eve herself.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

#[path = "hostile/commands.rs"]
mod commands;
#[path = "hostile/home.rs"]
mod home;
#[path = "hostile/tables.rs"]
mod tables;
#[path = "hostile/texts.rs"]
mod texts;
#[path = "hostile/trust.rs"]
mod trust;
#[path = "hostile/world.rs"]
mod world;
