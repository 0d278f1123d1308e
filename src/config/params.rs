//! The table of libpq's connection parameters and what we do with each; the reference in the docs
//! derives from it.
//!
//! Must not: ignore in silence what makes a connection safer or chooses another server.

use super::{Fault, suggest};

/// What becomes of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    /// It has its effect.
    Used,
    /// Accepted without effect; the reason is logged.
    Ignored(&'static str),
    /// These values mean what we do anyhow; any other is refused for the reason.
    Only(&'static [&'static str], &'static str),
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameter {
    /// Name in a connection string or service file.
    pub name: &'static str,
    /// libpq's environment variable for it.
    pub env: Option<&'static str>,
    /// What becomes of it.
    pub treatment: Treatment,
}

const fn row(name: &'static str, env: &'static str, treatment: Treatment) -> Parameter {
    let env = if env.is_empty() { None } else { Some(env) };
    Parameter { name, env, treatment }
}

use Treatment::{Ignored, Only, Used};

const OWN_SETTINGS: Treatment =
    Ignored("pgrunway pins its own settings in every transaction and sends none at the start");
const OWN_KEEPALIVES: Treatment = Ignored("pgrunway sets its own keepalives and timeouts");
const NO_GSS: Treatment = Ignored("pgrunway does not use GSSAPI");
const NO_OAUTH: &str = "pgrunway cannot log in by OAuth";
const LIB_PQ: Treatment = Ignored("it is an option of another driver");
const CERTIFICATES: &str = "pgrunway does not check revocation lists";

/// libpq's parameters (up to PostgreSQL 18), then those that other drivers accept.
pub static PARAMETERS: &[Parameter] = &[
    row("host", "PGHOST", Used),
    row("hostaddr", "PGHOSTADDR", Used),
    row("port", "PGPORT", Used),
    row("dbname", "PGDATABASE", Used),
    row("user", "PGUSER", Used),
    row("password", "PGPASSWORD", Used),
    row("passfile", "PGPASSFILE", Used),
    row("service", "PGSERVICE", Used),
    row("servicefile", "PGSERVICEFILE", Used),
    row("application_name", "PGAPPNAME", Used),
    row("fallback_application_name", "", Used),
    row("connect_timeout", "PGCONNECT_TIMEOUT", Used),
    row("sslmode", "PGSSLMODE", Used),
    row("sslrootcert", "PGSSLROOTCERT", Used),
    row("sslcert", "PGSSLCERT", Used),
    row("sslkey", "PGSSLKEY", Used),
    row("requiressl", "PGREQUIRESSL", Used),
    row("ssl", "", Used),
    row("options", "PGOPTIONS", OWN_SETTINGS),
    row("client_encoding", "PGCLIENTENCODING", OWN_SETTINGS),
    row("keepalives", "", OWN_KEEPALIVES),
    row("keepalives_idle", "", OWN_KEEPALIVES),
    row("keepalives_interval", "", OWN_KEEPALIVES),
    row("keepalives_count", "", OWN_KEEPALIVES),
    row("tcp_user_timeout", "", OWN_KEEPALIVES),
    row("sslcompression", "PGSSLCOMPRESSION", Ignored("TLS compression does not exist any more")),
    row("sslsni", "PGSSLSNI", Ignored("the host name is always sent")),
    row(
        "sslcertmode",
        "PGSSLCERTMODE",
        Only(&["allow"], "a client certificate is sent where one is given and the server asks"),
    ),
    row(
        "sslnegotiation",
        "PGSSLNEGOTIATION",
        Only(&["postgres"], "TLS without PostgreSQL's own request is not supported"),
    ),
    row("sslpassword", "", Only(&[], "encrypted client keys are not supported: decrypt the key")),
    row("sslcrl", "PGSSLCRL", Only(&[], CERTIFICATES)),
    row("sslcrldir", "PGSSLCRLDIR", Only(&[], CERTIFICATES)),
    row("sslkeylogfile", "", Only(&[], "pgrunway does not write down TLS keys")),
    row(
        "ssl_min_protocol_version",
        "PGSSLMINPROTOCOLVERSION",
        Only(&["TLSv1", "TLSv1.1", "TLSv1.2"], "the lowest TLS version is 1.2, and is fixed"),
    ),
    row(
        "ssl_max_protocol_version",
        "PGSSLMAXPROTOCOLVERSION",
        Only(&["TLSv1.3"], "the highest TLS version is 1.3, and is fixed"),
    ),
    row("min_protocol_version", "PGMINPROTOCOLVERSION", Only(&["3.0"], "only 3.0 is spoken")),
    row(
        "max_protocol_version",
        "PGMAXPROTOCOLVERSION",
        Ignored("protocol 3.0 is spoken, which every server accepts"),
    ),
    row(
        "target_session_attrs",
        "PGTARGETSESSIONATTRS",
        Only(&["any"], "the hosts are tried in order: name the one server to monitor"),
    ),
    row(
        "load_balance_hosts",
        "PGLOADBALANCEHOSTS",
        Only(&["disable"], "the hosts are tried in order: name the one server to monitor"),
    ),
    row(
        "channel_binding",
        "PGCHANNELBINDING",
        Only(&["disable", "prefer"], "channel binding cannot be demanded yet: use verify-full"),
    ),
    row("require_auth", "PGREQUIREAUTH", Only(&[], "the method cannot be demanded yet")),
    row("requirepeer", "PGREQUIREPEER", Only(&[], "the peer's account is not checked")),
    row("replication", "", Only(&["false", "off", "no", "0"], "pgrunway needs a plain session")),
    row(
        "gssencmode",
        "PGGSSENCMODE",
        Only(&["disable", "prefer"], "GSSAPI encryption is not supported"),
    ),
    row("krbsrvname", "PGKRBSRVNAME", NO_GSS),
    row("gsslib", "PGGSSLIB", NO_GSS),
    row("gssdelegation", "PGGSSDELEGATION", NO_GSS),
    row("authtype", "", Ignored("it has no meaning in libpq either")),
    row("tty", "", Ignored("it has no meaning in libpq either")),
    row("scram_client_key", "", Only(&[], "SCRAM keys are not supported: give a password")),
    row("scram_server_key", "", Only(&[], "SCRAM keys are not supported: give a password")),
    row("oauth_issuer", "", Only(&[], NO_OAUTH)),
    row("oauth_client_id", "", Only(&[], NO_OAUTH)),
    row("oauth_client_secret", "", Only(&[], NO_OAUTH)),
    row("oauth_scope", "", Only(&[], NO_OAUTH)),
    // lib/pq: what is not its own goes to the server as a setting.
    row("binary_parameters", "", LIB_PQ),
    row("disable_prepared_binary_result", "", LIB_PQ),
    row("krbspn", "", NO_GSS),
    row("sslinline", "", Only(&["false"], "certificates must be in files")),
    row("statement_timeout", "", Ignored("set `timeouts.statement` instead")),
    row("lock_timeout", "", Ignored("set `timeouts.lock` instead")),
    row("idle_in_transaction_session_timeout", "", OWN_SETTINGS),
    row("default_transaction_read_only", "", OWN_SETTINGS),
    row("search_path", "", OWN_SETTINGS),
    row("timezone", "", OWN_SETTINGS),
    row("datestyle", "", OWN_SETTINGS),
    row("extra_float_digits", "", OWN_SETTINGS),
];

/// The row of a parameter, by libpq's exact name.
pub fn find(name: &str) -> Option<&'static Parameter> {
    PARAMETERS.iter().find(|parameter| parameter.name == name)
}

