//! TLS, passwords and headers of the HTTP port, as a real OpenSSL, a real Prometheus and clients that mean no good
//! see them.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use common::http::{self, value};
use common::process::{Process, command, run};
use common::prometheus::Prometheus;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// Nothing listens there: the port answers all the same.
const NOWHERE: &str = "postgresql://mon@127.0.0.1:1/postgres";
const PASSWORD: &str = "pa55:word";

/// A folder with certificates, keys and the web configuration.
struct Folder {
    dir: tempfile::TempDir,
}

impl Folder {
    /// `ca`, `other` (an authority that signed nothing of the server's), `server` for localhost, `client` and
    /// `stranger` by the two authorities, `expired` by the first.
    fn new() -> Self {
        let this = Self { dir: tempfile::tempdir().unwrap() };
        let authority = |name: &str| {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
        };
        let (ca, other) = (authority("test CA"), authority("another CA"));
        this.write("ca.pem", &ca.pem());
        this.write("other.pem", &other.pem());
        for (name, issuer, until) in [
            ("server", &ca, 4000),
            ("next", &ca, 3000),
            ("client", &ca, 4000),
            ("stranger", &other, 4000),
            ("expired", &ca, 2020),
        ] {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(vec![format!("{name}.internal")]).unwrap();
            params.subject_alt_names.extend([
                SanType::DnsName("localhost".try_into().unwrap()),
                SanType::IpAddress("127.0.0.1".parse().unwrap()),
                SanType::URI(format!("spiffe://test/{name}").try_into().unwrap()),
                SanType::Rfc822Name(format!("{name}@example.com").try_into().unwrap()),
            ]);
            params.not_after = rcgen::date_time_ymd(until, 1, 1);
            this.write(&format!("{name}.pem"), &params.signed_by(&key, issuer).unwrap().pem());
            this.write(&format!("{name}.key"), &key.serialize_pem());
        }
        this
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Replaces a file whole, as a careful tool does.
    fn write(&self, name: &str, text: &str) {
        let new = self.path("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.path(name)).unwrap();
    }

    fn copy(&self, from: &str, to: &str) {
        self.write(to, &std::fs::read_to_string(self.path(from)).unwrap());
    }

    async fn serve(&self, web: &str) -> Process {
        self.write("web.yml", web);
        let file = format!("--web.config.file={}", self.text("web.yml"));
        Process::serve(NOWHERE, &[&file]).await
    }

    /// Starts it with a file that must be refused; what it says.
    async fn refused(&self, web: &str) -> String {
        self.write("web.yml", web);
        let file = format!("--web.config.file={}", self.text("web.yml"));
        let args = ["serve", "--web.listen-address=127.0.0.1:0", &file];
        let env = [("DATA_SOURCE_NAME", NOWHERE)];
        let (code, _, said) = run(&args, &env).await;
        assert_eq!(code, 2, "{said}");
        // Who checks before he starts is told the same.
        let (code, _, checked) = run(&["check-config", &file], &env).await;
        assert_eq!((code, &checked), (2, &said));
        said
    }
}

const TLS: &str = "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n";

fn users() -> String {
    format!("basic_auth_users:\n  alice: {}\n", bcrypt::hash(PASSWORD, 4).unwrap())
}

fn basic(user: &str, password: &str) -> String {
    use base64::Engine as _;
    let text = format!("{user}:{password}");
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text))
}

/// What `openssl s_client` says, and what it got for a request.
async fn s_client(address: SocketAddr, args: &[&str], request: &str) -> String {
    let mut child = Command::new("openssl")
        .args(["s_client", "-connect", &address.to_string(), "-ign_eof"])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("openssl is needed: scripts/deps test installs it");
    let mut to = child.stdin.take().unwrap();
    // It may have given up before all is sent.
    let _ = to.write_all(request.as_bytes()).await;
    let out = timeout(Duration::from_secs(30), child.wait_with_output()).await;
    let out = out.expect("openssl ends in time").unwrap();
    drop(to);
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    text(&out.stdout) + &text(&out.stderr)
}

fn get(path: &str, authorization: Option<&str>) -> String {
    let header = authorization.map(|a| format!("Authorization: {a}\r\n")).unwrap_or_default();
    format!("GET {path} HTTP/1.0\r\nHost: x\r\n{header}\r\n")
}

