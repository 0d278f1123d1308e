//! What is read from an X.509 certificate beyond what TLS itself verifies.
//!
//! Must not: judge a certificate, or know where it came from.

use std::net::IpAddr;

use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// Unix times at which the certificates of a connection end; none where there is none, or it cannot be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CertificateEnds {
    /// The server's.
    pub server: Option<u64>,
    /// The client's.
    pub client: Option<u64>,
}

/// DNS names, addresses of mail, URIs and IP addresses, as Go writes them.
pub fn alternative_names(der: &[u8]) -> Vec<String> {
    let Ok(certificate) = Certificate::from_der(der) else { return Vec::new() };
    let Ok(Some((_, names))) = certificate.tbs_certificate.get::<SubjectAltName>() else {
        return Vec::new();
    };
    let text = |name: &GeneralName| match name {
        GeneralName::DnsName(name) | GeneralName::Rfc822Name(name) => Some(name.to_string()),
        GeneralName::UniformResourceIdentifier(uri) => Some(uri.to_string()),
        GeneralName::IpAddress(octets) => {
            let bytes = octets.as_bytes();
            let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from).ok();
            let v6 = || <[u8; 16]>::try_from(bytes).map(IpAddr::from).ok();
            v4.or_else(v6).map(|ip| ip.to_canonical().to_string())
        }
        _ => None,
    };
    names.0.iter().filter_map(text).collect()
}

/// Unix time at which a certificate ends.
pub fn not_after(der: &[u8]) -> Option<u64> {
    let certificate = Certificate::from_der(der).ok()?;
    Some(certificate.tbs_certificate.validity.not_after.to_unix_duration().as_secs())
}
