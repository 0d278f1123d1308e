//! The client's side of TLS, for the health check of this machine.
//!
//! Must not: send a secret: whose certificate it is, is not verified.

use std::sync::Arc;

use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::{CertificateDer, IpAddr, ServerName, UnixTime};
use rustls::{AlertDescription, ClientConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::handshake::signatures;

/// The stream under TLS with whoever listens on this machine, whatever its certificate names.
///
/// # Errors
/// The handshake fails.
pub async fn over_tls(stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Anybody(provider.signature_verification_algorithms);
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(std::io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    let peer = IpAddr::from(stream.peer_addr()?.ip());
    TlsConnector::from(Arc::new(config)).connect(ServerName::IpAddress(peer), stream).await
}

/// Whether a handshake or what came after it failed since the server wants a certificate of its clients.
pub fn asks_for_certificate(e: &(dyn std::error::Error + 'static)) -> bool {
    let inner = e.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    let tls = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(tls, Some(rustls::Error::AlertReceived(AlertDescription::CertificateRequired)))
}

/// Takes every certificate whose key the server has.
#[derive(Debug)]
struct Anybody(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    signatures!(self, self.0);
}
