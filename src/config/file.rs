//! `pgrunway.yml`: every value with the line and column at which it stands.
//!
//! Must not: repeat a value in a message (it may be a secret), or know what a setting is for.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

use super::schema::{Key, ListKey, Nested, SettingKind};
use super::suggest;
use crate::error::ConfigError;

/// A setting as the file has it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct FileValue {
    /// `pgrunway.yml:3:5`.
    pub(super) place: String,
    /// One text, or the items of a list.
    pub(super) texts: Vec<String>,
}

/// One item of a list as the file has it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct FileItem {
    /// `pgrunway.yml:3:5`.
    pub(super) place: String,
    /// By key.
    pub(super) values: BTreeMap<String, FileValue>,
    /// What stands under the key of its own items, by name.
    pub(super) columns: Vec<FileItem>,
}

/// A whole file.
#[derive(Default)]
pub(super) struct Parsed {
    /// By path.
    pub(super) settings: BTreeMap<String, FileValue>,
    /// By the list's name, in their order.
    pub(super) lists: BTreeMap<&'static str, Vec<FileItem>>,
    /// Of an item: those of its own.
    columns: Vec<FileItem>,
}

/// Lists and sections within one another.
const DEEPEST: usize = 32;

/// Reads a file's text into settings by path, and lists.
///
/// # Errors
/// Not YAML, a key that no setting has, or a value that is not of its setting's type; the place is
/// file, line and column.
pub(super) fn parse(
    name: &str,
    text: &str,
    keys: &[Key],
    lists: &[ListKey],
) -> Result<Parsed, ConfigError> {
    let root = nodes(name, text)?;
    let mut reader = YamlReader { name, keys, lists, nested: None, found: Parsed::default() };
    reader.node("", &root)?;
    Ok(reader.found)
}

/// An item by its name, or what is wrong with it.
type NamedItem = (String, Result<FileItem, ConfigError>);

/// Reads a file that is one section of named items. What is wrong with one is said in its place.
///
/// # Errors
/// Not YAML, or no such section.
pub(super) fn parse_items(
    name: &str,
    text: &str,
    list: &ListKey,
) -> Result<Vec<NamedItem>, ConfigError> {
    let root = nodes(name, text)?;
    match &root.value {
        YamlNode::Null => Ok(Vec::new()),
        YamlNode::Map(entries) => Ok(entries
            .iter()
            .map(|(key, item)| (key.value.clone(), named(name, list, key, item)))
            .collect()),
        other => Err(ConfigError::new(
            place(name, &root.referenced),
            format!("the file must hold names, not {}", other.describe()),
            format!("begin each item with `{}`", list.begins),
        )),
    }
}

/// One item of a list, which may have a name.
fn item(
    file: &str,
    list: &ListKey,
    place: String,
    name: Option<String>,
    node: &Spanned<YamlNode>,
) -> Result<FileItem, ConfigError> {
    let mut reader = YamlReader {
        name: file,
        keys: &list.keys,
        lists: &[],
        nested: list.nested.as_ref(),
        found: Parsed::default(),
    };
    reader.node("", node)?;
    let Parsed { settings: mut values, columns, .. } = reader.found;
    if let Some(name) = name {
        let place = place.clone();
        values.insert("name".to_owned(), FileValue { place, texts: vec![name] });
    }
    Ok(FileItem { place, values, columns })
}

/// One item of a section whose keys are names.
fn named(
    file: &str,
    list: &ListKey,
    key: &Spanned<String>,
    node: &Spanned<YamlNode>,
) -> Result<FileItem, ConfigError> {
    item(file, list, place(file, &key.referenced), Some(key.value.clone()), node)
}

/// A file's text as YAML, with a location at every node.
///
/// # Errors
/// It is none; the place is file, line and column.
pub(super) fn nodes(name: &str, text: &str) -> Result<Spanned<YamlNode>, ConfigError> {
    // A snippet would show what stands around the fault, and that may be a password.
    // Each level takes a piece of the stack, and no setting lies deeper than a few.
    let budget = serde_saphyr::budget! { max_depth: DEEPEST };
    let options = serde_saphyr::options! { with_snippet: false, budget: budget };
    serde_saphyr::from_str_with_options(text, options).map_err(|e| syntax(name, &e))
}

