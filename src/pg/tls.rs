//! TLS by rustls with the meanings that libpq gives `sslmode`, and a deadline on the handshake.
//!
//! Must not: fall back from a mode that verifies to one that does not.

use std::fmt;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::guard::Guarded;
use super::password::private;
use super::socket::Socket;
use crate::certificate::{CertificateEnds, not_after};
use crate::config::{Connect, RootCert, SslMode};
use crate::error::{ConnectError, Source};
use crate::handshake::signatures;

/// Makes TLS connections for one session, each handshake under `limit`.
#[derive(Clone)]
pub(super) struct Tls {
    inner: MakeRustlsConnect,
    limit: Duration,
    /// When the certificate that the server showed ends.
    seen: SeenByHandshake,
    /// When our own ends.
    client: Option<u64>,
}

/// Written by the handshake.
type SeenByHandshake = Arc<OnceLock<Option<u64>>>;

impl Tls {
    /// Reads the certificates that the configuration names; they are read again at every connect.
    pub(super) fn new(connect: &Connect, limit: Duration) -> Result<Self, ConnectError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|e| credentials("TLS protocol versions", e))?;
        let seen = SeenByHandshake::default();
        let verifier = verifier(connect, provider, seen.clone())?;
        let mut client = None;
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        let config = match &connect.client_cert {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let chain = read_certificates(cert)?;
                let key = read_key(key)?;
                client = chain.first().and_then(|leaf| not_after(leaf));
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|e| credentials("client certificate", e))?
            }
        };
        Ok(Self { inner: MakeRustlsConnect::new(config), limit, seen, client })
    }

    /// When the certificates of the handshake end; nothing before it, and without one.
    pub(super) fn certificates(&self) -> CertificateEnds {
        match self.seen.get() {
            Some(server) => CertificateEnds { server: *server, client: self.client },
            None => CertificateEnds::default(),
        }
    }
}

fn credentials(what: impl Into<String>, source: impl Into<Source>) -> ConnectError {
    ConnectError::Credentials { what: what.into(), source: source.into() }
}

/// A key that nobody but its owner may use, or root's that a group may read, as libpq demands.
fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, ConnectError> {
    use std::os::unix::fs::MetadataExt;
    let named = |e: Source| credentials(format!("sslkey {}", path.display()), e);
    let file = std::fs::File::open(path).map_err(|e| named(e.into()))?;
    let metadata = file.metadata().map_err(|e| named(e.into()))?;
    let readable_by_group = if metadata.uid() == 0 { 0o040 } else { 0 };
    private(&metadata, readable_by_group).map_err(|e| named(e.into()))?;
    PrivateKeyDer::from_pem_reader(std::io::BufReader::new(file)).map_err(|e| named(e.into()))
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    let named = |e: Source| credentials(format!("certificate file {}", path.display()), e);
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| named(e.into()))?;
    if certificates.is_empty() {
        return Err(named("it holds no PEM certificate".into()));
    }
    Ok(certificates)
}

/// What the server's certificate must come from.
#[derive(Debug)]
struct TrustAnchors {
    webpki: Arc<WebPkiServerVerifier>,
    /// The roots themselves: one of them may be the server's own certificate.
    certificates: Vec<CertificateDer<'static>>,
}

fn roots(connect: &Connect, provider: Arc<CryptoProvider>) -> Result<TrustAnchors, ConnectError> {
    let mut store = RootCertStore::empty();
    let certificates = match &connect.root_cert {
        RootCert::None => {
            return Err(credentials(
                "sslmode verify-ca and verify-full",
                "need a root certificate: set sslrootcert to a PEM file or to `system`",
            ));
        }
        RootCert::System => {
            let loaded = rustls_native_certs::load_native_certs().certs;
            store.add_parsable_certificates(loaded.iter().cloned());
            if store.is_empty() {
                return Err(credentials("sslrootcert=system", "no certificate could be loaded"));
            }
            loaded
        }
        RootCert::File(path) => {
            let read = read_certificates(path)?;
            for certificate in &read {
                store
                    .add(certificate.clone())
                    .map_err(|e| credentials(format!("sslrootcert {}", path.display()), e))?;
            }
            read
        }
    };
    let webpki = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider)
        .build()
        .map_err(|e| credentials("sslrootcert", e))?;
    Ok(TrustAnchors { webpki, certificates })
}

