//! What connection parameters come to.

use super::super::surroundings::Fixed;
use super::*;
use proptest::prelude::*;

const HOME: &str = "/home/ops";

fn from(text: &str, world: &Fixed) -> Result<ParsedTarget, ConfigError> {
    let place = "DATA_SOURCE_NAME".to_owned();
    resolve(Some(&Dsn { text: text.to_owned(), place }), None, world)
}

fn error(text: &str, world: &Fixed) -> String {
    match from(text, world) {
        Ok(target) => panic!("{text}: {:?}", target.connect),
        Err(e) => e.to_string(),
    }
}

fn with_socket_dir() -> Fixed {
    Fixed::new().file("/var/run/postgresql/.s.PGSQL.5432.lock", "")
}

#[test]
fn endpoints_and_names_default_as_in_libpq() {
    let plain = Fixed::new();
    for (text, world, expected) in [
        ("postgresql://", &plain, "ops@localhost:5432/ops"),
        ("postgresql://", &with_socket_dir(), "ops@/var/run/postgresql/.s.PGSQL.5432/ops"),
        ("user=mon", &plain, "mon@localhost:5432/mon"),
        ("user=mon dbname=d host=''", &plain, "mon@localhost:5432/d"),
        ("postgresql://mon@db/trade", &plain, "mon@db:5432/trade"),
        ("postgresql://mon@a:1,b,[::1]:3/d", &plain, "mon@a:1,b:5432,[::1]:3/d"),
        ("user=mon host=a,b,c port=7", &plain, "mon@a:7,b:7,c:7/mon"),
        ("user=mon host=/run/pg,b port=7,8", &plain, "mon@/run/pg/.s.PGSQL.7,b:8/mon"),
        ("user=mon host=db hostaddr=10.0.0.1", &plain, "mon@10.0.0.1:5432/mon"),
        ("user=mon host=a,b hostaddr=10.0.0.1,", &plain, "mon@10.0.0.1:5432,b:5432/mon"),
    ] {
        assert_eq!(from(text, world).unwrap().connect.describe(), expected, "{text}");
    }
    let world = Fixed { account: None, ..Fixed::new() };
    assert!(error("host=h", &world).contains("no user is given"));
}

#[test]
fn the_environment_fills_what_the_string_leaves_out() {
    let world = Fixed::new()
        .env("PGHOST", "envhost")
        .env("PGPORT", "6000")
        .env("PGUSER", "envuser")
        .env("PGDATABASE", "envdb")
        .env("PGPASSWORD", "envpass")
        .env("PGAPPNAME", "envapp")
        .env("PGSSLMODE", "disable")
        .env("PGCONNECT_TIMEOUT", "7");
    let target = resolve(None, None, &world).unwrap();
    assert_eq!(target.connect.describe(), "envuser@envhost:6000/envdb");
    assert_eq!(target.connect.password, Password::Literal(Secret::new("envpass")));
    assert_eq!(target.connect.application_name, "envapp");
    assert_eq!(target.connect.sslmode, SslMode::Disable);
    assert_eq!(target.connect_timeout, Some(Duration::from_secs(7)));
    assert_eq!(target.notes, Vec::<String>::new());

    let target = from("postgresql://u:p@h:1/d?sslmode=prefer&connect_timeout=2", &world).unwrap();
    assert_eq!(target.connect.describe(), "u@h:1/d");
    assert_eq!(target.connect.password, Password::Literal(Secret::new("p")));
    assert_eq!(target.connect.sslmode, SslMode::Prefer);
    assert_eq!(target.connect_timeout, Some(Duration::from_secs(2)));
    // The variable is taken to be meant for the string, as libpq does.
    let mixed = from("host=h hostaddr=''", &world.clone().env("PGHOSTADDR", "10.0.0.9")).unwrap();
    assert_eq!(mixed.connect.describe(), "envuser@h:6000/envdb");
}

#[test]
fn application_names_have_an_order() {
    let world = Fixed::new();
    for (text, expected) in [
        ("host=h", "pgrunway"),
        ("host=h fallback_application_name=f", "f"),
        ("host=h fallback_application_name=f application_name=a", "a"),
    ] {
        assert_eq!(from(text, &world).unwrap().connect.application_name, expected, "{text}");
    }
}

