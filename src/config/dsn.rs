//! libpq's connection strings: URIs and keyword=value pairs, into parameters.
//!
//! Must not: put any piece of the string into a message, except the name of a parameter where it
//! cannot be a piece of a password that was not quoted or encoded.

use super::Fault;
use super::params;

/// A parameter as the string has it. No `Debug`: the value may be a password.
pub(super) struct Pair {
    pub(super) name: &'static str,
    pub(super) value: String,
}

/// Takes a connection string apart. A parameter that is there twice is there twice in the result;
/// the last one counts.
pub(super) fn parse(text: &str) -> Result<Vec<Pair>, Fault> {
    let text = text.trim();
    let lower = text.get(..13).unwrap_or(text).to_ascii_lowercase();
    let scheme = ["postgresql://", "postgres://"].into_iter().find(|s| lower.starts_with(s));
    if text.contains('\0') {
        return Err(Fault::new("holds a zero byte", "remove it"));
    }
    if [",postgresql://", ",postgres://"].iter().any(|next| text.contains(next)) {
        return Err(several());
    }
    match scheme {
        Some(scheme) => uri(&text[scheme.len()..]),
        None if text.is_empty() => Err(Fault::new(
            "is empty",
            "write `postgresql://user@host:5432/dbname` or `host=... user=... dbname=...`",
        )),
        None => {
            let head = text.split('=').next().unwrap_or_default();
            if !text.contains('=') || head.contains("://") {
                return Err(Fault::new(
                    "is neither a URI of PostgreSQL nor keyword=value pairs",
                    "write `postgresql://user@host:5432/dbname` or `host=... user=... dbname=...`",
                ));
            }
            keywords(text)
        }
    }
}

/// The connection strings of a list that is separated by commas. A comma separates where the beginning of another
/// string follows: a scheme, or after keywords the name of a parameter; `host=a,b` is one server with two hosts.
pub(super) fn list(text: &str) -> Vec<&str> {
    let text = text.trim();
    let mut items = Vec::new();
    let (mut start, mut uri) = (0, begins_uri(text));
    let (mut quoted, mut escaped) = (false, false);
    // Whether the hosts of a URI are over: before, a comma may separate hosts or stand in a password.
    let mut slashes = 0;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if !uri => escaped = true,
            b'\'' if !uri => quoted = !quoted,
            b'/' if uri => slashes += 1,
            b'?' if uri => slashes += 3,
            b',' if !quoted => {
                let rest = text.get(at + 1..).unwrap_or_default();
                let ended = !uri || slashes > 2;
                if rest.trim_start().is_empty()
                    || begins_uri(rest)
                    || (ended && begins_keywords(rest))
                {
                    items.push(text.get(start..at).unwrap_or_default());
                    (start, uri, slashes) = (at + 1, begins_uri(rest), 0);
                }
            }
            _ => {}
        }
    }
    items.push(text.get(start..).unwrap_or_default());
    items.into_iter().map(str::trim).filter(|item| !item.is_empty()).collect()
}

/// Whether a URI begins here.
fn begins_uri(text: &str) -> bool {
    let text = text.trim_start().as_bytes();
    let begins = |scheme: &str| {
        text.get(..scheme.len()).is_some_and(|head| head.eq_ignore_ascii_case(scheme.as_bytes()))
    };
    begins("postgresql://") || begins("postgres://")
}

/// Whether keywords and values begin here.
fn begins_keywords(text: &str) -> bool {
    // Longer than any parameter; the text may be of any length, and is looked at from every comma.
    const LONGEST: usize = 64;
    let text = text.trim_start().as_bytes();
    let head = text.get(..LONGEST).unwrap_or(text);
    let name = head.iter().position(|b| *b == b'=').and_then(|end| head.get(..end));
    let name = name.and_then(|name| std::str::from_utf8(name).ok());
    name.is_some_and(|name| params::find(name.trim()).is_some())
}

