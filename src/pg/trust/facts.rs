//! The facts of [`super`], read in one query.
//!
//! Must not: read a relation that is not PostgreSQL's own, or decide anything but what is there.

use super::{
    ExtensionTable, Monitor, Need, Owner, PathStep, Trusted, distrust, judge, missing, remedy,
};
use crate::error::CollectError;
use crate::pg::columns::columns;
use crate::pg::row::{Lossy, Row};
use crate::pg::server::parse_version;
use crate::remedy::quote::ident as shown;

/// What is looked at.
#[derive(Clone, Copy)]
pub(in crate::pg) enum Request<'a> {
    /// An extension's functions and tables.
    Extension(&'a Need),
    /// Tables by OID with all that is below them, and what they are called in an error.
    Tables(&'a [i64], &'a str),
}

/// The members of an extension that are wanted, a function once a signature.
const FUNCTIONS: &str = "\
SELECT 'function'::text AS kind, p.oid AS id, p.proname AS name, p.pronamespace AS schema,
       p.proowner AS owner, p.proname || '(' || pg_catalog.oidvectortypes(p.proargtypes) || ')' AS sig,
       p.prolang = 13 AND p.prokind = 'f' AS sound
  FROM ext e
  JOIN pg_catalog.pg_depend d
    ON d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.refobjid = e.oid
   AND d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.deptype = 'e'
  JOIN pg_catalog.pg_proc p ON p.oid = d.objid
 WHERE p.proname || '(' || pg_catalog.oidvectortypes(p.proargtypes) || ')' = ANY ($2)";

const TABLES: &str = "\
SELECT 'table', c.oid, c.relname, c.relnamespace, c.relowner, NULL,
       c.relkind = 'r' AND c.relpersistence = 'p'
  FROM ext e
  JOIN pg_catalog.pg_depend d
    ON d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.refobjid = e.oid
   AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.deptype = 'e'
  JOIN pg_catalog.pg_class c ON c.oid = d.objid
 WHERE c.relname = ANY ($3) AND c.relkind NOT IN ('i', 'I', 't', 'c', 'S')";

/// Tables of users with all that is below them: a query reads it along, unless it says `ONLY`.
const TREES: &str = "\
SELECT 'table', c.oid, c.relname, c.relnamespace, c.relowner, NULL, true
  FROM tree t JOIN pg_catalog.pg_class c ON c.oid = t.id";

/// What runs when a table is merely planned, and may be another's: functions and operators in its key,
/// indexes, statistics, constraints, policies, rules and generated columns, and foreign servers. Not in
/// what others hang on it, such as a view: that would let them close it to us.
const HANGERS_ON: &str = "\
SELECT DISTINCT 'function', p.oid, p.proname, p.pronamespace, p.proowner
  FROM (SELECT o.id FROM object o WHERE o.kind = 'table') o
  CROSS JOIN LATERAL (
    SELECT 'pg_catalog.pg_class'::pg_catalog.regclass::oid AS class, o.id AS id
    UNION ALL SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, i.indexrelid
      FROM pg_catalog.pg_index i WHERE i.indrelid = o.id
    UNION ALL SELECT 'pg_catalog.pg_statistic_ext'::pg_catalog.regclass, x.oid
      FROM pg_catalog.pg_statistic_ext x WHERE x.stxrelid = o.id
    UNION ALL SELECT 'pg_catalog.pg_constraint'::pg_catalog.regclass, k.oid
      FROM pg_catalog.pg_constraint k WHERE k.conrelid = o.id
    UNION ALL SELECT 'pg_catalog.pg_policy'::pg_catalog.regclass, y.oid
      FROM pg_catalog.pg_policy y WHERE y.polrelid = o.id
    UNION ALL SELECT 'pg_catalog.pg_rewrite'::pg_catalog.regclass, w.oid
      FROM pg_catalog.pg_rewrite w WHERE w.ev_class = o.id
    UNION ALL SELECT 'pg_catalog.pg_attrdef'::pg_catalog.regclass, a.oid
      FROM pg_catalog.pg_attrdef a WHERE a.adrelid = o.id) h
  JOIN pg_catalog.pg_depend d ON d.classid = h.class AND d.objid = h.id
  LEFT JOIN pg_catalog.pg_operator q
    ON d.refclassid = 'pg_catalog.pg_operator'::pg_catalog.regclass AND q.oid = d.refobjid
  JOIN pg_catalog.pg_proc p ON p.oid = CASE WHEN q.oid IS NULL THEN d.refobjid ELSE q.oprcode END
 WHERE p.oid >= 16384
   AND (d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass OR q.oid IS NOT NULL)
