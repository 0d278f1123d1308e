//! What every verifier of ours leaves to rustls: the signatures of a handshake, which show that the other side has the
//! key of its certificate.
//!
//! Must not: decide whose certificate is taken.

/// The methods of rustls' `ServerCertVerifier` and `ClientCertVerifier` that look at signatures, by the algorithms of
/// a provider: `signatures!(self, self.algorithms)`.
macro_rules! signatures {
    ($own:ident, $algorithms:expr) => {
        fn verify_tls12_signature(
            &$own,
            message: &[u8],
            cert: &rustls::pki_types::CertificateDer<'_>,
            dss: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            rustls::crypto::verify_tls12_signature(message, cert, dss, &$algorithms)
        }

        fn verify_tls13_signature(
            &$own,
            message: &[u8],
            cert: &rustls::pki_types::CertificateDer<'_>,
            dss: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            rustls::crypto::verify_tls13_signature(message, cert, dss, &$algorithms)
        }

        fn supported_verify_schemes(&$own) -> Vec<rustls::SignatureScheme> {
            $algorithms.supported_schemes()
        }
    };
}
pub(crate) use signatures;
