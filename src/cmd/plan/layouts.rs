//! What a plan does with each property of a table and with each of its surroundings: the one list, from which
//! `docs/plan.md` is made, by which refusals find their way by hand, and which `tests/plan/layouts.rs` walks.
//!
//! Must not: promise what no test of that file shows on a real server.

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// A new partition has it, as the newest of its siblings does.
    Copied,
    /// A new partition does not have it; the script's first lines say so where it is there.
    NotCopied,
    /// Rows are moved beside it, and it stays what it was.
    Moved,
    /// Rows stay where they are; the script says why, and the way by hand.
    Refused,
}

/// One entry of the list.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// The name by which the test knows it.
    pub id: &'static str,
    /// What becomes of it.
    pub fate: Fate,
    /// What it is.
    pub what: &'static str,
    /// Why it is so, or how.
    pub how: &'static str,
    /// Of refusals and of what is not copied: what the script says, as far as it is the same for each table.
    pub says: &'static str,
    /// Of refusals: the way by hand.
    pub way: &'static str,
    /// The oldest major that has such a thing.
    pub since: i32,
}

const fn copied(id: &'static str, what: &'static str) -> Layout {
    Layout { id, fate: Fate::Copied, what, how: "", says: "", way: "", since: 13 }
}

const fn not_copied(
    id: &'static str,
    what: &'static str,
    how: &'static str,
    says: &'static str,
) -> Layout {
    Layout { id, fate: Fate::NotCopied, what, how, says, way: "", since: 13 }
}

const fn moved(id: &'static str, since: i32, what: &'static str, how: &'static str) -> Layout {
    Layout { id, fate: Fate::Moved, what, how, says: "", way: "", since }
}

const fn refused(
    id: &'static str,
    since: i32,
    what: &'static str,
    how: &'static str,
    says: &'static str,
    way: &'static str,
) -> Layout {
    Layout { id, fate: Fate::Refused, what, how, says, way, since }
}

const COVER: &str = "let the publication hold these columns too (from 18 on generated ones with \
    publish_generated_columns = stored), or choose another replica identity: until then PostgreSQL refuses every \
    UPDATE and DELETE of the table. Then run this script again";