/// What to say of a name that is in no row. Not repeated if it may be a piece of a password.
pub(super) fn unknown(name: &str, may_be_secret: bool) -> Fault {
    let near = suggest::nearest(name, PARAMETERS.iter().map(|p| p.name));
    let problem = if suggest::printable(name) && !may_be_secret {
        format!("unknown parameter `{name}`")
    } else {
        "unknown parameter".to_owned()
    };
    match near {
        Some(near) => Fault::new(problem, format!("did you mean `{near}`?")),
        None => Fault::new(problem, "use libpq's parameters, such as host, port, user or sslmode"),
    }
}

impl Parameter {
    /// What there is to say about a value that was given: nothing, a note, or that it is refused.
    pub(super) fn check(&self, value: &str) -> Result<Option<String>, Fault> {
        let name = self.name;
        match self.treatment {
            _ if value.is_empty() => Ok(None),
            Treatment::Used => Ok(None),
            Treatment::Ignored(reason) => Ok(Some(format!("`{name}` is ignored: {reason}"))),
            Treatment::Only(accepted, _) if accepted.contains(&value) => Ok(None),
            Treatment::Only(accepted, reason) => Err(Fault::new(
                format!("this value of `{name}` is not supported: {reason}"),
                match accepted {
                    [] => "leave it out".to_owned(),
                    words => format!("leave it out or use {}", words.join(", ")),
                },
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_variables_are_unique() {
        let mut names: Vec<_> = PARAMETERS.iter().map(|p| p.name).collect();
        let mut envs: Vec<_> = PARAMETERS.iter().filter_map(|p| p.env).collect();
        let (n, e) = (names.len(), envs.len());
        names.sort_unstable();
        names.dedup();
        envs.sort_unstable();
        envs.dedup();
        assert_eq!((names.len(), envs.len()), (n, e));
    }

    #[test]
    fn a_value_is_used_noted_or_refused() {
        let check = |name: &str, value: &str| find(name).unwrap().check(value);
        assert_eq!(check("host", "h"), Ok(None));
        assert_eq!(check("options", ""), Ok(None));
        assert!(check("options", "-c x=y").unwrap().unwrap().starts_with("`options` is ignored"));
        assert_eq!(check("channel_binding", "prefer"), Ok(None));
        let refused = check("channel_binding", "require").unwrap_err();
        assert!(refused.problem.contains("channel binding cannot be demanded"), "{refused:?}");
        assert_eq!(refused.remedy, "leave it out or use disable, prefer");
        assert_eq!(check("sslcrl", "x").unwrap_err().remedy, "leave it out");
    }

    #[test]
    fn unknown_names_get_the_nearest_and_secrets_stay_out() {
        let fault = unknown("sslmod", false);
        assert_eq!(fault.problem, "unknown parameter `sslmod`");
        assert_eq!(fault.remedy, "did you mean `sslmode`?");
        assert_eq!(unknown("hunter2", true).problem, "unknown parameter");
        assert_eq!(unknown("p@ss word", false).problem, "unknown parameter");
    }
}
