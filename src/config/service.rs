//! libpq's `pg_service.conf`: `[name]`, then one parameter a line.
//!
//! Must not: read a file, or put a value into a message.

use super::Fault;
use super::dsn::Pair;
use super::params;

/// A parameter and its line, counted from 1.
pub(super) struct ServiceParameter {
    pub(super) number: usize,
    pub(super) pair: Pair,
}

/// The parameters of a service, or `None` if the file does not define it. Other services' lines are
/// not looked at; the first of two equal parameters counts.
///
/// # Errors
/// The line and what is wrong with it.
pub(super) fn find(
    text: &str,
    service: &str,
) -> Result<Option<Vec<ServiceParameter>>, (usize, Fault)> {
    let mut found: Option<Vec<ServiceParameter>> = None;
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix('[') {
            if found.is_some() {
                break;
            }
            if name.split(']').next() == Some(service) {
                found = Some(Vec::new());
            }
            continue;
        }
        let Some(lines) = &mut found else { continue };
        let Some((name, value)) = line.split_once('=') else {
            let fault = Fault::new("the line has no `=`", "write `name=value`, one a line");
            return Err((number, fault));
        };
        if name == "service" || name == "servicefile" {
            let fault = Fault::new("a service cannot refer to another", "remove this line");
            return Err((number, fault));
        }
        let parameter = params::find(name).ok_or_else(|| (number, params::unknown(name, false)))?;
        if !lines.iter().any(|line| line.pair.name == parameter.name) {
            let pair = Pair { name: parameter.name, value: value.to_owned() };
            lines.push(ServiceParameter { number, pair });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FILE: &str = "# services\n\
        [other]\n\
        nonsense\n\
        [trade]\n\
        \n\
        host=db1\n\
        host=db2\n\
        password=a=b c \n\
        [later]\n\
        hots=x\n\
        [bare]\n\
        nonsense\n\
        [nested]\n\
        service=trade\n";

    #[test]
    fn reads_its_own_section_only() {
        let lines = find(FILE, "trade").unwrap_or_default().unwrap();
        let seen: Vec<_> =
            lines.iter().map(|l| (l.number, l.pair.name, l.pair.value.as_str())).collect();
        assert_eq!(seen, [(6, "host", "db1"), (8, "password", "a=b c")]);
        assert!(matches!(find(FILE, "absent"), Ok(None)));
    }

    #[test]
    fn faults_have_their_line() {
        for (service, line, problem) in [
            ("later", 10, "unknown parameter `hots`"),
            ("bare", 12, "the line has no `=`"),
            ("nested", 14, "a service cannot refer to another"),
        ] {
            let (number, fault) = find(FILE, service).map(|_| ()).unwrap_err();
            assert_eq!((number, fault.problem.as_str()), (line, problem));
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>(), service in "[a-z]{0,3}") {
            let _ = find(&text, &service);
            let _ = find(&format!("[{service}]\n{text}"), &service);
        }
    }
}