fn syntax(name: &str, e: &serde_saphyr::Error) -> ConfigError {
    let place = e.location().map_or_else(|| name.to_owned(), |at| place(name, &at));
    let text = e.to_string();
    let text = text.split(" at line ").next().unwrap_or_default();
    let (problem, remedy) = if text.starts_with("duplicate mapping key") {
        ("the key is there twice", "keep one of the two")
    } else if text.starts_with("multiple YAML documents") {
        ("a second document starts here", "keep one document in the file")
    } else if text.starts_with("non-finite float") {
        ("the number is not finite", "write a finite number")
    } else {
        (text, "fix the YAML; a value with special characters goes into quotes")
    };
    ConfigError::new(place, problem, remedy)
}

/// `pgrunway.yml:3:5`.
pub(super) fn place(name: &str, at: &Location) -> String {
    format!("{name}:{}:{}", at.line(), at.column())
}

struct YamlReader<'a> {
    name: &'a str,
    keys: &'a [Key],
    /// Empty inside an item of a list, which holds no lists.
    lists: &'a [ListKey],
    /// Inside an item that holds items of its own.
    nested: Option<&'a Nested>,
    found: Parsed,
}

impl YamlReader<'_> {
    fn node(&mut self, path: &str, node: &Spanned<YamlNode>) -> Result<(), ConfigError> {
        let entries = match &node.value {
            // A section whose every line is commented out.
            YamlNode::Null => return Ok(()),
            YamlNode::Map(entries) => entries,
            other => {
                let what = match path {
                    "" if self.lists.is_empty() => "an item of the list".to_owned(),
                    "" => "the file".to_owned(),
                    path => format!("`{path}`"),
                };
                return Err(ConfigError::new(
                    place(self.name, &node.referenced),
                    format!("{what} must hold keys, not {}", other.describe()),
                    format!("keys here: {}", self.children(path).join(", ")),
                ));
            }
        };
        for (key, value) in entries {
            let child = match path {
                "" => key.value.clone(),
                path => format!("{path}.{}", key.value),
            };
            // `web.listen_address: x` would be a second way to write the same.
            if key.value.is_empty() || key.value.contains('.') {
                return Err(self.unknown(path, key));
            } else if let Some(setting) = self.keys.iter().find(|k| k.path == child) {
                self.leaf(setting, value)?;
            } else if let Some(list) = self.lists.iter().find(|list| list.name == child) {
                self.list(list, value)?;
            } else if let Some(nested) = self.nested.filter(|nested| nested.name == child) {
                self.columns(nested, value)?;
            } else if !self.children(&child).is_empty() {
                self.node(&child, value)?;
            } else {
                return Err(self.unknown(path, key));
            }
        }
        Ok(())
    }

    fn list(&mut self, list: &ListKey, node: &Spanned<YamlNode>) -> Result<(), ConfigError> {
        let mut push = |item: FileItem| self.found.lists.entry(list.name).or_default().push(item);
        let items = match &node.value {
            YamlNode::Null => return Ok(()),
            YamlNode::Map(entries) if list.named => {
                for (key, node) in entries {
                    push(named(self.name, list, key, node)?);
                }
                return Ok(());
            }
            YamlNode::Seq(items) if !list.named => items,
            other => {
                return Err(ConfigError::new(
                    place(self.name, &node.referenced),
                    match list.named {
                        true => {
                            format!("`{}` must hold names, not {}", list.name, other.describe())
                        }
                        false => {
                            format!("`{}` must be a list, not {}", list.name, other.describe())
                        }
                    },
                    format!("begin each item with `{}`", list.begins),
                ));
            }
        };
        for node in items {
            push(item(self.name, list, place(self.name, &node.referenced), None, node)?);
        }
        Ok(())
    }

    /// The items that an item has of its own: a list of sections, each key of which is the name of one.
    fn columns(&mut self, nested: &Nested, node: &Spanned<YamlNode>) -> Result<(), ConfigError> {
        let list = ListKey {
            name: nested.name,
            begins: nested.begins,
            named: true,
            keys: nested.keys.clone(),
            nested: None,
        };
        let refuse = |node: &Spanned<YamlNode>| {
            ConfigError::new(
                place(self.name, &node.referenced),
                format!("`{}` must hold names, not {}", list.name, node.value.describe()),
                format!("begin each item with `{}`", list.begins),
            )
        };
        let maps = match &node.value {
            YamlNode::Null => return Ok(()),
            YamlNode::Map(_) => vec![node],
            YamlNode::Seq(items) => items.iter().collect(),
            _ => return Err(refuse(node)),
        };
        for map in maps {
            let YamlNode::Map(entries) = &map.value else { return Err(refuse(map)) };
            for (key, node) in entries {
                self.found.columns.push(named(self.name, &list, key, node)?);
            }
        }
        Ok(())
    }

    /// The names that may follow `path`.
    fn children(&self, path: &str) -> Vec<&str> {
        let keys = self.keys.iter().map(|key| key.path.as_str());
        let lists = self.lists.iter().map(|list| list.name);
        children(keys.chain(lists).chain(self.nested.map(|nested| nested.name)), path)
    }

    fn unknown(&self, path: &str, key: &Spanned<String>) -> ConfigError {
        let typed = key.value.as_str();
        let siblings = self.children(path);
        let elsewhere = || {
            self.keys
                .iter()
                .map(|k| k.path.as_str())
                .find(|p| *p == typed || p.rsplit('.').next() == Some(typed))
        };
        let remedy = match suggest::nearest(typed, siblings.iter().copied()) {
            Some(name) => format!("did you mean `{name}`?"),
            None => match elsewhere() {
                Some(p) if suggest::printable(typed) => {
                    format!("did you mean `{}`, each part a key of its own?", p.replace('.', ": "))
                }
                _ => format!("keys here: {}", siblings.join(", ")),
            },
        };
        // A key that is no identifier may be a value that slipped.
        let problem = if suggest::printable(typed) {
            format!("unknown key `{typed}`")
        } else {
            "unknown key".to_owned()
        };
        ConfigError::new(place(self.name, &key.referenced), problem, remedy)
    }

    fn leaf(&mut self, key: &Key, node: &Spanned<YamlNode>) -> Result<(), ConfigError> {
        let at = place(self.name, &node.referenced);
        let refuse = |node: &YamlNode| {
            ConfigError::new(
                at.clone(),
                format!("`{}` cannot be {}", key.path, node.describe()),
                format!("write {}", wanted(key)),
            )
        };
        let texts = match (&key.kind, &node.value) {
            // As if the key were not there.
            (_, YamlNode::Null) => return Ok(()),
            (SettingKind::Options, YamlNode::Map(entries)) => {
                let mut texts = Vec::new();
                for (name, value) in entries {
                    let text = match &value.value {
                        YamlNode::Text(text) => text.clone(),
                        YamlNode::Boolean(value) => value.to_string(),
                        YamlNode::Integer(value) => value.to_string(),
                        YamlNode::Float(value) => value.to_string(),
                        other => {
                            return Err(ConfigError::new(
                                place(self.name, &value.referenced),
                                format!("a value of `{}` cannot be {}", key.path, other.describe()),
                                "write it as text, in quotes where need be".to_owned(),
                            ));
                        }
                    };
                    texts.push(format!("{}={text}", name.value));
                }
                texts
            }
            (
                SettingKind::List
                | SettingKind::Addresses
                | SettingKind::Labels
                | SettingKind::Allow
                | SettingKind::Options,
                YamlNode::Seq(items),
            ) => {
                let mut texts = Vec::new();
                for item in items {
                    match &item.value {
                        YamlNode::Text(text) => texts.push(text.clone()),
                        other => {
                            return Err(ConfigError::new(
                                place(self.name, &item.referenced),
                                format!("an item of `{}` cannot be {}", key.path, other.describe()),
                                "write it as text, in quotes where need be".to_owned(),
                            ));
                        }
                    }
                }
                texts
            }
            (SettingKind::Boolean, YamlNode::Boolean(value)) => vec![value.to_string()],
            (SettingKind::Integer { .. }, YamlNode::Integer(value)) => vec![value.to_string()],
            (SettingKind::Ratio | SettingKind::Bytes, YamlNode::Integer(value)) => {
                vec![value.to_string()]
            }
            (SettingKind::Ratio, YamlNode::Float(value)) => vec![value.to_string()],
            // `0` is a duration; the other numbers get told that they lack a unit.
            (SettingKind::Duration { .. }, YamlNode::Integer(value)) => vec![value.to_string()],
            (SettingKind::Boolean | SettingKind::Integer { .. } | SettingKind::Ratio, other) => {
                return Err(refuse(other));
            }
            (_, YamlNode::Text(text)) => vec![text.clone()],
            (_, other) => return Err(refuse(other)),
        };
        self.found.settings.insert(key.path.clone(), FileValue { place: at, texts });
        Ok(())
    }
}

