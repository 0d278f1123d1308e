//! libpq's `.pgpass`: `host:port:database:user:password`, `*` matches all, `\` escapes.
//!
//! Must not: read a file (the session does, at every connect).

use super::{DEFAULT_SOCKET_DIR, Endpoint, Secret};

/// The password of the first line that matches. A Unix socket in the default folder is called
/// `localhost`, any other by its folder, as in libpq. An empty password is none.
pub fn lookup(text: &str, endpoint: &Endpoint, dbname: &str, user: &str) -> Option<Secret> {
    let (host, port) = match endpoint {
        Endpoint::Tcp { host, port } => (host.clone(), *port),
        Endpoint::Unix { directory, port } if directory.as_os_str() == DEFAULT_SOCKET_DIR => {
            ("localhost".to_owned(), *port)
        }
        Endpoint::Unix { directory, port } => (directory.to_string_lossy().into_owned(), *port),
    };
    let port = port.to_string();
    let wanted = [host.as_str(), port.as_str(), dbname, user];
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let mut rest = line;
        let matches = wanted.iter().all(|wanted| match field(rest) {
            (field, Some(tail)) => {
                let hit = &rest[..rest.len() - tail.len() - 1] == "*" || field == *wanted;
                rest = tail;
                hit
            }
            (_, None) => false,
        });
        if matches {
            let (password, _) = field(rest);
            return (!password.is_empty()).then(|| Secret::new(password));
        }
    }
    None
}

/// The first field with its escapes undone, and what follows its colon.
fn field(text: &str) -> (String, Option<&str>) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            ':' => return (value, Some(&text[at + 1..])),
            // A backslash at the end stands for itself.
            '\\' => value.push(chars.next().map_or('\\', |(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::PathBuf;

    fn tcp(host: &str, port: u16) -> Endpoint {
        Endpoint::Tcp { host: host.to_owned(), port }
    }

    fn unix(directory: &str) -> Endpoint {
        Endpoint::Unix { directory: PathBuf::from(directory), port: 5432 }
    }

    #[test]
    fn matches_as_libpq_does() {
        let text = "# a comment: with:colons:in:it\n\
                    \n\
                    broken line\n\
                    db1:5432:trade:mon:first\n\
                    db1:5432:trade:mon:second\r\n\
                    db2:*:*:mon:any\\:port\\\\here\n\
                    \\*:5432:trade:mon:literal star\n\
                    fe80\\:\\:1:5432:*:*:six\n\
                    localhost:5432:*:mon:socket\n\
                    /srv/pg:5432:*:mon:elsewhere\n\
                    trail:5432:*:mon:pass:ignored\n\
                    empty:5432:*:mon:\n\
                    empty:5432:*:mon:never reached\n\
                    last:5432:*:mon:end\\";
        for (endpoint, dbname, user, expected) in [
            (tcp("db1", 5432), "trade", "mon", Some("first")),
            (tcp("db1", 5433), "trade", "mon", None),
            (tcp("db1", 5432), "other", "mon", None),
            (tcp("db1", 5432), "trade", "root", None),
            (tcp("db2", 1), "x", "mon", Some("any:port\\here")),
            (tcp("*", 5432), "trade", "mon", Some("literal star")),
            (tcp("fe80::1", 5432), "x", "y", Some("six")),
            (tcp("localhost", 5432), "x", "mon", Some("socket")),
            (unix(DEFAULT_SOCKET_DIR), "x", "mon", Some("socket")),
            (unix("/srv/pg"), "x", "mon", Some("elsewhere")),
            (unix("/tmp"), "x", "mon", None),
            (tcp("trail", 5432), "x", "mon", Some("pass")),
            (tcp("empty", 5432), "x", "mon", None),
            (tcp("last", 5432), "x", "mon", Some("end\\")),
        ] {
            let found = lookup(text, &endpoint, dbname, user);
            assert_eq!(found.as_ref().map(Secret::expose), expected, "{endpoint} {dbname} {user}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>(), user in any::<String>()) {
            let _ = lookup(&text, &tcp("h", 1), "d", &user);
        }

        #[test]
        fn an_escaped_line_gives_its_password_back(
            user in "[^\r\n]{1,12}", password in "[^\r\n]{1,12}",
        ) {
            let escape = |s: &str| s.replace('\\', "\\\\").replace(':', "\\:");
            let text = format!("*:*:*:{}:{}\n", escape(&user), escape(&password));
            prop_assume!(user != "*");
            let found = lookup(&text, &tcp("h", 1), "d", &user);
            prop_assert_eq!(found.map(|s| s.expose().to_owned()), Some(password));
        }
    }
}
