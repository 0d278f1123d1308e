//! libpq's `sslmode` against a real server with TLS, and logins that are refused.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pgrunway::cmd::cluster::Cluster;
use pgrunway::config::{Connect, Endpoint, Password, RootCert, Secret, SslMode};
use pgrunway::error::ConnectError;
use pgrunway::pg::{Clock, Session};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// A CA, another CA that signed nothing, and a server key signed for `localhost` only. Then one key
/// whose certificates it signed itself, as `openssl req -x509` does: for `localhost`, and expired.
struct Keys {
    dir: tempfile::TempDir,
}

impl Keys {
    fn make() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = |name: &str| {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
        };
        let ca = authority("test CA");
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let cert = params.signed_by(&key, &ca).unwrap();
        let own_key = KeyPair::generate().unwrap();
        let signed_itself = |until: i32| {
            let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.not_after = rcgen::date_time_ymd(until, 1, 1);
            params.self_signed(&own_key).unwrap().pem()
        };
        for (name, text) in [
            ("own.pem", signed_itself(4000)),
            ("expired.pem", signed_itself(2020)),
            ("own.key", own_key.serialize_pem()),
            ("ca.pem", ca.pem()),
            ("other.pem", authority("another CA").pem()),
            ("server.pem", cert.pem()),
            ("server.key", key.serialize_pem()),
        ] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        // The server runs as another user where we are root, and insists on a private key file.
        let owner = nix::unistd::User::from_name("postgres").unwrap();
        if let Some(owner) = owner.filter(|_| nix::unistd::geteuid().is_root()) {
            for name in ["", "server.key", "own.key"] {
                let path = dir.path().join(name);
                chown(path, Some(owner.uid.as_raw()), Some(owner.gid.as_raw())).unwrap();
            }
        }
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(dir.path().join("server.key"), private.clone()).unwrap();
        std::fs::set_permissions(dir.path().join("own.key"), private).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

fn over_tcp(cluster: &Cluster, host: &str, sslmode: SslMode, root: Option<&Path>) -> Connect {
    let endpoint = Endpoint::Tcp { host: host.to_owned(), port: cluster.port() };
    let mut connect = common::connect_to(endpoint, "mon");
    connect.password = Password::Literal(Secret::new("mon"));
    connect.sslmode = sslmode;
    connect.root_cert = root.map_or(RootCert::None, |p| RootCert::File(p.to_owned()));
    connect
}

async fn try_connect(connect: &Connect) -> Result<Session, ConnectError> {
    Session::connect(connect, None, Arc::new(common::settings()), Clock::start()).await
}

/// Whether the session is encrypted, as the server sees it; or the kind of the error.
async fn encrypted(connect: &Connect) -> Result<bool, &'static str> {
    let session = try_connect(connect).await.map_err(|e| e.kind())?;
    let rows = session
        .read(
            "SELECT s.ssl FROM pg_catalog.pg_stat_ssl s WHERE s.pid = pg_catalog.pg_backend_pid()",
        )
        .await
        .unwrap();
    Ok(rows[0].get::<bool>("ssl").unwrap())
}

#[tokio::test]
async fn sslmode_means_what_libpq_says() {
    let keys = Keys::make();
    let text = |name: &str| keys.path(name).to_str().unwrap().to_owned();
    let (cert, key) = (text("server.pem"), text("server.key"));
    let settings = [("ssl", "on"), ("ssl_cert_file", &*cert), ("ssl_key_file", &*key)];
    let cluster = common::server_with(&settings, &[]).await;
    let (ca, other) = (keys.path("ca.pem"), keys.path("other.pem"));
    let (ca, other) = (Some(ca.as_path()), Some(other.as_path()));

    use SslMode::{Disable, Prefer, Require, VerifyCa, VerifyFull};
    for (host, mode, root, want) in [
        ("localhost", Disable, None, Ok(false)),
        ("localhost", Prefer, None, Ok(true)),
        ("localhost", Require, None, Ok(true)),
        ("localhost", Require, ca, Ok(true)),
        // A root certificate that is given makes `require` verify the chain, as libpq does.
        ("localhost", Require, other, Err("tls")),
        ("localhost", VerifyCa, ca, Ok(true)),
        ("localhost", VerifyCa, other, Err("tls")),
        ("localhost", VerifyCa, None, Err("credentials")),
        ("localhost", VerifyFull, ca, Ok(true)),
        ("localhost", VerifyFull, other, Err("tls")),
        // The certificate names localhost, not the address.
        ("127.0.0.1", VerifyCa, ca, Ok(true)),
        ("127.0.0.1", VerifyFull, ca, Err("tls")),
    ] {
        let got = encrypted(&over_tcp(&cluster, host, mode, root)).await;
        assert_eq!(got, want, "{host} {mode:?} {root:?}");
    }
}