fn wanted(key: &Key) -> String {
    match key.kind {
        SettingKind::Boolean => "`true` or `false`, without quotes".to_owned(),
        SettingKind::Duration { .. } => "a duration such as 500ms, 30s, 1h30m or 7d".to_owned(),
        kind => format!("it as {}", kind.describe()),
    }
}

/// The names that may follow `path`, in the order of the table.
fn children<'a>(all: impl Iterator<Item = &'a str>, path: &str) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    for known in all {
        let rest = match path {
            "" => Some(known),
            path => known.strip_prefix(path).and_then(|rest| rest.strip_prefix('.')),
        };
        if let Some(name) = rest.and_then(|rest| rest.split('.').next())
            && !names.contains(&name)
        {
            names.push(name);
        }
    }
    names
}

/// YAML as it stands, with a location at every node.
pub(super) enum YamlNode {
    Null,
    Boolean(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    Seq(Vec<Spanned<YamlNode>>),
    Map(Vec<(Spanned<String>, Spanned<YamlNode>)>),
}

impl YamlNode {
    pub(super) fn describe(&self) -> &'static str {
        match self {
            Self::Null => "empty",
            Self::Boolean(_) => "true or false",
            Self::Integer(_) | Self::Float(_) => "a number",
            Self::Text(_) => "text",
            Self::Seq(_) => "a list",
            Self::Map(_) => "a section",
        }
    }
}