UNION ALL
SELECT 'foreign server', s.oid, s.srvname, NULL, s.srvowner
  FROM object o
  JOIN pg_catalog.pg_foreign_table f ON f.ftrelid = o.id
  JOIN pg_catalog.pg_foreign_server s ON s.oid = f.ftserver
 WHERE o.kind = 'table'";

/// Databases that a server or its provider keeps for itself.
const SERVERS_OWN: &str =
    "('postgres', 'rdsadmin', 'cloudsqladmin', 'alloydbadmin', 'azure_maintenance', 'azure_sys')";
/// Roles by which managed services let their customers administer a server.
const ADMINISTRATORS: &str =
    "('rds_superuser', 'cloudsqlsuperuser', 'alloydbsuperuser', 'azure_pg_admin')";

/// A policy that is plainly `true`.
const OPEN: &str = "^[{]CONST :consttype 16 .* :constvalue 1 [[] [0 ]*1 [0 ]*[]][}]$";

impl Request<'_> {
    /// What it is called in a sentence.
    pub(in crate::pg) fn what(&self) -> &str {
        match self {
            Self::Extension(need) => need.extension,
            Self::Tables(_, what) => what,
        }
    }

    /// The values of [`Request::sql`].
    pub(in crate::pg) fn parameters(&self) -> (String, Vec<String>, Vec<String>, Vec<i64>) {
        let owned = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        match self {
            Self::Extension(need) => {
                (need.extension.to_owned(), owned(need.functions), owned(need.tables), Vec::new())
            }
            Self::Tables(oids, _) => (String::new(), Vec::new(), Vec::new(), oids.to_vec()),
        }
    }

    /// The query, whose parameters are the extension, signatures, names of tables, and OIDs. What
    /// `pg_database_owner` (6171) owns belongs to who owns the database.
    pub(in crate::pg) fn sql(self, version_num: i32) -> String {
        let (objects, trees) = match self {
            Self::Extension(need) if need.tables.is_empty() => (FUNCTIONS.to_owned(), ""),
            Self::Extension(_) => (format!("{FUNCTIONS}\nUNION ALL\n{TABLES}"), ""),
            Self::Tables(..) => (
                format!("{FUNCTIONS}\nUNION ALL\n{TREES}"),
                ", tree(id) AS (SELECT pg_catalog.unnest($4)::oid UNION \
                 SELECT i.inhrelid FROM tree t JOIN pg_catalog.pg_inherits i ON i.inhparent = t.id)",
            ),
        };
        let none = matches!(self, Self::Extension(need) if need.tables.is_empty());
        let hangers_on = if none {
            "SELECT NULL, 0::oid, NULL::name, NULL::oid, NULL::oid WHERE false"
        } else {
            HANGERS_ON
        };
        // From 16 on a membership may come without the right to SET ROLE.
        let set = if version_num >= 160_000 { "SET" } else { "MEMBER" };
        format!(
            "\
WITH RECURSIVE me AS (SELECT r.* FROM pg_catalog.pg_roles r WHERE r.rolname = session_user),
db AS (SELECT d.oid, d.datname, d.datdba FROM pg_catalog.pg_database d
        WHERE d.datname = pg_catalog.current_database()),
ext AS (SELECT e.oid, e.extname, e.extversion, e.extowner FROM pg_catalog.pg_extension e
         WHERE e.extname::text = $1){trees},
object(kind, id, name, schema, owner, sig, sound) AS ({objects}),
other(kind, id, name, schema, owner) AS ({hangers_on}),
step(kind, id, name, schema, owner, sig, sound) AS (
SELECT 'database', NULL::oid, db.datname, NULL::oid, db.datdba, NULL::text, true FROM db
UNION ALL SELECT 'extension', NULL, e.extname, NULL, e.extowner, e.extversion, true FROM ext e
UNION ALL SELECT 'schema', n.oid, n.nspname, NULL, n.nspowner, NULL, true
  FROM pg_catalog.pg_namespace n
 WHERE n.oid IN (SELECT o.schema FROM object o UNION SELECT o.schema FROM other o)
UNION ALL SELECT * FROM object
UNION ALL SELECT o.*, NULL, true FROM other o)
SELECT s.kind, pg_catalog.textsend(s.name::text) AS name, s.sig, s.sound,
       pg_catalog.textsend(db.datname::text) AS datname, pg_catalog.textsend(me.rolname::text) AS monitor,
       me.rolsuper OR EXISTS (SELECT FROM pg_catalog.pg_roles r
                               WHERE r.rolsuper AND pg_catalog.pg_has_role(me.oid, r.oid, 'MEMBER'))
         AS superuser,
       me.rolcreaterole OR me.rolreplication
         OR pg_catalog.pg_has_role(me.oid, 'pg_execute_server_program', 'MEMBER')
         OR pg_catalog.pg_has_role(me.oid, 'pg_read_server_files', 'MEMBER')
         OR pg_catalog.pg_has_role(me.oid, 'pg_write_server_files', 'MEMBER') AS reaches_out,
       pg_catalog.textsend(COALESCE(o.rolname::text, '')) AS owner,
       COALESCE(o.rolsuper, false) AS owner_superuser,
       CASE WHEN NOT o.rolsuper THEN ARRAY[
         o.oid = me.oid OR pg_catalog.pg_has_role(o.oid, me.oid, '{set}'),
         EXISTS (SELECT FROM pg_catalog.pg_roles r
                  WHERE r.rolsuper AND pg_catalog.pg_has_role(o.oid, r.oid, '{set}')),
         EXISTS (SELECT FROM pg_catalog.pg_roles r
                  WHERE r.oid <> me.oid AND pg_catalog.pg_has_role(me.oid, r.oid, 'MEMBER')
                    AND NOT pg_catalog.pg_has_role(o.oid, r.oid, 'USAGE')),
         me.rolcreaterole AND NOT o.rolcreaterole OR me.rolcreatedb AND NOT o.rolcreatedb
           OR me.rolreplication AND NOT o.rolreplication OR me.rolbypassrls AND NOT o.rolbypassrls,
         EXISTS (SELECT FROM pg_catalog.pg_shdepend d
                  WHERE d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass
                    AND d.refobjid = me.oid
                    AND (d.dbid = db.oid
                         OR d.dbid = 0 AND d.classid <> 'pg_catalog.pg_database'::pg_catalog.regclass)
                    AND NOT COALESCE(CASE d.classid
                          WHEN 'pg_catalog.pg_class'::pg_catalog.regclass
                            THEN pg_catalog.has_table_privilege(o.oid, d.objid, 'SELECT')
                          WHEN 'pg_catalog.pg_namespace'::pg_catalog.regclass
                            THEN pg_catalog.has_schema_privilege(o.oid, d.objid, 'USAGE')
                          WHEN 'pg_catalog.pg_proc'::pg_catalog.regclass
                            THEN pg_catalog.has_function_privilege(o.oid, d.objid, 'EXECUTE')
                        END, false)),
         EXISTS (SELECT FROM pg_catalog.pg_roles r
                  WHERE r.rolname IN {ADMINISTRATORS} AND pg_catalog.pg_has_role(o.oid, r.oid, 'USAGE')
                    AND pg_catalog.pg_has_role(r.oid, 'pg_monitor', 'MEMBER')),
         o.oid = db.datdba AND NOT EXISTS (
           SELECT FROM pg_catalog.pg_database d LEFT JOIN pg_catalog.pg_roles r ON r.oid = d.datdba
            WHERE NOT d.datistemplate AND d.datdba NOT IN (o.oid, me.oid)
              AND NOT (COALESCE(r.rolsuper, false) AND d.datname IN {SERVERS_OWN}))]
       END AS owner_has,
       CASE WHEN s.sig IS NOT NULL OR s.kind = 'table'
            THEN (SELECT pg_catalog.format('%I.%I', n.nspname, s.name)
                    FROM pg_catalog.pg_namespace n WHERE n.oid = s.schema) END AS sql,
       t.columns, t.granted, t.active, t.opened
  FROM step s CROSS JOIN me CROSS JOIN db
  LEFT JOIN pg_catalog.pg_roles o ON o.oid = CASE WHEN s.owner = 6171 THEN db.datdba ELSE s.owner END
  LEFT JOIN LATERAL (
SELECT ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
              WHERE a.attrelid = s.id AND a.attnum > 0 AND NOT a.attisdropped
                AND a.atttypid::int8 < 16384) AS columns,
       pg_catalog.has_schema_privilege(s.schema, 'USAGE')
         AND pg_catalog.has_table_privilege(s.id, 'SELECT') AS granted,
       pg_catalog.row_security_active(s.id) AS active,
       EXISTS (SELECT FROM pg_catalog.pg_policy p
                WHERE p.polrelid = s.id AND p.polpermissive AND p.polcmd IN ('r', '*')
                  AND p.polqual::text ~ '{OPEN}'
                  AND EXISTS (SELECT FROM pg_catalog.unnest(p.polroles) r(role)
                               WHERE r.role = 0 OR pg_catalog.pg_has_role(r.role, 'USAGE')))
         AND NOT EXISTS (SELECT FROM pg_catalog.pg_policy p
                          WHERE p.polrelid = s.id AND NOT p.polpermissive
                            AND p.polcmd IN ('r', '*')) AS opened
       ) t ON s.kind = 'table'
 ORDER BY s.kind, s.name"
        )
    }
}