async fn tls_get(address: SocketAddr, path: &str, authorization: Option<&str>) -> String {
    s_client(address, &[], &get(path, authorization)).await
}

/// Whether the port's certificate ends within a day of a time.
fn ends_in(text: &str, at: f64) -> bool {
    value(text, "pgrunway_web_certificate_not_after_timestamp_seconds", &[])
        .is_some_and(|ends| (ends - at).abs() < 86_401.0)
}

/// Waits until what is asked for is as wanted.
async fn until<F: Future<Output = String>>(
    what: &str,
    ask: impl Fn() -> F,
    want: impl Fn(&str) -> bool,
) -> String {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let text = ask().await;
        if want(&text) {
            return text;
        }
        assert!(Instant::now() < end, "{what}: {text}");
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openssl_gets_the_versions_suites_and_curves_of_the_file_and_no_others() {
    let folder = Folder::new();
    let ok = "HTTP/1.0 200 OK";
    let ca = folder.text("ca.pem");
    let ecdsa128 = "ECDHE-ECDSA-AES128-GCM-SHA256";
    let ecdsa256 = "ECDHE-ECDSA-AES256-GCM-SHA384";
    let old = ["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"];
    let both12 = format!("{ecdsa256}:{ecdsa128}");
    type Case<'a> = (&'a str, Vec<(Vec<&'a str>, Option<&'a str>)>);
    let cases: Vec<Case<'_>> = vec![
        (
            "",
            vec![
                (
                    vec!["-CAfile", &ca, "-verify_return_error", "-verify_hostname", "localhost"],
                    Some("New, TLSv1.3"),
                ),
                (vec!["-tls1_2"], Some("New, TLSv1.2")),
                (old.to_vec(), None),
                (vec!["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA"], None),
                (vec!["-alpn", "h2,http/1.1"], Some("ALPN protocol: h2")),
                (vec!["-alpn", "http/1.1"], Some("ALPN protocol: http/1.1")),
            ],
        ),
        (
            "  min_version: TLS13\n",
            vec![(vec!["-tls1_2"], None), (vec!["-tls1_3"], Some("TLSv1.3"))],
        ),
        ("  max_version: TLS12\n", vec![(vec!["-tls1_3"], None), (vec![], Some("New, TLSv1.2"))]),
        ("  min_version: TLS10\n", vec![(old.to_vec(), None), (vec!["-tls1_2"], Some("TLSv1.2"))]),
        (
            "  cipher_suites:\n  - TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256\n  - TLS_RSA_WITH_AES_128_CBC_SHA\n",
            vec![
                (vec!["-tls1_2"], Some(ecdsa128)),
                (vec!["-tls1_2", "-cipher", ecdsa256], None),
                (vec!["-tls1_3"], Some("TLSv1.3")),
            ],
        ),
        // The server's order, and with `false` the client's.
        (
            "  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]\n",
            vec![(vec!["-tls1_2", "-cipher", &both12], Some(ecdsa128))],
        ),
        (
            "  prefer_server_cipher_suites: false\n  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, \
             TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]\n",
            vec![(vec!["-tls1_2", "-cipher", &both12], Some(ecdsa256))],
        ),
        (
            "  curve_preferences: [CurveP384, CurveP521]\n",
            vec![
                (vec!["-curves", "X25519:P-384"], Some("Server Temp Key: ECDH, secp384r1")),
                (vec!["-curves", "X25519"], None),
            ],
        ),
        (
            "http_server_config:\n  http2: false\n",
            vec![(vec!["-alpn", "h2,http/1.1"], Some("ALPN protocol: http/1.1"))],
        ),
    ];
    for (rest, clients) in cases {
        let process = folder.serve(&format!("{TLS}{rest}")).await;
        for (args, want) in clients {
            // HTTP/2 is not spoken by openssl: there only what was agreed on counts.
            let h2 = want == Some("ALPN protocol: h2");
            let request = if h2 { String::new() } else { get("/-/healthy", None) };
            let args = if h2 { [args, vec!["-no_ign_eof"]].concat() } else { args };
            let said = s_client(process.address, &args, &request).await;
            match want {
                Some(want) => assert!(
                    said.contains(want) && (h2 || said.contains(ok)),
                    "{rest} {args:?}: {said}"
                ),
                None => assert!(!said.contains(ok), "{rest} {args:?}: {said}"),
            }
        }
    }
    for (rest, said) in [
        ("  min_version: TLS10\n  max_version: TLS11\n", "TLS before 1.2 is not offered"),
        ("  curve_preferences: [CurveP521]\n", "rustls has no curve of those listed"),
        (
            "  max_version: TLS12\n  cipher_suites: [TLS_RSA_WITH_AES_128_CBC_SHA]\n",
            "no cipher suite of those",
        ),
        (
            "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: none.pem\n",
            "web.yml:5:19: cannot read",
        ),
        (
            "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: server.key\n",
            "no certificate in PEM",
        ),
        ("  unknown: 1\n", "web.yml:4:3: unknown key `unknown`"),
    ] {
        let got = folder.refused(&format!("{TLS}{rest}")).await;
        assert!(got.contains(said), "{rest}: {got}");
    }
    for (web, said) in [
        (TLS.replace("server.pem", "none.pem"), "web.yml:2:14: cannot read"),
        (TLS.replace("server.key", "none.key"), "web.yml:3:13: cannot read"),
        (TLS.replace("server.key", "client.key"), "cannot be used together"),
        (TLS.replace("server.key", "server.pem"), "no private key in PEM"),
    ] {
        let got = folder.refused(&web).await;
        assert!(got.contains(said) && !got.contains("BEGIN"), "{web}: {got}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_certificates_are_asked_for_as_each_mode_says() {
    let folder = Folder::new();
    let ca = "  client_ca_file: ca.pem\n";
    let sans = |list: &str| format!("{ca}  client_allowed_sans: [{list}]\n");
    // Without one, by our authority, by another, expired.
    let all = |mode: &str, rest: &str, want: [bool; 4]| (mode.to_owned(), rest.to_owned(), want);
    let verify = "RequireAndVerifyClientCert";
    for (mode, rest, want) in [
        all("NoClientCert", "", [true; 4]),
        all("RequestClientCert", "", [true; 4]),
        all("RequireAnyClientCert", "", [false, true, true, true]),
        all("RequireClientCert", "", [false, true, true, true]),
        all("VerifyClientCertIfGiven", ca, [true, true, false, false]),
        all(verify, ca, [false, true, false, false]),
        all(verify, &sans("client.internal"), [false, true, false, false]),
        all(verify, &sans("other.internal, spiffe://test/client"), [false, true, false, false]),
        all(verify, &sans("client@example.com"), [false, true, false, false]),
        all(verify, &sans("127.0.0.1"), [false, true, false, false]),
        all(verify, &sans("CLIENT.internal, internal, spiffe://test"), [false; 4]),
        all(
            "RequireAnyClientCert",
            "  client_allowed_sans: [stranger.internal]\n",
            [false, false, true, false],
        ),
    ] {
        let process = folder.serve(&format!("{TLS}  client_auth_type: {mode}\n{rest}")).await;
        for version in ["-tls1_2", "-tls1_3"] {
            for (client, want) in ["", "client", "stranger", "expired"].into_iter().zip(want) {
                let (cert, key) =
                    (folder.text(&format!("{client}.pem")), folder.text(&format!("{client}.key")));
                let args = match client {
                    "" => vec![version],
                    _ => vec![version, "-cert", &cert, "-key", &key],
                };
                let said = s_client(process.address, &args, &get("/metrics", None)).await;
                let got = said.contains("HTTP/1.0 200 OK") && said.contains("pg_up 0");
                assert_eq!(got, want, "{mode} {rest} {version} {client:?}: {said}");
            }
        }
        let (code, _, said) =
            run(&["healthcheck", &format!("--web.listen-address={}", process.address)], &[]).await;
        assert_eq!(code, 0, "{mode}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_read_without_a_password_and_health_checks_go_on() {
    let folder = Folder::new();
    let headers = "http_server_config:\n  headers:\n    X-Frame-Options: deny\n    Strict-Transport-Security: max-age=9\n";
    // A folder of its own: a file that changes counts for whoever reads it.
    let own = Folder::new();
    let plain = own.serve(&format!("{}{headers}", users())).await;
    let secure = folder.serve(&format!("{TLS}{}{headers}", users())).await;
    let right = basic("alice", PASSWORD);
    for (path, found) in [
        ("/metrics", true),
        ("/-/healthy", true),
        ("/", true),
        ("/targets", true),
        ("/none", false),
    ] {
        for (sent, want) in [
            (None, "401"),
            (Some(basic("alice", "wrong")), "401"),
            (Some(basic("nobody", PASSWORD)), "401"),
            (Some(format!("Bearer {PASSWORD}")), "401"),
            (Some(right.clone()), if found { "200" } else { "404" }),
        ] {
            let sent: Vec<(&str, &str)> =
                sent.iter().map(|s| ("Authorization", s.as_str())).collect();
            let got = http::request(plain.address, "GET", path, &sent).await;
            assert_eq!(got.status.to_string(), want, "{path} {sent:?}");
            let challenge = got.headers.get("www-authenticate").map(String::as_str);
            assert_eq!(challenge, (want == "401").then_some("Basic realm=\"pgrunway\""), "{path}");
            assert_eq!(got.headers["x-frame-options"], "deny");
            assert_eq!(got.headers["strict-transport-security"], "max-age=9");
            let text = tls_get(secure.address, path, sent.first().map(|(_, v)| *v)).await;
            assert!(text.contains(&format!("HTTP/1.0 {want}")), "{path} {sent:?}: {text}");
        }
    }
    let sent = [("Authorization", right.as_str())];
    let page = || async { http::request(plain.address, "GET", "/metrics", &sent).await.text() };
    let refused = |text: &str, reason| {
        value(text, "pgrunway_http_unauthorized_total", &[("reason", reason)]).unwrap_or_default()
    };
    // A page is rendered a while before it is scraped.
    let text = until("all are counted", page, |t| {
        refused(t, "missing") >= 5.0 && refused(t, "wrong") >= 10.0
    })
    .await;
    assert_eq!(value(&text, "pgrunway_web_config_last_reload_successful", &[]), Some(1.0));
    assert_eq!(value(&text, "pgrunway_web_certificate_not_after_timestamp_seconds", &[]), None);
    let page = || tls_get(secure.address, "/metrics", Some(&right));
    until("the year 4000", page, |t| ends_in(t, 64_060_588_800.0)).await;

    // Plain HTTP where TLS is spoken is told so, as Go's servers tell it.
    let text = http::get(secure.address, "/metrics").await;
    assert_eq!(text.status, 400);
    assert!(text.text().starts_with("Client sent an HTTP request to an HTTPS server."));
    for process in [&plain, &secure] {
        let listen = format!("--web.listen-address={}", process.address);
        let (code, _, said) = run(&["healthcheck", &listen], &[]).await;
        assert_eq!(code, 0, "{said}");
        let log = process.log().join("\n");
        let hash = std::fs::read_to_string(folder.path("web.yml")).unwrap();
        let hash = hash.split("alice: ").nth(1).unwrap().lines().next().unwrap().to_owned();
        for secret in [PASSWORD, &hash, "nobody", "alice"] {
            assert!(!log.contains(secret), "{log}");
        }
        assert_eq!(log.matches("a wrong user or password").count(), 1, "{log}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_and_users_change_without_a_restart_and_a_broken_file_changes_nothing() {
    let folder = Folder::new();
    folder.copy("server.pem", "tls.pem");
    folder.copy("server.key", "tls.key");
    let tls = "tls_server_config:\n  cert_file: tls.pem\n  key_file: tls.key\n";
    let process = folder.serve(&format!("{tls}{}", users())).await;
    let right = basic("alice", PASSWORD);
    let page = || tls_get(process.address, "/metrics", Some(&right));
    let good = |text: &str| value(text, "pgrunway_web_config_last_reload_successful", &[]);
    until("it is in force", page, |t| good(t) == Some(1.0)).await;
    let healthy = get("/-/healthy", None);
    let serial = || s_client(process.address, &["-showcerts"], &healthy);
    let leaf = |name: &str| {
        let pem = std::fs::read_to_string(folder.path(name)).unwrap();
        pem.lines().nth(1).unwrap().to_owned()
    };
    assert!(serial().await.contains(&leaf("server.pem")));

    // First the certificate and a while later its key, as tools do it.
    folder.copy("next.pem", "tls.pem");
    folder.copy("next.key", "tls.key");
    until("the next certificate", serial, |t| t.contains(&leaf("next.pem"))).await;
    until("the year 3000", page, |t| ends_in(t, 32_503_680_000.0)).await;

    // What is broken, half written or gone changes nothing, and is said once.
    let hash = bcrypt::hash("another", 4).unwrap();
    for broken in [
        "",
        "tls_server_config: [",
        "unknown: 1\n",
        &users(),
        tls,
        "gone",
        "key",
        "basic_auth_users:\n  alice: plain-secret\n",
    ] {
        match broken {
            "gone" => std::fs::remove_file(folder.path("web.yml")).unwrap(),
            "key" => {
                folder.write("web.yml", &format!("{tls}{}", users()));
                folder.copy("client.key", "tls.key");
            }
            text => folder.write("web.yml", text),
        }
        until("it says so", page, |t| good(t) == Some(0.0)).await;
        assert!(serial().await.contains(&leaf("next.pem")), "{broken}");
        assert!(
            tls_get(process.address, "/metrics", None).await.contains("HTTP/1.0 401"),
            "{broken}"
        );
        folder.copy("next.key", "tls.key");
        folder.write("web.yml", &format!("{tls}{}# {broken:?}\n", users()));
        until("it is whole again", page, |t| good(t) == Some(1.0)).await;
    }
    let log = process.log();
    let said = log.iter().filter(|line| line.contains("the web configuration stays as it was"));
    assert_eq!(said.count(), 8, "{log:#?}");
    assert!(!log.join("\n").contains("plain-secret"), "{log:#?}");

    // A user who is gone is out at once, also on a connection that is kept.
    folder.write("web.yml", &format!("{tls}basic_auth_users:\n  bob: {hash}\n"));
    until("alice is out", page, |t| t.contains("HTTP/1.0 401")).await;
    let bob = basic("bob", "another");
    assert!(tls_get(process.address, "/metrics", Some(&bob)).await.contains("HTTP/1.0 200"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_limit_holds_for_all_clients_together() {
    let folder = Folder::new();
    let process = folder.serve("rate_limit:\n  interval: 1h\n  burst: 3\n").await;
    let mut statuses = Vec::new();
    for _ in 0..6 {
        statuses.push(http::get(process.address, "/-/healthy").await.status);
    }
    assert_eq!(statuses, [200, 200, 200, 429, 429, 429]);
    let listen = format!("--web.listen-address={}", process.address);
    assert_eq!(run(&["healthcheck", &listen], &[]).await.0, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prometheus_scrapes_over_http_2_with_password_and_client_certificate() {
    let folder = Folder::new();
    let web = format!(
        "{TLS}  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n{}",
        users()
    );
    let process = folder.serve(&web).await;
    let job = |name: &str, http2: bool| {
        format!(
            "- job_name: {name}\n  scheme: https\n  enable_http2: {http2}\n  basic_auth: {{username: alice, password: '{PASSWORD}'}}\n  \
             tls_config: {{ca_file: {}, cert_file: {}, key_file: {}, server_name: localhost}}\n  \
             static_configs: [{{targets: ['{}']}}]\n",
            folder.text("ca.pem"),
            folder.text("client.pem"),
            folder.text("client.key"),
            process.address
        )
    };
    let config = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n{}{}",
        job("two", true),
        job("one", false)
    );
    let prometheus = Prometheus::configured(&config, &[]).await;
    for job in ["one", "two"] {
        // Over a kept connection, again and again.
        prometheus.wait(&format!("sum_over_time(up{{job=\"{job}\"}}[1m]) >= 5")).await;
        prometheus.wait(&format!("pg_up{{job=\"{job}\"}} == 0")).await;
    }
    let kept = prometheus.wait("pgrunway_http_connections").await;
    assert!(kept.iter().all(|(_, open)| *open <= 4.0), "{kept:?}");
    let closed = prometheus.query("sum(pgrunway_http_connections_closed_total) > 0").await;
    assert!(closed.is_empty(), "a kept connection between two scrapes idles: {closed:?}");
}

/// What a hostile client sends in place of a handshake, until it is closed.
async fn hostile(kind: usize, to: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(to).await?;
    let mut some = [0; 4096];
    match kind {
        // Nothing at all.
        0 => {}
        // A record that never ends, a byte at a time.
        1 => {
            for byte in [22, 3, 1, 64, 0].into_iter().chain(std::iter::repeat(0)) {
                stream.write_all(&[byte]).await?;
                sleep(Duration::from_millis(200)).await;
            }
        }
        // Noise.
        2 => stream.write_all(&[0xa5; 4096]).await?,
        // The largest of lengths.
        3 => stream.write_all(&[22, 3, 3, 255, 255, 1, 255, 255, 255]).await?,
        // Plain HTTP.
        _ => stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await?,
    }
    while stream.read(&mut some).await? > 0 {}
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_handshakes_cost_no_scrape() {
    let folder = Folder::new();
    let process = folder.serve(&format!("{TLS}{}", users())).await;
    let right = basic("alice", PASSWORD);
    let before = process.memory("VmRSS");
    let stop = Arc::<AtomicBool>::default();
    let done = Arc::<[AtomicUsize; 5]>::default();
    let mut attackers = JoinSet::new();
    for n in 0..200 {
        let (stop, done, to) = (stop.clone(), done.clone(), process.address);
        attackers.spawn(async move {
            while !stop.load(Relaxed) {
                let _ = timeout(Duration::from_secs(20), hostile(n % 5, to)).await;
                done[n % 5].fetch_add(1, Relaxed);
                sleep(Duration::from_millis(50)).await;
            }
        });
    }
    let end = Instant::now() + Duration::from_secs(60);
    let mut scrapes = 0;
    // Every kind of them had its end several times: none is held for ever.
    while scrapes < 20 || done.iter().any(|count| count.load(Relaxed) < 40) {
        let text = tls_get(process.address, "/metrics", Some(&right)).await;
        assert!(text.contains("HTTP/1.0 200") && text.contains("\npg_up 0\n"), "{text}");
        scrapes += 1;
        assert!(Instant::now() < end, "{done:?}");
    }
    stop.store(true, Relaxed);
    attackers.abort_all();
    let page = || tls_get(process.address, "/metrics", Some(&right));
    let failed = |t: &str| value(t, "pgrunway_http_tls_handshakes_failed_total", &[]);
    until("they are counted", page, |t| failed(t).is_some_and(|n| n >= 40.0)).await;
    let more = process.memory("VmRSS").saturating_sub(before);
    assert!(more < 32 << 20, "{} MiB more", more >> 20);
}

/// Scrapes over kept connections while others send wrong passwords; the slowest scrape, and what came of the rest.
async fn under_wrong_passwords(
    process: &Process,
    user: &str,
    over: Duration,
    rate: u32,
) -> (Vec<Duration>, [usize; 2], Duration) {
    let (stop, counts) = (Arc::<AtomicBool>::default(), Arc::<[AtomicUsize; 2]>::default());
    let mut attackers = JoinSet::new();
    let clients = 8;
    for client in 0..clients {
        let (stop, counts, to) = (stop.clone(), counts.clone(), process.address);
        // The right user, whose password is guessed, and users that are not there.
        let user = if client % 2 == 0 { user.to_owned() } else { format!("eve{client}") };
        attackers.spawn(async move {
            let mut stream = TcpStream::connect(to).await.unwrap();
            let mut ticks = tokio::time::interval(Duration::from_secs(1) * clients / rate);
            let mut buffer = vec![0; 4096];
            for n in 0_u64.. {
                ticks.tick().await;
                if stop.load(Relaxed) {
                    return;
                }
                let sent = basic(&user, &format!("guess {client} {n}"));
                let request =
                    format!("GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: {sent}\r\n\r\n");
                let answer = async {
                    stream.write_all(request.as_bytes()).await?;
                    stream.read(&mut buffer).await
                };
                let Ok(length) = answer.await else { return };
                let text = String::from_utf8_lossy(&buffer[..length]);
                assert!(text.contains(" 401 ") || text.contains(" 429 "), "{text}");
                counts[usize::from(text.contains(" 429 "))].fetch_add(1, Relaxed);
            }
        });
    }
    let right = basic("alice", PASSWORD);
    let sent = [("Authorization", right.as_str())];
    let start = Instant::now();
    let mut took = Vec::new();
    // On a busy machine it takes longer until they are many.
    let few = || counts.iter().map(|c| c.load(Relaxed)).sum::<usize>() <= 100;
    while start.elapsed() < over || few() && start.elapsed() < Duration::from_secs(120) {
        let answer = http::request(process.address, "GET", "/metrics", &sent).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        took.push(answer.took);
        sleep(Duration::from_millis(20)).await;
    }
    stop.store(true, Relaxed);
    attackers.shutdown().await;
    took.sort();
    let counts = [counts[0].load(Relaxed), counts[1].load(Relaxed)];
    (took, counts, start.elapsed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_passwords_by_the_thousand_cost_the_right_user_nothing() {
    let folder = Folder::new();
    // A cost as people choose it.
    let hash = bcrypt::hash(PASSWORD, 10).unwrap();
    let process = folder.serve(&format!("basic_auth_users:\n  alice: {hash}\n")).await;
    // The first scrape comes in the middle of it, from the same address.
    let over = std::env::var("PGRUNWAY_WRONG_PASSWORDS_FOR").map_or(5, |s| s.parse().unwrap());
    let (took, [wrong, limited], lasted) =
        under_wrong_passwords(&process, "alice", Duration::from_secs(over), 1000).await;
    let at = |share: usize| took[(took.len() - 1) * share / 100];
    println!(
        "{} scrapes beside {wrong} wrong and {limited} refused passwords in {over} s: p50 {:?}, p99 {:?}, max {:?}, \
         first {:?}",
        took.len(),
        at(50),
        at(99),
        at(100),
        took.first()
    );
    assert!(wrong + limited > 100, "{wrong} {limited}");
    // Ten at once and two a second are hashed, whatever comes.
    let most = 10 + 2 * usize::try_from(lasted.as_secs() + 5).unwrap();
    assert!(wrong <= most, "{wrong} were hashed");
    // The machine may be busy with other tests: half of the scrapes show what it takes.
    assert!(at(50) < Duration::from_millis(50), "{:?}", at(50));
    let log = process.log();
    assert!(log.iter().filter(|l| l.contains("wrong")).count() <= 3, "{log:#?}");
    assert!(!log.join("\n").contains("guess"), "{log:#?}");
}

#[tokio::test]
async fn sockets_of_systemd_are_served() {
    // systemd's protocol: the sockets from file 3 on, their number and whom they are for. Perl is everywhere.
    let script = "use Socket; $^F = 10; socket(S, PF_INET, SOCK_STREAM, 0) or die; bind(S, pack_sockaddr_in(0, \
                  inet_aton('127.0.0.1'))) or die; listen(S, 10) or die; fileno(S) == 3 or die 'not 3'; \
                  $ENV{LISTEN_PID} = $$; $ENV{LISTEN_FDS} = 1; exec @ARGV;";
    let whole = command(&["serve", "--web.systemd-socket"], &[("DATA_SOURCE_NAME", NOWHERE)]);
    let process = Process::through(&["perl", "-e", script, "--"], whole).await;
    process.wait("tried", |t| t.contains("pg_up 0")).await;
    let args = ["serve", "--web.systemd-socket"];
    let (code, _, said) = run(&args, &[("DATA_SOURCE_NAME", NOWHERE)]).await;
    assert!(code == 1 && said.contains("systemd hands no socket over"), "{said}");
}

#[tokio::test]
async fn a_port_that_is_open_to_all_is_said_once() {
    let said = "anyone who can reach this port can read the metrics";
    let env = [("DATA_SOURCE_NAME", NOWHERE)];
    let folder = Folder::new();
    folder.write("web.yml", &users());
    let file = format!("--web.config.file={}", folder.text("web.yml"));
    for (args, want) in [
        (vec!["serve", "--web.listen-address=:0"], 1),
        (vec!["serve", "--web.listen-address=127.0.0.1:0"], 0),
        (vec!["serve", "--web.listen-address=:0", &file], 0),
    ] {
        let process = Process::start(&args, &env).await;
        let log = process.log();
        assert_eq!(log.iter().filter(|l| l.contains(said)).count(), want, "{args:?}: {log:#?}");
    }
    let missing = format!("--web.config.file={}", Path::new("/nowhere/web.yml").display());
    let (code, _, text) = run(&["serve", "--web.listen-address=127.0.0.1:0", &missing], &env).await;
    assert!(
        code == 2 && text.contains("--web.config.file: cannot read /nowhere/web.yml"),
        "{text}"
    );
}
