//! TLS of the HTTP port by rustls, from what the web configuration says of it.
//!
//! Must not: log or show a key, or accept a client's certificate that the configured mode refuses.

use std::sync::Arc;

use crate::certificate::{alternative_names, not_after};
use crate::config::web_file::{ClientAuth, Pem, PlacedValue, TlsServer, TlsVersion};
use crate::error::ConfigError;
use crate::handshake::signatures;
use rustls::crypto::{CryptoProvider, SupportedKxGroup, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DistinguishedName, RootCertStore, ServerConfig, SupportedCipherSuite,
    SupportedProtocolVersion, version,
};

/// HTTP/2 and HTTP/1.1, as ALPN has them.
pub(super) const H2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";
/// No file of certificates is larger; a device or a log that was named by mistake is not read to its end.
const LARGEST: u64 = 4 << 20;

/// What the port needs for TLS.
pub(super) struct PortTls {
    pub(super) config: Arc<ServerConfig>,
    /// Unix time at which the server's own certificate ends, where it can be read.
    pub(super) not_after: Option<u64>,
    /// What was accepted without its usual effect.
    pub(super) notes: Vec<String>,
}

/// Reads the certificates and makes the server's side of TLS.
///
/// # Errors
/// A file that cannot be read or used, or nothing that rustls has of what is asked for.
pub(super) fn server(tls: &TlsServer, http2: bool) -> Result<PortTls, ConfigError> {
    let mut notes = Vec::new();
    let provider = Arc::new(provider(tls, &mut notes)?);
    let versions = versions(tls, &provider, &mut notes)?;
    let chain = certificates(&tls.cert)?;
    let key = key(&tls.key)?;
    let verifier = verifier(tls, &provider, &mut notes)?;
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)
        .map_err(|e| {
            refuse(&tls.max.place, e.to_string(), "allow another version or cipher suite")
        })?
        .with_client_cert_verifier(verifier);
    let not_after = chain.first().and_then(|leaf| not_after(leaf));
    let mut config = builder.with_single_cert(chain, key).map_err(|e| {
        let problem = format!("the certificate and the key cannot be used together: {e}");
        refuse(&tls.cert.place, problem, "name the key that belongs to the first certificate")
    })?;
    config.ignore_client_order = tls.server_order && !tls.suites.is_empty();
    config.alpn_protocols =
        if http2 { vec![H2.to_vec(), HTTP1.to_vec()] } else { vec![HTTP1.to_vec()] };
    Ok(PortTls { config: Arc::new(config), not_after, notes })
}

fn refuse(place: &str, problem: impl Into<String>, remedy: &str) -> ConfigError {
    ConfigError::new(place, problem, remedy)
}

/// The suites and curves that were asked for, of those that rustls has.
fn provider(tls: &TlsServer, notes: &mut Vec<String>) -> Result<CryptoProvider, ConfigError> {
    let mut provider = ring::default_provider();
    if !tls.curves.is_empty() {
        provider.kx_groups =
            wanted(&tls.curves, notes, "curve", "CurveP256, CurveP384 or X25519", curve)?;
    }
    if tls.suites.is_empty() {
        return Ok(provider);
    }
    // Those of TLS 1.3 are not to be chosen in Go, and so neither here.
    let of_12 =
        tls.suites.iter().filter(|suite| !is_of_13(&suite.value)).cloned().collect::<Vec<_>>();
    let chosen = match (of_12.is_empty(), tls.max.value) {
        (true, _) => Vec::new(),
        (false, TlsVersion::Tls13) => {
            of_12.iter().filter_map(|suite| found(suite, notes, "cipher suite", suite_12)).collect()
        }
        (false, _) => {
            let remedy =
                "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 or TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256";
            wanted(&of_12, notes, "cipher suite", remedy, suite_12)?
        }
    };
    if !of_12.is_empty() {
        let of_13 = |suite: &SupportedCipherSuite| suite.tls13().is_some();
        provider.cipher_suites.retain(of_13);
        provider.cipher_suites.extend(chosen);
    }
    Ok(provider)
}

fn is_of_13(suite: &str) -> bool {
    !suite.contains("_WITH_")
}

fn suite_12(name: &str) -> Option<SupportedCipherSuite> {
    let named = |suite: &&SupportedCipherSuite| suite.suite().as_str() == Some(name);
    ring::ALL_CIPHER_SUITES.iter().find(named).copied()
}

fn curve(name: &str) -> Option<&'static dyn SupportedKxGroup> {
    match name {
        "X25519" => Some(ring::kx_group::X25519),
        "CurveP256" => Some(ring::kx_group::SECP256R1),
        "CurveP384" => Some(ring::kx_group::SECP384R1),
        _ => None,
    }
}

/// What rustls has under a name; a note where it has nothing.
fn found<T>(
    name: &PlacedValue<String>,
    notes: &mut Vec<String>,
    what: &str,
    find: impl Fn(&str) -> Option<T>,
) -> Option<T> {
    let found = find(&name.value);
    if found.is_none() {
        notes.push(format!(
            "{}: the {what} {} is not offered: rustls does not have it",
            name.place, name.value
        ));
    }
    found
}