columns! {
    /// What stands in one row: a step of a path with its owner, and who asks.
    struct FactRow {
        datname: String as Lossy,
        monitor: String as Lossy,
        superuser: bool,
        reaches_out: bool,
        kind: String,
        name: String as Lossy,
        sig: Option<String>,
        sql: Option<String>,
        sound: Option<bool>,
        owner: String as Lossy,
        owner_superuser: bool,
        owner_has: Option<Vec<Option<bool>>>,
        columns: Option<Vec<String>>,
        granted: Option<bool>,
        active: Option<bool>,
        opened: Option<bool>,
    }
}

/// What the facts say of it.
///
/// # Errors
/// [`CollectError::Missing`]: it is not there, it is not what the extension brought, or somebody who is
/// not trusted could change it.
pub(in crate::pg) fn read(
    request: Request<'_>,
    rows: &[Row],
    named: &[String],
) -> Result<Trusted, CollectError> {
    let rows: Vec<FactRow> = Row::all(rows)?;
    let first = rows.first().ok_or_else(|| {
        missing("the server did not answer with a row".to_owned(), "check that this is PostgreSQL")
    })?;
    let datname = first.datname.clone();
    let monitor = Monitor {
        name: first.monitor.clone(),
        superuser: first.superuser,
        reaches_out: first.reaches_out,
    };
    let mut trusted = Trusted { datname: datname.clone(), ..Trusted::default() };
    let mut installed = false;
    let mut steps = Vec::with_capacity(rows.len());
    for row in rows {
        match (row.kind.as_str(), &row.sig, &row.sql) {
            ("extension", Some(version), _) => {
                installed = true;
                trusted.version = parse_version(version);
            }
            ("function", Some(sig), Some(sql)) => {
                if row.sound != Some(true) {
                    return Err(unlike(&datname, sql, "a function in C"));
                }
                trusted.functions.insert(sig.clone(), sql.clone());
            }
            ("table", _, Some(sql)) => {
                if row.sound != Some(true) {
                    return Err(unlike(&datname, sql, "a plain table"));
                }
                trusted.tables.insert(row.name.clone(), table(&row, sql.clone()));
            }
            _ => {}
        }
        let owner = owner(&row);
        steps.push(PathStep { kind: row.kind, name: row.name, owner });
    }
    let need = match request {
        Request::Extension(need) => Some(need),
        Request::Tables(..) => None,
    };
    if let Some(need) = need {
        check_version(need, installed, &trusted)?;
    }
    trusted.reasons = judge(&monitor, &steps, named).map_err(|steps| {
        let remedy = remedy(need, &datname, &steps);
        missing(distrust(request.what(), &datname, &monitor, &steps), remedy)
    })?;
    Ok(trusted)
}

