//! Which database may be written to: one that `pgrunway load` made, which its comment says, or one that the
//! user names.
//!
//! Must not: change anything in a database that it refuses.

use anyhow::{Context, bail, ensure};

use crate::cmd::trading::fill::TIMEOUTS;
use crate::config::Connect;
use crate::error::ConnectError;
use crate::pg::{Admin, Row, columns};
use crate::remedy::quote::ident;

/// The comment of a database that we made.
pub const MARK: &str = "made by pgrunway load, which may write here";
/// Where one connects to make another.
const MAINTENANCE: &str = "postgres";
const NO_SUCH_DATABASE: &str = "3D000";

/// A database that may be written to.
pub struct Admitted {
    pub admin: Admin,
    pub connect: Connect,
    /// Made just now.
    pub created: bool,
}

/// Connects to the database of `connect`, which is made where there is none. With `into`, that name must be
/// the database's, and an existing one need not be ours.
///
/// # Errors
/// The database is neither ours nor named by `into`, or cannot be reached or made.
pub async fn admit(connect: Connect, into: Option<&str>) -> anyhow::Result<Admitted> {
    let name = connect.dbname.clone();
    if let Some(into) = into {
        ensure!(
            into == name,
            "--into={into}: the connection leads to database \"{name}\"; nothing was changed"
        );
    }
    let admin = match Admin::connect(&connect, &TIMEOUTS).await {
        Err(ConnectError::Refused { sqlstate, .. }) if sqlstate == NO_SUCH_DATABASE => {
            create(&connect).await?;
            let admin = Admin::connect(&connect, &TIMEOUTS).await?;
            return Ok(Admitted { admin, connect, created: true });
        }
        connected => connected?,
    };
    let (real, comment) = facts(&admin).await?;
    if let Some(into) = into {
        // A pooler may lead to a database of another name.
        ensure!(
            into == real,
            "--into={into}: the server calls this database \"{real}\"; nothing was changed"
        );
    } else if comment.as_deref() != Some(MARK) {
        bail!(
            "database \"{name}\" was not created by `pgrunway load`: --database names one that was, or one \
             that does not exist yet; --into={name} writes into this one all the same. Nothing was \
             changed"
        );
    }
    Ok(Admitted { admin, connect, created: false })
}

columns! {
    struct OwnDatabase {
        name: String,
        comment: Option<String>,
    }
}

/// The database's name as the server has it, and its comment.
async fn facts(admin: &Admin) -> anyhow::Result<(String, Option<String>)> {
    let rows = admin
        .rows(
            "SELECT d.datname::text AS name, \
                    pg_catalog.shobj_description(d.oid, 'pg_database') AS comment \
               FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()",
        )
        .await
        .context("reading the database's comment")?;
    let own =
        Row::first::<OwnDatabase>(&rows)?.context("the server does not know its own database")?;
    Ok((own.name, own.comment))
}

async fn create(connect: &Connect) -> anyhow::Result<()> {
    let elsewhere = Connect { dbname: MAINTENANCE.to_owned(), ..connect.clone() };
    let making = || format!("making database \"{}\"", connect.dbname);
    let admin = Admin::connect(&elsewhere, &TIMEOUTS).await.with_context(making)?;
    let name = ident(&connect.dbname);
    admin.batch(&format!("CREATE DATABASE {name}")).await.with_context(making)?;
    // Not possible in one transaction with the above.
    let marked = admin.batch(&format!("COMMENT ON DATABASE {name} IS '{MARK}'")).await;
    marked.with_context(|| format!("marking database \"{}\" as ours", connect.dbname))
}