#[test]
fn passwords_have_an_order() {
    let literal = |p: &str| Password::Literal(Secret::new(p));
    let bare = Fixed::new();
    let env = Fixed::new().env("PGPASSWORD", "env").env("PGPASSFILE", "/etc/pass");
    let user = env.clone().env("DATA_SOURCE_PASS", "source");
    let file = user.clone().env("DATA_SOURCE_PASS_FILE", "/run/secret").file("/run/secret", "x\n");
    for (text, world, expected) in [
        ("host=h", &bare, Password::Passfile(format!("{HOME}/.pgpass").into())),
        ("host=h", &env, literal("env")),
        ("host=h password=''", &env, Password::Passfile("/etc/pass".into())),
        ("host=h passfile=/own password=''", &env, Password::Passfile("/own".into())),
        ("host=h", &user, literal("source")),
        ("host=h", &file, Password::File("/run/secret".into())),
        ("host=h password=own", &file, literal("own")),
    ] {
        assert_eq!(from(text, world).unwrap().connect.password, expected, "{text}");
    }
    let homeless = Fixed { account: None, ..Fixed::new() };
    assert_eq!(from("user=u", &homeless).unwrap().connect.password, Password::None);
    let moved = Fixed::new().env("HOME", "/elsewhere");
    let passfile = Password::Passfile("/elsewhere/.pgpass".into());
    assert_eq!(from("user=u", &moved).unwrap().connect.password, passfile);
}