fn unlike(datname: &str, sql: &str, kind: &str) -> CollectError {
    missing(
        format!("{sql} in database {} is not {kind}, as its extension brings it", shown(datname)),
        "find out who changed it, then drop the extension and create it again",
    )
}

fn check_version(need: &Need, installed: bool, found: &Trusted) -> Result<(), CollectError> {
    let (name, datname) = (need.extension, shown(&found.datname));
    if !installed {
        return Err(missing(format!("database {datname} has no extension {name}"), need.install));
    }
    if found.version < need.oldest {
        let ((major, minor), (oldest, since)) = (found.version, need.oldest);
        return Err(missing(
            format!("{name} {major}.{minor} in database {datname} is older than {oldest}.{since}"),
            format!("run ALTER EXTENSION {name} UPDATE there"),
        ));
    }
    Ok(())
}

fn owner(row: &FactRow) -> Owner {
    let (name, superuser) = (row.owner.clone(), row.owner_superuser);
    let Some(has) = &row.owner_has else { return Owner { name, superuser, ..none() } };
    // What the server does not know counts against the owner.
    let at = |i: usize, unknown: bool| has.get(i).copied().flatten().unwrap_or(unknown);
    Owner {
        name,
        superuser,
        is_monitor: at(0, false),
        becomes_superuser: at(1, false),
        lacks_role: at(2, true),
        lacks_attribute: at(3, true),
        lacks_grant: at(4, true),
        administers: at(5, false),
        sole: at(6, false),
    }
}

/// An owner of whom nothing is known.
fn none() -> Owner {
    Owner { lacks_role: true, lacks_attribute: true, lacks_grant: true, ..Owner::default() }
}

fn table(row: &FactRow, sql: String) -> ExtensionTable {
    let (active, opened) = (row.active.unwrap_or(true), row.opened.unwrap_or(false));
    ExtensionTable {
        sql,
        columns: row.columns.clone().unwrap_or_default(),
        granted: row.granted.unwrap_or(false),
        whole: !active || opened,
        by_policy: active && opened,
    }
}
