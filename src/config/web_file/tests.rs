//! Files as the exporter-toolkit takes them, and those that it refuses.

use super::*;

const HASH: &str = "$2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG";

fn read(text: &str) -> Result<WebFile, ConfigError> {
    parse(Path::new("/etc/x/web.yml"), text)
}

fn tls(rest: &str) -> Result<WebFile, ConfigError> {
    read(&format!("tls_server_config:\n  cert_file: a.crt\n  key_file: a.key\n{rest}"))
}

#[test]
fn what_the_toolkit_takes_is_taken() {
    assert_eq!(read("").unwrap(), WebFile { http2: true, ..WebFile::default() });
    assert_eq!(read("tls_server_config:\nbasic_auth_users:\n").unwrap().tls, None);
    let all = format!(
        "tls_server_config:\n  cert_file: server.crt\n  key_file: /keys/server.key\n  \
         client_auth_type: \"RequireAndVerifyClientCert\"\n  client_ca_file: ca.pem\n  \
         client_allowed_sans:\n  - prometheus.internal\n  - 10.0.0.1\n  min_version: TLS12\n  \
         max_version: TLS13\n  cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_RSA_WITH_AES_128_CBC_SHA]\n  \
         prefer_server_cipher_suites: no\n  curve_preferences:\n  - X25519\n  - CurveP521\n\
         http_server_config:\n  http2: false\n  headers:\n    X-XSS-Protection: 0\n    \
         X-Frame-Options: deny\n    Content-Security-Policy: \"\"\n\
         basic_auth_users:\n  alice: {HASH}\n  '17': {HASH}\n\
         rate_limit:\n  interval: 1s\n  burst: 20\n"
    );
    let file = read(&all).unwrap();
    let of = file.tls.unwrap();
    assert_eq!(of.cert.value, Pem::File("/etc/x/server.crt".into()), "from the file's own folder");
    assert_eq!(of.key.value, Pem::File("/keys/server.key".into()));
    assert_eq!(of.client_auth, ClientAuth::RequireAndVerify);
    assert_eq!(of.client_ca.unwrap().place, "/etc/x/web.yml:5:19");
    assert_eq!(of.allowed_sans.unwrap(), ["prometheus.internal", "10.0.0.1"]);
    assert_eq!((of.min.value, of.max.value), (TlsVersion::Tls12, TlsVersion::Tls13));
    assert_eq!((of.suites.len(), of.curves.len(), of.server_order), (2, 2, false));
    assert!(!file.http2);
    let headers = [("X-Frame-Options", "deny"), ("X-XSS-Protection", "0")];
    let headers = headers.map(|(n, v)| (n.to_owned(), v.to_owned()));
    assert_eq!(file.headers, headers, "an empty one is not sent");
    assert_eq!(file.users.keys().collect::<Vec<_>>(), ["17", "alice"]);
    assert_eq!(file.rate, Some(RateLimit { interval: Duration::from_secs(1), burst: 20 }));
    assert_eq!(file.notes, [""; 0]);
    for (name, mode) in CLIENT_AUTH {
        let sure = tls(&format!("  client_auth_type: {name}\n")).unwrap().tls.unwrap();
        assert_eq!(sure.client_auth, mode, "{name}");
    }
    let inline = "tls_server_config:\n  cert: |\n    -----BEGIN\n  key: |\n    -----BEGIN\n";
    let inline = read(inline).unwrap().tls.unwrap();
    assert!(
        matches!(inline.cert.value, Pem::Inline(_)) && matches!(inline.key.value, Pem::Inline(_))
    );
    assert_eq!(read("rate_limit:\n  interval: 0\n  burst: 3\n").unwrap().rate, None);
    let off = read("tls_server_config:\n  min_version: TLS13\n").unwrap();
    assert!(off.tls.is_none() && off.notes[0].contains("TLS is off"), "{:?}", off.notes);
    let both = tls("  cert: x\n").unwrap();
    assert_eq!(both.notes, ["/etc/x/web.yml:4:9: `cert` has no effect beside `cert_file`"]);
}