#[test]
fn data_source_variables_and_their_files() {
    let world = Fixed::new()
        .env("DATA_SOURCE_URI", "db:5433/trade?sslmode=disable")
        .env("DATA_SOURCE_USER", "mon")
        .env("DATA_SOURCE_PASS", "p@ss/word");
    let dsn = data_source_uris(&world).unwrap().remove(0);
    assert_eq!(dsn.place, "DATA_SOURCE_URI");
    let target = resolve(Some(&dsn), None, &world).unwrap();
    assert_eq!(target.connect.describe(), "mon@db:5433/trade");
    assert_eq!(target.connect.password, Password::Literal(Secret::new("p@ss/word")));

    // A file wins over the variable beside it; line ends are not part of it.
    let world = world
        .env("DATA_SOURCE_URI_FILE", "/s/uri")
        .env("DATA_SOURCE_USER_FILE", "/s/user")
        .env("DATA_SOURCE_PASS_FILE", "/s/pass")
        .file("/s/uri", "postgresql://other/x\n")
        .file("/s/user", "filed\n")
        .file("/s/pass", "filed\n");
    let dsn = data_source_uris(&world).unwrap().remove(0);
    let target = resolve(Some(&dsn), None, &world).unwrap();
    assert_eq!(target.connect.describe(), "filed@other:5432/x");
    assert_eq!(target.connect.password, Password::File("/s/pass".into()));

    let missing = Fixed::new().env("DATA_SOURCE_PASS_FILE", "hunter2");
    let said = error("host=h", &missing);
    assert!(said.starts_with("DATA_SOURCE_PASS_FILE: cannot read the file"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
}

#[test]
fn services_stand_between_the_string_and_the_environment() {
    let text = "[trade]\nhost=fromservice\nport=6001\nuser=serviced\npassword=filed\n";
    let world = Fixed::new()
        .env("PGPORT", "7000")
        .env("PGDATABASE", "envdb")
        .file("/home/ops/.pg_service.conf", text)
        .file("/etc/postgresql-common/pg_service.conf", "[sys]\nhost=system\n[trade]\nhost=no\n");
    let target = from("service=trade user=own", &world).unwrap();
    assert_eq!(target.connect.describe(), "own@fromservice:6001/envdb");
    assert_eq!(target.connect.password, Password::Literal(Secret::new("filed")));
    let named = world.clone().env("PGSERVICE", "sys");
    assert_eq!(resolve(None, None, &named).unwrap().connect.describe(), "ops@system:7000/envdb");
    let moved = named.env("PGSERVICEFILE", "/own").file("/own", "[sys]\nhost=owned\n");
    assert_eq!(resolve(None, None, &moved).unwrap().connect.describe(), "ops@owned:7000/envdb");

    let said = error("service=absent", &world);
    assert!(said.contains("not defined; define it in one of /home/ops/.pg_service.conf"), "{said}");
    let broken = Fixed::new().file("/home/ops/.pg_service.conf", "[s]\nhots=x\n");
    assert_eq!(
        error("service=s", &broken),
        "/home/ops/.pg_service.conf:2: unknown parameter `hots`; did you mean `host`?"
    );
}

#[test]
fn sslmode_and_certificates() {
    let bare = Fixed::new();
    let certs = Fixed::new()
        .file("/home/ops/.postgresql/root.crt", "")
        .file("/home/ops/.postgresql/postgresql.crt", "")
        .file("/home/ops/.postgresql/postgresql.key", "")
        .file("/own/root", "");
    let default_root = RootCert::File(format!("{HOME}/.postgresql/root.crt").into());
    let own_root = RootCert::File("/own/root".into());
    for (text, world, mode, root) in [
        ("host=h", &bare, SslMode::Prefer, RootCert::None),
        ("host=h ssl=true", &bare, SslMode::Require, RootCert::None),
        ("host=h requiressl=1", &bare, SslMode::Require, RootCert::None),
        ("host=h sslmode=allow", &bare, SslMode::Prefer, RootCert::None),
        ("host=h sslrootcert=system", &bare, SslMode::VerifyFull, RootCert::System),
        ("host=h sslmode=require", &certs, SslMode::Require, default_root.clone()),
        ("host=h sslmode=disable", &certs, SslMode::Disable, RootCert::None),
        ("host=h sslmode=verify-ca sslrootcert=/own/root", &certs, SslMode::VerifyCa, own_root),
        ("host=h sslmode=verify-full", &certs, SslMode::VerifyFull, default_root),
        // No TLS on a Unix socket, so no certificate is missed.
        ("host=/run/pg sslmode=verify-full", &bare, SslMode::VerifyFull, RootCert::None),
    ] {
        let connect = from(text, world).unwrap().connect;
        assert_eq!((connect.sslmode, connect.root_cert), (mode, root), "{text}");
    }
    let pair = |text: &str, world: &Fixed| from(text, world).unwrap().connect.client_cert;
    let default = |name: &str| PathBuf::from(format!("{HOME}/.postgresql/{name}"));
    let both = Some((default("postgresql.crt"), default("postgresql.key")));
    assert_eq!(pair("host=h", &certs), both);
    assert_eq!(pair("host=h sslmode=disable", &certs), None);
    assert_eq!(pair("host=h", &bare), None);

    for (text, world, said) in [
        ("host=h sslmode=verfy-full", &bare, "did you mean `verify-full`?"),
        ("host=h sslmode=hunter2", &bare, "unknown value of sslmode; use one of disable, allow"),
        ("host=h sslmode=verify-ca", &bare, "root.crt does not exist; set sslrootcert"),
        ("host=h sslmode=require sslrootcert=/no", &bare, "sslrootcert names does not exist"),
        ("host=h sslmode=require sslrootcert=system", &bare, "needs sslmode verify-full"),
        ("host=h sslcert=/no", &bare, "sslcert names does not exist"),
        ("host=h sslcert=/own/root", &Fixed::new().file("/own/root", ""), "but no key for it"),
        ("host=h hostaddr=10.0.0.1 sslmode=verify-full", &certs, "leave hostaddr out"),
    ] {
        let message = error(text, world);
        assert!(message.contains(said), "{text}: {message}");
        assert!(!message.contains("hunter2"), "{message}");
    }
}

#[test]
fn notes_tell_what_has_no_effect() {
    let world = Fixed::new().env("PGOPTIONS", "-c geqo=off");
    let target =
        from("host=h sslmode=allow statement_timeout=5 connect_timeout=0", &world).unwrap();
    assert_eq!(target.connect_timeout, None);
    assert_eq!(
        target.notes,
        [
            "PGOPTIONS: `options` is ignored: pgrunway pins its own settings in every transaction \
             and sends none at the start",
            "DATA_SOURCE_NAME: `statement_timeout` is ignored: set `timeouts.statement` instead",
            "DATA_SOURCE_NAME: sslmode `allow` is treated as `prefer`: TLS is tried first",
            "DATA_SOURCE_NAME: connect_timeout without limit is not offered: `timeouts.connect` \
             holds",
        ]
    );
}

#[test]
fn faults_name_the_place_and_the_remedy_and_no_value() {
    let world = Fixed::new().env("PGPORT", "hunter2");
    let message = resolve(None, None, &world).map(|_| ()).unwrap_err().to_string();
    assert!(message.starts_with("PGPORT: the port is not a number from 1 to 65535; "), "{message}");
    let world = Fixed::new();
    for (text, said) in [
        ("postgres://u:hunter2", "the port is not a number"),
        ("host=h port=0", "the port is not a number"),
        ("host=a,b port=1,2,3", "2 hosts, but 3 ports"),
        ("host=a,b hostaddr=10.0.0.1", "lists of different lengths"),
        ("hostaddr=hunter2", "hostaddr is not an IP address"),
        ("host='hunter2 x'", "the host holds a space"),
        ("host=@hunter2", "abstract sockets"),
        ("host=h connect_timeout=hunter2", "not a whole number of seconds"),
        ("host=h channel_binding=require", "channel binding cannot be demanded"),
        ("host=h target_session_attrs=primary", "name the one server"),
        ("host=h sslcrl=/hunter2", "revocation lists; leave it out"),
    ] {
        let message = error(text, &world);
        assert!(message.starts_with("DATA_SOURCE_NAME: "), "{text}: {message}");
        assert!(message.contains(said) && message.contains("; "), "{text}: {message}");
        assert!(!message.contains("hunter2"), "{text}: {message}");
    }
}

proptest! {
    #[test]
    fn never_panics_and_shows_no_password(text in any::<String>(), tail in "[ -~]{0,30}") {
        let world = Fixed::new();
        let _ = from(&text, &world);
        let _ = from(&format!("postgres://u:Zq7@{tail}"), &world).map(|target| {
            assert!(!format!("{:?}", target.connect).contains("Zq7"));
        });
        let _ = from(&format!("host=h password=Zq7 {tail}"), &world)
            .map_err(|e| assert!(!e.to_string().contains("Zq7") && !format!("{e:?}").contains("Zq7")));
    }
}