/// The same for URIs without a scheme: another one begins with a host and a slash, once the one before has its own
/// slash; `a,b/trade` is one server with two hosts.
pub(super) fn list_of_uris(text: &str) -> Vec<&str> {
    let pieces: Vec<&str> = text.split(',').collect();
    // Whether a slash comes before whatever else is not in a list of hosts, from each piece on.
    let mut leads: Vec<bool> = Vec::with_capacity(pieces.len());
    for piece in pieces.iter().rev() {
        let first = piece.bytes().find(|b| b"/?=&".contains(b));
        let later = leads.last().copied().unwrap_or(false);
        leads.push(first.map_or(later, |b| b == b'/'));
    }
    leads.reverse();
    let mut items = Vec::new();
    let (mut start, mut at, mut hosts_over) = (0_usize, 0_usize, false);
    for (piece, leads) in pieces.iter().zip(leads) {
        if hosts_over && leads {
            items.push(text.get(start..at.saturating_sub(1)).unwrap_or_default());
            (start, hosts_over) = (at, false);
        }
        let location = piece.split_once("://").map_or(*piece, |(_, location)| location);
        hosts_over |= location.contains(['/', '?']);
        at += piece.len() + 1;
    }
    items.push(text.get(start..).unwrap_or_default());
    items.into_iter().map(str::trim).filter(|item| !item.is_empty()).collect()
}

fn several() -> Fault {
    Fault::new(
        "holds several connection strings",
        "give one, and list the others under `targets` in the file (several hosts of one server \
         go into one string: `host=a,b`)",
    )
}

fn keywords(text: &str) -> Result<Vec<Pair>, Fault> {
    let mut pairs: Vec<Pair> = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let end = rest.find(|c: char| c == '=' || c.is_ascii_whitespace()).unwrap_or(rest.len());
        let (name, tail) = rest.split_at(end);
        let Some(tail) = tail.trim_start().strip_prefix('=') else {
            let before = match pairs.last() {
                Some(last) => format!("a word without `=` after parameter `{}`", last.name),
                None => "it starts with a word without `=`".to_owned(),
            };
            return Err(Fault::new(
                before,
                "put values that hold spaces into single quotes, with `\\` before a quote or \
                 backslash",
            ));
        };
        let Some(parameter) = params::find(name) else {
            // After a password that was badly quoted this may be a piece of it.
            let after_password = pairs.iter().any(|pair| pair.name == "password");
            let mut fault = params::unknown(name, after_password);
            if let Some(last) = pairs.last().filter(|_| after_password) {
                fault.problem.push_str(&format!(" after `{}`", last.name));
                fault.remedy.push_str(
                    " (a password that holds spaces or quotes goes into single quotes, with `\\` \
                     before a quote or backslash)",
                );
            }
            return Err(fault);
        };
        let (value, quoted, tail) = value(tail.trim_start()).ok_or_else(|| {
            Fault::new(
                format!("the quote around the value of `{}` is never closed", parameter.name),
                "close it with a single quote; inside, put `\\` before a quote or backslash",
            )
        })?;
        let next = |p: &params::Parameter| value.contains(&format!(",{}=", p.name));
        if !quoted && parameter.name != "password" && params::PARAMETERS.iter().any(next) {
            return Err(several());
        }
        pairs.push(Pair { name: parameter.name, value });
        rest = tail.trim_start();
    }
    Ok(pairs)
}

/// A value, whether it was quoted, and what follows; `None` if its quote is never closed.
fn value(text: &str) -> Option<(String, bool, &str)> {
    let (quoted, body) = match text.strip_prefix('\'') {
        Some(body) => (true, body),
        None => (false, text),
    };
    let mut value = String::new();
    let mut chars = body.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            '\'' if quoted => return Some((value, true, &body[at + 1..])),
            c if !quoted && c.is_ascii_whitespace() => return Some((value, false, &body[at..])),
            c => value.push(c),
        }
    }
    (!quoted).then_some((value, false, ""))
}

