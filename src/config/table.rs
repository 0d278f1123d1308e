//! The one table of what may be set: the keys of the settings, and the lists of the file with theirs.
//!
//! Must not: hold a setting of its own, or know where a value came from.

use std::sync::Arc;

use super::KnownCollector;
use super::index_rules::IndexRule;
use super::probe::AuthItem;
use super::queries::{ColumnItem, CustomQuery, QueryFile, QueryItem, TheirFile, of_file};
use super::rules::{PartitionRule, QueryRule};
use super::schema::{Key, Keyed, ListKey, Nested, Setting, SettingKind};
use super::settings::{General, PerTarget, TargetItem};

/// The connection string, which becomes a target rather than a setting.
pub(super) const DSN: &str = "dsn";

/// Servers and poolers with pages of their own.
pub const TARGETS: &str = "targets";

/// Rules for partitioned tables.
pub const PARTITIONS: &str = "partitions";

/// Indexes that must be there.
pub const INDEXES: &str = "indexes";

/// Queries whose plans `pgrunway verify` holds to few partitions.
pub const QUERIES: &str = "verify.queries";

/// Queries of the user's own, by name.
pub const CUSTOM: &str = "queries";

/// How to log in to probed targets, by name.
pub const MODULES: &str = "auth_modules";

/// All settings, the general ones first, then those of each collector.
pub fn keys(known: &[KnownCollector]) -> Vec<Key> {
    let dsn = Key {
        path: DSN.to_owned(),
        kind: SettingKind::Dsn,
        default: String::new(),
        help: "Connection string of the server: a URI or keyword=value pairs, as libpq reads them; other \
               users of the machine can read it on a command line."
            .to_owned(),
        aliases: &["DATA_SOURCE_NAME"],
    };
    std::iter::once(dsn).chain(bare(General::keys_with(known))).collect()
}

/// All lists of the file.
pub fn lists(known: &[KnownCollector]) -> Vec<ListKey> {
    let begins = "- table: schema.table";
    let target = bare(TargetItem::keys()).chain(bare(PerTarget::keys_with(known))).collect();
    // Its name is the key that it stands under.
    let module = bare(AuthItem::keys()).filter(|key| key.path != "name").collect();
    vec![
        ListKey { name: TARGETS, begins: "- name: shop", named: false, keys: target, nested: None },
        custom(),
        ListKey {
            name: MODULES,
            begins: "name: {type: userpass, userpass: {...}}",
            named: true,
            keys: module,
            nested: None,
        },
        ListKey {
            name: PARTITIONS,
            begins,
            named: false,
            keys: bare(PartitionRule::keys()).collect(),
            nested: None,
        },
        ListKey {
            name: INDEXES,
            begins,
            named: false,
            keys: bare(IndexRule::keys()).collect(),
            nested: None,
        },
        ListKey {
            name: QUERIES,
            begins: "- name: NAME",
            named: false,
            keys: bare(QueryRule::keys()).collect(),
            nested: None,
        },
    ]
}

/// The queries of postgres_exporter's file, from its text alone.
pub fn queries_of(name: &str, text: &str) -> (Vec<Arc<CustomQuery>>, QueryFile) {
    let file =
        TheirFile { name, text: Ok(text.to_owned()), hash: String::new(), everywhere: false };
    let statement_timeout = super::Timeouts::default().statement;
    let (queries, file, _) = of_file(file, &custom(), &[], statement_timeout);
    (queries, file)
}

/// Queries of the user's own; also all that postgres_exporter's file may hold.
pub fn custom() -> ListKey {
    ListKey {
        name: CUSTOM,
        begins: "shop_orders: {query: ..., metrics: [...]}",
        named: true,
        keys: bare(QueryItem::keys()).filter(|key| key.path != "name").collect(),
        nested: Some(Nested {
            name: "metrics",
            begins: "- column: {usage: GAUGE, description: ...}",
            keys: bare(ColumnItem::keys()).filter(|key| key.path != "name").collect(),
        }),
    }
}

fn bare<T>(settings: Vec<Setting<T>>) -> impl Iterator<Item = Key> {
    settings.into_iter().map(|setting| setting.key)
}