/// As [`found`] for a list, of which one must be there.
fn wanted<T>(
    names: &[PlacedValue<String>],
    notes: &mut Vec<String>,
    what: &str,
    remedy: &str,
    find: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, ConfigError> {
    let all: Vec<T> = names.iter().filter_map(|name| found(name, notes, what, &find)).collect();
    match (all.is_empty(), names.first()) {
        (true, Some(first)) => {
            let problem = format!("rustls has no {what} of those listed");
            Err(refuse(&first.place, problem, &format!("add {remedy}")))
        }
        _ => Ok(all),
    }
}

fn versions(
    tls: &TlsServer,
    provider: &CryptoProvider,
    notes: &mut Vec<String>,
) -> Result<Vec<&'static SupportedProtocolVersion>, ConfigError> {
    if tls.max.value < TlsVersion::Tls12 {
        let problem = "TLS before 1.2 is not offered";
        return Err(refuse(&tls.max.place, problem, "write `max_version: TLS12` or `TLS13`"));
    }
    if tls.min.value < TlsVersion::Tls12 {
        notes.push(format!(
            "{}: TLS before 1.2 is not offered, so the least is TLS12",
            tls.min.place
        ));
    }
    let mut versions = Vec::new();
    if tls.max.value == TlsVersion::Tls13 {
        versions.push(&version::TLS13);
    }
    if tls.min.value <= TlsVersion::Tls12 {
        if provider.cipher_suites.iter().any(|suite| suite.tls13().is_none()) {
            versions.push(&version::TLS12);
        } else {
            let text = "TLS 1.2 is not offered: rustls has none of the cipher suites";
            notes.push(format!("{}: {text}", tls.min.place));
        }
    }
    Ok(versions)
}

/// Bytes of a PEM, from wherever it is.
fn bytes(pem: &PlacedValue<Pem>) -> Result<Vec<u8>, ConfigError> {
    use std::io::Read as _;
    let path = match &pem.value {
        Pem::Inline(text) => return Ok(text.expose().as_bytes().to_vec()),
        Pem::File(path) => path,
    };
    let cannot = |e: std::io::Error| {
        let problem = format!("cannot read {}: {e}", path.display());
        refuse(&pem.place, problem, "name a PEM file that pgrunway may read")
    };
    let file = std::fs::File::open(path).map_err(cannot)?;
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > LARGEST {
        return Err(cannot(std::io::Error::other("it is larger than 4 MiB")));
    }
    Ok(bytes)
}

fn certificates(pem: &PlacedValue<Pem>) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let all = CertificateDer::pem_slice_iter(&bytes(pem)?).collect::<Result<Vec<_>, _>>();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        _ => Err(refuse(
            &pem.place,
            "it holds no certificate in PEM",
            "name a file that begins with one",
        )),
    }
}

fn key(pem: &PlacedValue<Pem>) -> Result<PrivateKeyDer<'static>, ConfigError> {
    // What is wrong with it may repeat a piece of it.
    PrivateKeyDer::from_pem_slice(&bytes(pem)?).map_err(|_| {
        let remedy = "name an unencrypted private key";
        refuse(&pem.place, "it holds no private key in PEM that can be used", remedy)
    })
}

fn verifier(
    tls: &TlsServer,
    provider: &Arc<CryptoProvider>,
    notes: &mut Vec<String>,
) -> Result<Arc<dyn ClientCertVerifier>, ConfigError> {
    let inner: Arc<dyn ClientCertVerifier> = match tls.client_auth {
        ClientAuth::None => return Ok(WebPkiClientVerifier::no_client_auth()),
        ClientAuth::Request | ClientAuth::RequireAny => Arc::new(Unverified {
            mandatory: tls.client_auth == ClientAuth::RequireAny,
            algorithms: provider.signature_verification_algorithms,
        }),
        ClientAuth::VerifyIfGiven | ClientAuth::RequireAndVerify => {
            let place = tls.client_ca.as_ref().map_or(&tls.cert.place, |ca| &ca.place);
            let roots = Arc::new(roots(tls, place, notes)?);
            let mut builder = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
            if tls.client_auth == ClientAuth::VerifyIfGiven {
                builder = builder.allow_unauthenticated();
            }
            builder
                .build()
                .map_err(|e| refuse(place, e.to_string(), "name the CA of the clients"))?
        }
    };
    Ok(match &tls.allowed_sans {
        None => inner,
        Some(allowed) => Arc::new(DemandsName {
            inner,
            allowed: allowed.clone(),
            algorithms: provider.signature_verification_algorithms,
        }),
    })
}

/// The clients' authorities; those of the system where none is named, as Go has it.
fn roots(
    tls: &TlsServer,
    place: &str,
    notes: &mut Vec<String>,
) -> Result<RootCertStore, ConfigError> {
    let mut roots = RootCertStore::empty();
    match &tls.client_ca {
        Some(pem) => {
            for certificate in certificates(pem)? {
                roots.add(certificate).map_err(|e| {
                    refuse(
                        place,
                        format!("a certificate cannot be used: {e}"),
                        "name the CA of the clients",
                    )
                })?;
            }
        }
        None => {
            let all = rustls_native_certs::load_native_certs().certs;
            roots.add_parsable_certificates(all);
            let text = "no `client_ca_file` is named, so every client whose certificate a public authority \
                        signed is let in";
            notes.push(format!("{place}: {text}"));
        }
    }
    Ok(roots)
}

/// Asks for a certificate and looks only whether the client has its key.
#[derive(Debug)]
struct Unverified {
    mandatory: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for Unverified {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }
    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    signatures!(self, self.algorithms);
}

/// Demands one of these among the alternative names.
#[derive(Debug)]
struct DemandsName {
    inner: Arc<dyn ClientCertVerifier>,
    allowed: Vec<String>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for DemandsName {
    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }
    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.inner.verify_client_cert(certificate, intermediates, now)?;
        if alternative_names(certificate).iter().any(|name| self.allowed.contains(name)) {
            return Ok(verified);
        }
        Err(rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }

    signatures!(self, self.algorithms);
}