impl<'de> Deserialize<'de> for YamlNode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = YamlNode;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value, a list or a section")
    }
    fn visit_unit<E>(self) -> Result<YamlNode, E> {
        Ok(YamlNode::Null)
    }
    fn visit_none<E>(self) -> Result<YamlNode, E> {
        Ok(YamlNode::Null)
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<YamlNode, D::Error> {
        YamlNode::deserialize(deserializer)
    }
    fn visit_bool<E>(self, value: bool) -> Result<YamlNode, E> {
        Ok(YamlNode::Boolean(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<YamlNode, E> {
        Ok(YamlNode::Integer(value.into()))
    }
    fn visit_u64<E>(self, value: u64) -> Result<YamlNode, E> {
        Ok(YamlNode::Integer(value.into()))
    }
    fn visit_i128<E>(self, value: i128) -> Result<YamlNode, E> {
        Ok(YamlNode::Integer(value))
    }
    fn visit_f64<E>(self, value: f64) -> Result<YamlNode, E> {
        Ok(YamlNode::Float(value))
    }
    fn visit_str<E>(self, value: &str) -> Result<YamlNode, E> {
        Ok(YamlNode::Text(value.to_owned()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<YamlNode, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(YamlNode::Seq(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<YamlNode, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(YamlNode::Map(map))
    }
}