fn uri(text: &str) -> Result<Vec<Pair>, Fault> {
    let encode = |what: &str| {
        Fault::new(
            what,
            "percent-encode special characters in user, password and parameters: `@` as %40, \
             `/` as %2F, `?` as %3F, `:` as %3A, `%` as %25",
        )
    };
    // As in libpq: an `@` before the first `/` ends the credentials.
    let authority_end = text.find(['/', '@']).unwrap_or(text.len());
    let (credentials, rest) = match text[authority_end..].strip_prefix('@') {
        Some(rest) => (Some(&text[..authority_end]), rest),
        None => (None, text),
    };
    // A second one is a piece of a password that nobody encoded, and what precedes it may be too.
    if rest.contains('@') {
        return Err(encode("has an `@` where none may stand"));
    }
    let mut pairs = Vec::new();
    let decoded = |what: &str, text: &str| {
        percent_decode(text).ok_or_else(|| {
            encode(&format!("the {what} holds a `%` that starts no valid percent-encoding"))
        })
    };
    if let Some(credentials) = credentials {
        let (user, password) = match credentials.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (credentials, None),
        };
        if !user.is_empty() {
            pairs.push(Pair { name: "user", value: decoded("user", user)? });
        }
        if let Some(password) = password.filter(|p| !p.is_empty()) {
            pairs.push(Pair { name: "password", value: decoded("password", password)? });
        }
    }
    let (location, query) = match rest.split_once('?') {
        Some((location, query)) => (location, Some(query)),
        None => (rest, None),
    };
    let (hosts, dbname) = match location.split_once('/') {
        Some((hosts, dbname)) => (hosts, dbname),
        None => (location, ""),
    };
    let (mut names, mut ports) = (Vec::new(), Vec::new());
    for host in hosts.split(',') {
        let (name, port) = host_and_port(host)?;
        names.push(decoded("host", name)?);
        ports.push(decoded("port", port)?);
    }
    // Before any parameter is named: without a host, `user:password` looks like `host:port`.
    if ports.iter().any(|port| port.bytes().any(|b| !b.is_ascii_digit())) {
        return Err(encode("the port is not a number"));
    }
    if names.iter().any(|name| !name.is_empty()) {
        pairs.push(Pair { name: "host", value: names.join(",") });
    }
    if ports.iter().any(|port| !port.is_empty()) {
        pairs.push(Pair { name: "port", value: ports.join(",") });
    }
    if !dbname.is_empty() {
        pairs.push(Pair { name: "dbname", value: decoded("database name", dbname)? });
    }
    for item in query.unwrap_or_default().split('&').filter(|item| !item.is_empty()) {
        let Some((name, value)) = item.split_once('=') else {
            return Err(Fault::new(
                "a parameter after the `?` has no `=`",
                "write `?name=value&name=value`",
            ));
        };
        let name = decoded("name of a parameter", name)?;
        let parameter = params::find(&name).ok_or_else(|| params::unknown(&name, false))?;
        let value = decoded(&format!("value of `{}`", parameter.name), value)?;
        pairs.push(Pair { name: parameter.name, value });
    }
    Ok(pairs)
}

fn host_and_port(text: &str) -> Result<(&str, &str), Fault> {
    if let Some(inside) = text.strip_prefix('[') {
        let bad = || {
            Fault::new(
                "an IPv6 address is not closed by `]`, or something other than a port follows",
                "write `[2001:db8::1]:5432`",
            )
        };
        let (address, tail) = inside.split_once(']').ok_or_else(bad)?;
        return match tail.strip_prefix(':') {
            Some(port) => Ok((address, port)),
            None if tail.is_empty() => Ok((address, "")),
            None => Err(bad()),
        };
    }
    match text.split_once(':') {
        Some((_, port)) if port.contains(':') => Err(Fault::new(
            "a host holds several colons",
            "put an IPv6 address into brackets, and write a `:` in a password as %3A",
        )),
        Some(pair) => Ok(pair),
        None => Ok((text, "")),
    }
}