#[test]
fn what_the_toolkit_refuses_is_refused_at_its_place() {
    let user = |hash: &str| format!("basic_auth_users:\n  alice: {hash}\n");
    for (text, place, said) in [
        ("tls_config:\n  cert_file: a\n", ":1:1", "unknown key `tls_config`"),
        ("tls_server_config:\n  cert_filse: a\n", ":2:3", "did you mean `cert_file`?"),
        ("just text\n", ":1:1", "must hold keys, not text"),
        ("- a\n", ":1:1", "must hold keys, not a list"),
        ("tls_server_config: [\n", "", ""),
        ("tls_server_config:\n  cert_file: a\n  cert_file: b\n", ":3:3", "twice"),
        ("tls_server_config:\n  key_file: a\n", ":2:3", "no certificate"),
        ("tls_server_config:\n  cert_file: ''\n  key_file: a\n", ":2:3", "no certificate"),
        ("tls_server_config:\n  cert_file: a\n", ":2:3", "no key"),
        ("http_server_config:\n  http2: maybe\n", ":2:10", "neither true nor false"),
        ("http_server_config:\n  headers:\n    Server: x\n", ":3:5", "unknown key `Server`"),
        ("http_server_config:\n  headers:\n    x-frame-options: deny\n", ":3:5", "X-Frame-Options"),
        (
            "http_server_config:\n  headers:\n    X-Frame-Options: allow\n",
            ":3:22",
            "deny or sameorigin",
        ),
        (
            "http_server_config:\n  headers:\n    X-Content-Type-Options: sniff\n",
            ":3:29",
            "nosniff",
        ),
        (
            "http_server_config:\n  headers:\n    X-XSS-Protection: \"1\\r\\nSet-Cookie: a\"\n",
            ":3:23",
            "no header",
        ),
        ("basic_auth_users:\n  'a:b': x\n", ":2:3", "colon"),
        ("basic_auth_users:\n- alice\n", ":2:3", "not a list"),
        ("rate_limit:\n  interval: often\n", ":2:13", "not a duration"),
        ("rate_limit:\n  interval: 1s\n  burst: -1\n", ":3:10", "`burst`"),
        (&user("secret-in-clear"), ":2:10", "no bcrypt hash"),
        (&user("$2y$10$short"), ":2:10", "60 characters"),
        (&user(&HASH.replace("$10$", "$31$")), ":2:10", "cost"),
        (&user(&HASH.replace("$2y$", "$1y$")), ":2:10", "no bcrypt hash"),
        (&user("123"), ":2:10", "a number"),
    ] {
        let e = read(text).unwrap_err();
        let whole = e.to_string();
        assert!(
            e.place.starts_with("/etc/x/web.yml") && e.place.ends_with(place),
            "{text}: {whole}"
        );
        assert!(whole.contains(said), "{text}: {whole}");
        assert!(!whole.contains("secret-in-clear") && !whole.contains(HASH), "{whole}");
    }
    for (rest, place, said) in [
        ("  client_auth_type: RequireClient\n", ":4:21", "choose one of NoClientCert"),
        ("  client_ca_file: ca.pem\n", ":4:19", "no certificate is asked of clients"),
        ("  client_allowed_sans: [a]\n", ":4:24", "needs a client certificate"),
        (
            "  client_auth_type: VerifyClientCertIfGiven\n  client_allowed_sans: [a]\n",
            ":5:24",
            "needs a client",
        ),
        (
            "  client_auth_type: RequestClientCert\n  client_allowed_sans: [a]\n",
            ":5:24",
            "needs a client",
        ),
        ("  min_version: TLS15\n", ":4:16", "knows no such value"),
        ("  min_version: TLS13\n  max_version: TLS12\n", ":4:16", "above `max_version`"),
        ("  cipher_suites: [TLS_INVENTED]\n", ":4:19", "knows no such value"),
        ("  cipher_suites: TLS_AES_128_GCM_SHA256\n", ":4:18", "must be a list"),
        ("  curve_preferences: [CurveP257]\n", ":4:23", "did you mean `CurveP25"),
    ] {
        let e = tls(rest).unwrap_err();
        assert!(e.place.ends_with(place) && e.to_string().contains(said), "{rest}: {e}");
    }
}