/// All of them. A refusal whose text holds `says` of several takes the way of the first.
pub static ALL: &[Layout] = &[
    copied("owner", "The owner, whoever runs the script"),
    copied(
        "privileges",
        "Privileges, including those on columns and the grant option, and no others: what default privileges added \
         is revoked",
    ),
    copied("row_security", "Row security, forced or not, and policies"),
    copied("replica_identity", "The replica identity: FULL, NOTHING or an index"),
    copied("publications", "Publications that name the sibling itself, with columns and filter"),
    copied("triggers", "Triggers, each enabled, disabled, replica or always as on the sibling"),
    copied("indexes", "Indexes, including those that only the sibling has, with their tablespaces"),
    copied("constraints", "CHECK constraints that siblings share, and foreign keys"),
    copied("storage", "Storage parameters, including those of TOAST"),
    copied("columns", "Storage, compression, statistics target and options of columns; defaults"),
    copied("statistics", "Extended statistics"),
    copied("places", "The tablespace, the access method, and UNLOGGED"),
    copied("labels", "Security labels"),
    copied(
        "comments",
        "Comments of columns and indexes, and the table's own if another sibling has the same",
    ),
    copied("levels", "The sibling's own partitions, with all of this"),
    not_copied(
        "check_on_key",
        "a CHECK on the key that no sibling shares",
        "it repeats the sibling's bounds",
        "speaks of the key and no sibling shares it",
    ),
    not_copied(
        "own_comment",
        "a comment that no sibling shares",
        "it is about the sibling",
        "is its own, and new partitions do not get it",
    ),
    not_copied(
        "rules",
        "rules",
        "a rule's text cannot be moved to another table safely",
        "is not copied: create it on each new partition by hand",
    ),
    not_copied(
        "referred",
        "a foreign key that refers to the sibling itself",
        "it belongs to the other table",
        "itself, and to no new partition",
    ),
    moved("default", 13, "a DEFAULT", "in parts; rows of other times stay"),
    moved(
        "open_end",
        13,
        "a last partition up to MAXVALUE",
        "it is split from its beginning into as many partitions as the interval needs",
    ),
    moved(
        "open_levels",
        13,
        "a last partition up to MAXVALUE that is partitioned itself",
        "so are the new ones; identity columns stay those of all levels",
    ),
    moved(
        "computed",
        13,
        "identity and generated columns",
        "identity values stay, generated ones are computed again",
    ),
    moved(
        "silent_triggers",
        13,
        "triggers in any mode",
        "none fires, and afterwards each has the mode that it had",
    ),
    moved(
        "referenced",
        13,
        "foreign keys that refer to the table, with any action",
        "they do not react. A superuser has to run the script",
    ),
    moved(
        "forced",
        13,
        "forced row security",
        "a superuser or a role with BYPASSRLS has to run the script",
    ),
    moved("owners", 13, "partitions of several owners", "a superuser has to run the script"),
    moved(
        "root_publication",
        13,
        "a publication with publish_via_partition_root",
        "it sends a DELETE and an INSERT of the same row in one transaction. Columns that only the subscriber has get \
         their defaults",
    ),
    moved(
        "row_filter",
        15,
        "its row filter, on columns of the replica identity",
        "both are sent or neither",
    ),
    moved(
        "column_list",
        15,
        "its column list, if it holds the replica identity",
        "these columns are sent again",
    ),
    moved(
        "foreign_siblings",
        13,
        "foreign tables beside local partitions",
        "new partitions are like the newest local one",
    ),
    moved(
        "nulls",
        13,
        "NULL in a later column of the key",
        "no range takes such a row: it stays in the DEFAULT",
    ),
    moved(
        "prepared",
        13,
        "a prepared transaction (two-phase commit) that holds locks on it",
        "if it is older than 5 s the script stops and names it; what was done stays, and after COMMIT PREPARED or \
         ROLLBACK PREPARED the script goes on where it stopped",
    ),
    refused(
        "leaves_published",
        13,
        "a publication sends the leaves under their own names, or not both INSERT and DELETE",
        "the subscriber would lose rows, or have them twice",
        "would send on the row''s coming without its going, or under another table''s name",
        "for each such partition: create a table of its name and columns on each subscriber and detach there what \
         holds the rows; stop the writers; in one transaction detach the source, delete the rows from it, attach \
         both, and insert the rows again; attach on the subscriber, then ALTER SUBSCRIPTION … REFRESH \
         PUBLICATION WITH (copy_data = true) and compare",
    ),
    refused(
        "no_identity",
        13,
        "the table is published and has no replica identity",
        "PostgreSQL refuses the DELETE",
        "is published and has no replica identity",
        "give it one (a primary key, or REPLICA IDENTITY FULL), and run this script again",
    ),
    refused(
        "identity_not_published",
        15,
        "a publication leaves out a column of the replica identity: by its column list, or from 18 on a generated one",
        "PostgreSQL refuses the DELETE",
        "of %s out, which is part of its replica identity",
        COVER,
    ),
    refused(
        "filter_not_identity",
        15,
        "the filter of a publication reads a column that is no part of the replica identity",
        "PostgreSQL refuses the DELETE",
        "which is no part of the replica identity of",
        "let the filter read columns of the replica identity alone, or choose another replica identity: until then \
         PostgreSQL refuses every UPDATE and DELETE of the table. Then run this script again",
    ),
    refused(
        "refers_to_default",
        13,
        "a foreign key refers to the DEFAULT itself",
        "the referencing rows would lose the row that they refer to",
        "refers to %s itself",
        "drop that foreign key, run this script again, and add it anew so that it refers to the partitioned table",
    ),
    refused(
        "referenced_open_end",
        13,
        "a foreign key refers to the table, and the last partition, which has no end, contains rows",
        "splitting detaches it, which PostgreSQL refuses while its rows are referenced",
        "what it refers to is not detached to be given another bound",
        "drop that foreign key, run this script again, and add it anew",
    ),
    refused(
        "rules_on_source",
        13,
        "rules on the DEFAULT",
        "the DELETE would do something else",
        "rewrites what is done to it",
        "drop the rule, run this script again, and create it anew",
    ),
    refused(
        "foreign_default",
        13,
        "the DEFAULT is a foreign table",
        "nothing here holds the other server still while rows are under way",
        "is a foreign table",
        "stop the writers; copy the rows and delete them on the other server, run this script again, and insert them \
         into the table",
    ),
    refused(
        "expression_first",
        13,
        "a key of several columns that begins with an expression",
        "the rows of a partition cannot be selected",
        EXPRESSION,
        "stop the writers; copy the rows, delete them from there, run this script again, and insert them into the table",
    ),
];

/// Templates of what the server is asked: whether rows may be moved, and what covers them.
pub(super) const REFUSAL: &str = include_str!("refusal.sql");
pub(super) const COVERS: &str = include_str!("covers.sql");

/// Why nothing moves where the key cannot be told.
pub(super) const EXPRESSION: &str = "the key has several columns and begins with an expression";

/// The fixed part of what a refusal says, as it stands in the script.
impl Layout {
    /// Whether a reason that was given is this one.
    pub fn gave(&self, why: &str) -> bool {
        let said = self.says.replace("''", "'");
        let mut rest = why;
        self.fate == Fate::Refused
            && said.split("%s").all(|part| match rest.find(part) {
                Some(at) => {
                    rest = &rest[at + part.len()..];
                    true
                }
                None => false,
            })
    }
}

/// The ways by hand around these reasons.
pub(super) fn ways(why: &str) -> String {
    let mut found: Vec<&str> = Vec::new();
    for layout in ALL.iter().filter(|l| l.gave(why)) {
        if !found.contains(&layout.way) {
            found.push(layout.way);
        }
    }
    found.join(". And: ")
}

/// Each reason that the server is asked for, as the templates of its texts.
pub fn reasons() -> Vec<&'static str> {
    let texts = [REFUSAL, COVERS];
    let begin = "pg_catalog.format('";
    let of = |text: &'static str| {
        text.match_indices(begin).map(move |(at, _)| {
            let rest = &text[at + begin.len()..];
            let end = rest.find("',").unwrap_or(rest.len());
            &rest[..end]
        })
    };
    texts.into_iter().flat_map(of).collect()
}