/// `None` where a `%` is not followed by two hexadecimal digits, and for zero bytes and what is not
/// UTF-8.
fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit =
                |b: Option<u8>| (b? as char).to_digit(16).and_then(|d| u8::try_from(d).ok());
            let value = digit(rest.next())? * 16 + digit(rest.next())?;
            if value == 0 {
                return None;
            }
            bytes.push(value);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The pairs as `name=value`, joined by a bar, or the fault after an exclamation mark.
    fn show(text: &str) -> String {
        match parse(text) {
            Ok(pairs) => {
                let shown: Vec<_> =
                    pairs.iter().map(|p| format!("{}={}", p.name, p.value)).collect();
                shown.join(" | ")
            }
            Err(fault) => format!("! {}; {}", fault.problem, fault.remedy),
        }
    }

    #[test]
    fn reads_what_libpq_reads() {
        for (text, expected) in [
            ("postgresql://", ""),
            ("postgresql://h", "host=h"),
            ("Postgres://h", "host=h"),
            ("  postgres://h:5433\n", "host=h | port=5433"),
            ("postgresql://h/trade", "host=h | dbname=trade"),
            ("postgresql://u@h", "user=u | host=h"),
            ("postgresql://u:p@h:1/d", "user=u | password=p | host=h | port=1 | dbname=d"),
            ("postgresql://u:@h", "user=u | host=h"),
            ("postgresql:///d", "dbname=d"),
            ("postgresql:///?host=/run/pg&port=5433", "host=/run/pg | port=5433"),
            ("postgresql://%2Frun%2Fpg:5433/d", "host=/run/pg | port=5433 | dbname=d"),
            ("postgresql://u:a%40b%2Fc%3A%25@h", "user=u | password=a@b/c:% | host=h"),
            ("postgresql://u:a:b@h", "user=u | password=a:b | host=h"),
            ("postgresql://u:a?b#c@h", "user=u | password=a?b#c | host=h"),
            ("postgresql://[2001:db8::1]:5433/d", "host=2001:db8::1 | port=5433 | dbname=d"),
            ("postgresql://[::1]", "host=::1"),
            ("postgresql://a:1,b:2,[::1]/d", "host=a,b,::1 | port=1,2, | dbname=d"),
            (
                "postgresql://h?sslmode=verify-full&application_name=a%20b",
                "host=h | sslmode=verify-full | application_name=a b",
            ),
            ("postgresql://h/%C3%BC", "host=h | dbname=ü"),
            ("host=h", "host=h"),
            (" host = h  port= 5433 ", "host=h | port=5433"),
            ("host=h\tuser=u\npassword=p", "host=h | user=u | password=p"),
            ("password='a b' host=h", "password=a b | host=h"),
            (r"password='it\'s \\ this' host=h", r"password=it's \ this | host=h"),
            (r"password=a\ b\\c host=h", r"password=a b\c | host=h"),
            ("password='' host=h", "password= | host=h"),
            ("password= host=h", "password=host=h"),
            ("password='a'host=h", "password=a | host=h"),
            ("password=a,host=b host=h", "password=a,host=b | host=h"),
            ("host=a,b port=1,2", "host=a,b | port=1,2"),
            ("password=p\\", "password=p"),
            ("dbname=postgres user=üser", "dbname=postgres | user=üser"),
            ("binary_parameters=yes host=h", "binary_parameters=yes | host=h"),
        ] {
            assert_eq!(show(text), expected, "{text}");
        }
    }

    #[test]
    fn refuses_with_a_reason() {
        for (text, said) in [
            ("", "! is empty"),
            ("db.example.com:5432", "! is neither a URI"),
            ("mysql://u:secret@h/db?x=y", "! is neither a URI"),
            ("postgresq://u:secret@h/db", "! is neither a URI"),
            ("postgres://u:se@cret@h/db", "has an `@` where none may stand; percent-encode"),
            ("postgres://u:se/cret@h/db", "has an `@` where none may stand"),
            ("postgres://u:secret/?x@h/db", "has an `@` where none may stand"),
            ("postgres://u:12/x?secret=z@h/db", "has an `@` where none may stand"),
            ("postgres://u:se%cret@h", "the password holds a `%`"),
            ("postgres://u:%00secret@h", "the password holds a `%`"),
            ("postgres://u:%ff@h", "the password holds a `%`"),
            ("postgres://u:%4", "the port holds a `%`"),
            ("postgres://::1/db", "several colons"),
            ("postgres://[::1/db", "not closed by `]`"),
            ("postgres://[::1]5432/db", "not closed by `]`"),
            ("postgres://h/d?sslmode", "has no `=`"),
            ("postgres://u:secret", "the port is not a number; percent-encode"),
            ("postgres://u:sec?cret=x", "the port is not a number"),
            (
                "postgres://h/d?sslmod=disable",
                "unknown parameter `sslmod`; did you mean `sslmode`?",
            ),
            ("postgres://a/d,postgres://b/d", "several connection strings"),
            ("host=a user=x,host=b user=y", "several connection strings"),
            ("host=h hots=b", "unknown parameter `hots`; did you mean `host`?"),
            ("=secret", "unknown parameter; use"),
            ("host=h secret", "a word without `=` after parameter `host`"),
            ("secret host=h", "it starts with a word without `=`"),
            ("password=my secret host=h", "a word without `=` after parameter `password`"),
            ("password=my secret=1 host=h", "unknown parameter after `password`"),
            ("password=x port=1 secret=1", "unknown parameter after `port`; use"),
            ("password='it's secret=1'", "a word without `=` after parameter `password`"),
            ("password=''secret=1", "unknown parameter after `password`; use"),
            (
                "password=x sslmod=require",
                "unknown parameter after `password`; did you mean `sslmode`?",
            ),
            ("password='secret host=h", "the quote around the value of `password`"),
            (r"password='secret\' host=h", "the quote around the value of `password`"),
            ("host=h\0 password=secret", "zero byte"),
        ] {
            let shown = show(text);
            assert!(shown.starts_with('!') && shown.contains(said), "{text}: {shown}");
            assert!(!shown.contains("secret") && !shown.contains("cret"), "{text}: {shown}");
        }
    }

    #[test]
    fn lists_are_split_where_another_server_begins() {
        let split = |text: &str| list(text).join(" | ");
        for (text, expected) in [
            ("postgres://a/d", "postgres://a/d"),
            ("postgres://a/d,postgresql://b/d", "postgres://a/d | postgresql://b/d"),
            ("postgres://a/d, POSTGRES://b/d,", "postgres://a/d | POSTGRES://b/d"),
            ("postgres://a,b/d,postgres://c/d", "postgres://a,b/d | postgres://c/d"),
            ("postgres://a/d,host=b", "postgres://a/d | host=b"),
            ("postgres://u:p,host=x@a/d", "postgres://u:p,host=x@a/d"),
            ("host=a,b port=1,2", "host=a,b port=1,2"),
            ("host=a user=x,host=b user=y", "host=a user=x | host=b user=y"),
            ("host=a password=x,host=b", "host=a password=x | host=b"),
            ("host=a password='x,host=b'", "host=a password='x,host=b'"),
            (r"host=a password='it\'s,host=b',host=c", r"host=a password='it\'s,host=b' | host=c"),
            ("port=5432,port=6432", "port=5432 | port=6432"),
            ("host=a application_name=x,y=z", "host=a application_name=x,y=z"),
            ("host=a,postgres://b/d", "host=a | postgres://b/d"),
            (" , ", ""),
        ] {
            assert_eq!(split(text), expected, "{text}");
        }
        let split = |text: &str| list_of_uris(text).join(" | ");
        for (text, expected) in [
            ("a:1/d?sslmode=disable,b:2/d", "a:1/d?sslmode=disable | b:2/d"),
            ("a,b/d", "a,b/d"),
            ("a:1,b:2", "a:1,b:2"),
            ("a,b/d,c/d", "a,b/d | c/d"),
            ("a/d?options=-c%20x=1,y=2/", "a/d?options=-c%20x=1,y=2/"),
            ("postgres://a/d,postgres://b/d", "postgres://a/d | postgres://b/d"),
        ] {
            assert_eq!(split(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>()) {
            let _ = parse(&text);
            let _ = (list(&text), list_of_uris(&text));
        }

        #[test]
        fn never_panics_near_the_grammar(
            text in "(postgres://|postgresql://|host=|password=')?[a-z0-9:/@?&=%,'\\\\\\[\\] é]{0,40}",
        ) {
            let _ = parse(&text);
        }

        /// Whatever is in a password and however it was put into the string, a fault does not show it.
        #[test]
        fn faults_hold_no_password(
            password in "[ -~]{0,6}Zq7[ -~]{0,6}", quote in 0..4,
        ) {
            let text = match quote {
                0 => format!("postgres://u:{password}@h/db?sslmode=disable"),
                1 => format!("host=h password={password} sslmode=disable"),
                2 => format!("password='{password} host=h"),
                _ => format!("host=h password='{password}' sslmode=disable"),
            };
            if let Err(fault) = parse(&text) {
                prop_assert!(!fault.problem.contains("Zq7"), "{}: {}", text, fault.problem);
                prop_assert!(!fault.remedy.contains("Zq7"), "{}: {}", text, fault.remedy);
            }
        }

        #[test]
        fn encoded_and_quoted_passwords_come_back(password in "[^\0]{1,16}") {
            let quoted = password.replace('\\', "\\\\").replace('\'', "\\'");
            let pairs = parse(&format!("host=h password='{quoted}'"));
            prop_assert_eq!(pairs.ok().map(|p| p[1].value.clone()), Some(password.clone()));
            let encoded: String = password.bytes().map(|b| format!("%{b:02X}")).collect();
            let pairs = parse(&format!("postgres://u:{encoded}@h"));
            prop_assert_eq!(pairs.ok().map(|p| p[1].value.clone()), Some(password));
        }
    }
}
