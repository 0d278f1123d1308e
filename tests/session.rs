//! Sessions against a real server: facts, pinned settings, read-only, deadlines.

mod common;

use std::sync::Arc;

use pgrunway::config::{Endpoint, Password};
use pgrunway::error::{CollectError, ConnectError};
use pgrunway::pg::{Clock, Session};

#[tokio::test]
async fn facts_timeouts_and_pins_hold_in_every_transaction() {
    let cluster = common::server().await;
    let session = Session::connect(
        &common::connect(&cluster, "mon"),
        None,
        Arc::new(common::hasty()),
        Clock::start(),
    )
    .await
    .unwrap();
    let server = session.server();
    // Of the programs that were asked for, or scripts/test-versions would prove nothing.
    let binary = cluster.binaries().join("postgres");
    let out = std::process::Command::new(binary).arg("--version").output().unwrap();
    let version = format!("postgres (PostgreSQL) {}", server.version);
    assert_eq!(String::from_utf8_lossy(&out.stdout).trim(), version);
    assert!(server.major() >= 13 && server.reads_all_stats && !server.in_recovery);

    let rows = session
        .read(
            "SELECT current_setting('transaction_read_only') AS ro, \
             current_setting('search_path') AS path, current_setting('TimeZone') AS tz, \
             current_setting('lock_timeout') AS lock",
        )
        .await
        .unwrap();
    let text = |c: &str| rows[0].get::<String>(c).unwrap();
    assert_eq!((text("ro"), text("tz"), text("lock")), ("on".into(), "UTC".into(), "100ms".into()));
    assert_eq!(text("path"), "pg_catalog, pg_temp");

    let slow = session.read("SELECT pg_sleep(5)").await.unwrap_err();
    assert!(matches!(&slow, CollectError::ServerTimeout { sqlstate, .. } if sqlstate == "57014"));
    assert!(!session.is_broken(), "a statement timeout must not cost the session");
    assert_eq!(session.read("SELECT 1 AS one").await.unwrap()[0].get::<i32>("one").unwrap(), 1);

    let wrong = session.read("SELECT 1 AS one").await.unwrap()[0].get::<String>("two").unwrap_err();
    assert!(wrong.to_string().contains("two"), "{wrong}");
}

/// Over TCP the server asks `mon` for a password, which only the passfile knows.
#[tokio::test]
async fn the_passfile_is_read_at_every_connect_and_must_be_private() {
    use std::os::unix::fs::PermissionsExt;
    let cluster = common::server().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pgpass");
    let endpoint = Endpoint::Tcp { host: "127.0.0.1".to_owned(), port: cluster.port() };
    let mut connect = common::connect_to(endpoint, "mon");
    connect.password = Password::Passfile(path.clone());
    let open = || Session::connect(&connect, None, Arc::new(common::settings()), Clock::start());
    let write = |text: &str, mode: u32| {
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    };

    write("127.0.0.1:*:postgres:mon:wrong\n", 0o600);
    let wrong = open().await.map(|_| ()).unwrap_err();
    assert!(
        matches!(&wrong, ConnectError::Refused { sqlstate, .. } if sqlstate == "28P01"),
        "{wrong}"
    );

    write("other:*:*:*:wrong\n127.0.0.1:*:postgres:mon:mon\n", 0o600);
    assert!(open().await.is_ok());

    write("*:*:*:*:mon\n", 0o640);
    let refused = open().await.map(|_| ()).unwrap_err();
    assert_eq!(refused.kind(), "credentials");
    assert!(refused.to_string().contains("(mode 0640); run `chmod 600`"), "{refused}");
}

#[tokio::test]
async fn names_are_quoted_where_the_server_quotes_them() {
    let cluster = common::server().await;
    let admin = common::admin(&cluster, "postgres").await;
    let words = "SELECT word::text, quote_ident(word)::text FROM (SELECT word FROM pg_get_keywords() \
                 UNION ALL VALUES ('orders'), ('Orders'), ('1st'), ('a b'), ('x\"y'), ('größe'), ('')) w (word)";
    let rows = admin.query(words, &[]).await.unwrap();
    assert!(rows.len() > 400, "{}", rows.len());
    for row in rows {
        let (word, quoted): (String, String) = (row.get(0), row.get(1));
        // A later version may have more key words than this server.
        let ours = pgrunway::remedy::quote::ident(&word);
        assert!(
            ours == quoted || (quoted == word && ours == format!("\"{word}\"")),
            "{word}: {ours}"
        );
        assert!(quoted == word || ours != word, "{word} is left bare");
    }
}