fn verifier(
    connect: &Connect,
    provider: Arc<CryptoProvider>,
    seen: SeenByHandshake,
) -> Result<Arc<dyn ServerCertVerifier>, ConnectError> {
    let (chain, name) = match connect.sslmode {
        SslMode::Disable | SslMode::Prefer => (false, false),
        // libpq: a root certificate file that is there makes `require` verify the chain.
        SslMode::Require => (connect.root_cert != RootCert::None, false),
        SslMode::VerifyCa => (true, false),
        SslMode::VerifyFull => (true, true),
    };
    let roots = if chain { Some(roots(connect, provider.clone())?) } else { None };
    Ok(Arc::new(Verifier { roots, name, provider, seen }))
}

/// Verifies the chain where there is one to verify, and the host name in its subjectAltName if
/// `name` is set (libpq's `verify-full`). Signatures of the handshake are always verified.
#[derive(Debug)]
struct Verifier {
    roots: Option<TrustAnchors>,
    name: bool,
    provider: Arc<CryptoProvider>,
    seen: SeenByHandshake,
}

/// Whether webpki refuses an authority's certificate because a server uses it as its own.
fn authority_as_server(error: &CertificateError) -> bool {
    let CertificateError::Other(other) = error else { return false };
    other.0.downcast_ref() == Some(&webpki::Error::CaUsedAsEndEntity)
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let _ = self.seen.set(not_after(end_entity));
        let Some(roots) = &self.roots else { return Ok(ServerCertVerified::assertion()) };
        let verified = roots.webpki.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match verified {
            // webpki checks the name last, so reaching this error means that the chain held.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.name => Ok(ServerCertVerified::assertion()),
            // `openssl req -x509` makes an authority, which libpq takes from a server that is trusted
            // by that very certificate. webpki has checked its dates before it says this.
            Err(rustls::Error::InvalidCertificate(e))
                if authority_as_server(&e) && roots.certificates.contains(end_entity) =>
            {
                if self.name {
                    verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                }
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    signatures!(self, self.provider.signature_verification_algorithms);
}

/// What went wrong in a handshake; the session turns it into a [`ConnectError`].
#[derive(Debug)]
pub(super) enum HandshakeError {
    /// Longer than the deadline.
    Timeout,
    /// rustls or the certificate said no.
    Failed(Source),
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("handshake timed out"),
            Self::Failed(source) => write!(f, "{source}"),
        }
    }
}

impl std::error::Error for HandshakeError {}

/// A socket whose bytes are guarded, with TLS or without.
pub(super) type Plain = Guarded<Socket>;
type Inner = <MakeRustlsConnect as MakeTlsConnect<Plain>>::TlsConnect;
type Ciphered = <MakeRustlsConnect as MakeTlsConnect<Plain>>::Stream;

impl MakeTlsConnect<Plain> for Tls {
    type Stream = Guarded<Ciphered>;
    type TlsConnect = Handshake;
    type Error = Source;

    fn make_tls_connect(&mut self, domain: &str) -> Result<Handshake, Source> {
        let inner = MakeTlsConnect::<Plain>::make_tls_connect(&mut self.inner, domain)?;
        Ok(Handshake { inner, limit: self.limit })
    }
}

/// A TLS connector whose handshake ends in time, and after which the plain text is guarded.
pub(super) struct Handshake {
    inner: Inner,
    limit: Duration,
}

impl TlsConnect<Plain> for Handshake {
    type Stream = Guarded<Ciphered>;
    type Error = HandshakeError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Stream, HandshakeError>> + Send>>;

    fn connect(self, mut stream: Plain) -> Self::Future {
        let guard = stream.take_guard();
        let handshake = self.inner.connect(stream);
        Box::pin(async move {
            match tokio::time::timeout(self.limit, handshake).await {
                Err(_) => Err(HandshakeError::Timeout),
                Ok(Err(e)) => Err(HandshakeError::Failed(e.into())),
                Ok(Ok(stream)) => Ok(Guarded::new(stream, guard)),
            }
        })
    }
}