#[tokio::test]
async fn a_certificate_that_signed_itself_is_trusted_by_itself() {
    let keys = Keys::make();
    let served = keys.path("served.pem");
    let key = keys.path("own.key");
    std::fs::copy(keys.path("own.pem"), &served).unwrap();
    let files = [served.to_str().unwrap().to_owned(), key.to_str().unwrap().to_owned()];
    let settings = [("ssl", "on"), ("ssl_cert_file", &*files[0]), ("ssl_key_file", &*files[1])];
    let mut cluster = common::server_with(&settings, &[]).await;

    use SslMode::{Require, VerifyCa, VerifyFull};
    for (host, mode, root, want) in [
        ("localhost", Require, "own.pem", Ok(true)),
        ("localhost", VerifyCa, "own.pem", Ok(true)),
        ("localhost", VerifyFull, "own.pem", Ok(true)),
        ("127.0.0.1", VerifyCa, "own.pem", Ok(true)),
        ("127.0.0.1", VerifyFull, "own.pem", Err("tls")),
        // Its own key and name in another certificate are not what is trusted.
        ("localhost", VerifyCa, "expired.pem", Err("tls")),
        ("localhost", VerifyFull, "ca.pem", Err("tls")),
    ] {
        let root = keys.path(root);
        let got = encrypted(&over_tcp(&cluster, host, mode, Some(&root))).await;
        assert_eq!(got, want, "{host} {mode:?} {root:?}");
    }

    std::fs::copy(keys.path("expired.pem"), &served).unwrap();
    cluster.restart().await.unwrap();
    let expired = keys.path("expired.pem");
    for mode in [Require, VerifyCa, VerifyFull] {
        let got = encrypted(&over_tcp(&cluster, "localhost", mode, Some(&expired))).await;
        assert_eq!(got, Err("tls"), "{mode:?}");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_tls_is_required() {
    let cluster = common::server().await;
    let prefer = over_tcp(&cluster, "127.0.0.1", SslMode::Prefer, None);
    assert_eq!(encrypted(&prefer).await, Ok(false));
    for mode in [SslMode::Require, SslMode::VerifyFull] {
        let mut connect = over_tcp(&cluster, "127.0.0.1", mode, None);
        connect.root_cert = RootCert::System;
        assert_eq!(encrypted(&connect).await, Err("tls"), "{mode:?}");
    }
}

#[tokio::test]
async fn a_refused_login_names_the_reason_and_not_the_password() {
    let cluster = common::server().await;
    let mut connect = over_tcp(&cluster, "127.0.0.1", SslMode::Disable, None);
    connect.password = Password::Literal(Secret::new("hunter2-wrong"));
    let e = try_connect(&connect).await.err().unwrap();
    assert!(matches!(&e, ConnectError::Refused { sqlstate, .. } if sqlstate == "28P01"), "{e}");
    assert!(!format!("{e} {e:?} {connect:?}").contains("hunter2"), "{e:?}");

    connect.password = Password::Literal(Secret::new("mon"));
    connect.dbname = "nowhere".to_owned();
    let e = try_connect(&connect).await.err().unwrap();
    assert!(matches!(&e, ConnectError::Refused { sqlstate, .. } if sqlstate == "3D000"), "{e}");
}

#[tokio::test]
async fn a_password_file_is_read_again_at_every_connect() {
    let cluster = common::server().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    let mut connect = over_tcp(&cluster, "127.0.0.1", SslMode::Disable, None);
    connect.password = Password::File(file.clone());
    assert_eq!(encrypted(&connect).await, Err("credentials"));
    std::fs::write(&file, "old\n").unwrap();
    assert_eq!(encrypted(&connect).await, Err("refused"));
    std::fs::write(&file, "mon\n").unwrap();
    assert_eq!(encrypted(&connect).await, Ok(false));
}

#[tokio::test]
async fn a_client_key_that_others_may_read_is_refused_as_libpq_does() {
    use std::os::unix::fs::MetadataExt;
    let keys = Keys::make();
    let (cert, key) = (keys.path("own.pem"), keys.path("client.key"));
    std::fs::copy(keys.path("own.key"), &key).unwrap();
    let root = std::fs::metadata(&key).unwrap().uid() == 0;
    let cluster = common::server().await;
    let mut connect = over_tcp(&cluster, "127.0.0.1", SslMode::Prefer, None);
    connect.client_cert = Some((cert, key.clone()));
    for (mode, good) in
        [(0o600, true), (0o400, true), (0o640, root), (0o660, false), (0o604, false)]
    {
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
        match try_connect(&connect).await {
            Ok(_) => assert!(good, "{mode:o}"),
            Err(e) => {
                assert!(!good && e.kind() == "credentials", "{mode:o}: {e}");
                let said = e.to_string();
                assert!(said.contains("sslkey") && said.contains("chmod 600"), "{said}");
            }
        }
    }
}
