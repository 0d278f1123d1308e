//! Where a probe may lead: hosts, wildcards, networks and ports.
//!
//! Must not: look a name up; whoever does asks again with each address.

use std::net::IpAddr;

use super::{Fault, wildcard};

const LOCALHOST: &str = "localhost";

/// One line of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
struct AllowedHost {
    host: HostPattern,
    /// Any port if not given.
    ports: Option<(u16, u16)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum HostPattern {
    /// A name, `*` and `?` being wildcards.
    Name(String),
    /// Addresses whose first bits are these.
    Net(IpAddr, u8),
}

/// The list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allow(Vec<AllowedHost>);

impl Allow {
    /// Reads the list's lines.
    pub(super) fn parse(texts: &[String]) -> Result<Self, Fault> {
        texts.iter().map(|text| entry(text.trim())).collect::<Result<_, _>>().map(Self)
    }

    /// Whether a host may be asked for as it was written: an address must be in a network of the list, a name be
    /// on it or have a chance to be in a network of it, once it was looked up.
    pub fn host(&self, host: &str, port: u16) -> bool {
        match address(host) {
            Some(ip) => self.contains(ip, port),
            None => {
                self.names(host, port)
                    || self.of(port).any(|entry| matches!(entry.host, HostPattern::Net(..)))
            }
        }
    }

    /// Whether an address that a host turned out to have may be connected to. A name that is on the list leads
    /// anywhere but to this machine and its link, unless a network of the list says so, or it is `localhost`.
    pub fn address(&self, host: &str, port: u16, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        let named = address(host).is_none() && self.names(host, port);
        // `localhost` is this machine by its name; another name that leads here has been turned around.
        let meant = host.eq_ignore_ascii_case(LOCALHOST)
            && ip.is_loopback()
            && self.of(port).any(|entry| entry.host == HostPattern::Name(LOCALHOST.to_owned()));
        self.contains(ip, port) || meant || (named && !is_near(ip))
    }

    fn of(&self, port: u16) -> impl Iterator<Item = &AllowedHost> {
        let of = move |entry: &&AllowedHost| {
            entry.ports.is_none_or(|(first, last)| (first..=last).contains(&port))
        };
        self.0.iter().filter(of)
    }

    fn names(&self, host: &str, port: u16) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        self.of(port).any(|entry| match &entry.host {
            HostPattern::Name(pattern) => wildcard::matches(pattern, &host),
            HostPattern::Net(..) => false,
        })
    }

    fn contains(&self, ip: IpAddr, port: u16) -> bool {
        self.of(port).any(|entry| match entry.host {
            HostPattern::Net(net, bits) => within(ip, net, bits),
            HostPattern::Name(_) => false,
        })
    }
}

/// A host that is an address, in whichever of its forms.
fn address(host: &str) -> Option<IpAddr> {
    host.trim_matches(['[', ']']).parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

/// This machine, its link, and what is no single machine: where metadata services and the exporter's own
/// neighbours are.
fn is_near(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            ip.is_loopback()
                || ip.is_link_local()
                || ip.is_unspecified()
                || ip.is_multicast()
                || ip.is_broadcast()
                || ip.octets()[0] == 0
        }
        IpAddr::V6(ip) => {
            ip.is_loopback()
                || ip.is_unspecified()
                || ip.is_multicast()
                || ip.is_unicast_link_local()
        }
    }
}

fn within(ip: IpAddr, net: IpAddr, bits: u8) -> bool {
    let (ip, net, all) = match (ip, net) {
        (IpAddr::V4(ip), IpAddr::V4(net)) => {
            (u128::from(ip.to_bits()), u128::from(net.to_bits()), 32)
        }
        (IpAddr::V6(ip), IpAddr::V6(net)) => (ip.to_bits(), net.to_bits(), 128),
        _ => return false,
    };
    let rest = u32::from(all - bits.min(all));
    ip.checked_shr(rest).unwrap_or(0) == net.checked_shr(rest).unwrap_or(0)
}

fn entry(text: &str) -> Result<AllowedHost, Fault> {
    let bad = |problem: &str| {
        Fault::new(
            problem,
            "write a name such as `*.db.internal`, an address or network such as `10.0.0.0/8`, or \
             `[2001:db8::]/32`, each with a port or ports after a colon if need be: `db1:5432-5439`",
        )
    };
    let plain = |text: &str| text.parse::<IpAddr>().is_ok() || text.contains('/');
    let (host, ports) = match text.strip_prefix('[') {
        Some(rest) => {
            let (inside, tail) =
                rest.split_once(']').ok_or_else(|| bad("has a `[` without `]`"))?;
            let (bits, ports) = match tail.rsplit_once(':') {
                Some((bits, ports)) => (bits, Some(ports)),
                None => (tail, None),
            };
            (format!("{inside}{bits}"), ports)
        }
        // An IPv6 address or network without brackets has no port.
        None if text.matches(':').count() > 1 && plain(text) => (text.to_owned(), None),
        None => match text.split_once(':') {
            Some((host, ports)) => (host.to_owned(), Some(ports)),
            None => (text.to_owned(), None),
        },
    };
    let ports = ports.map(|ports| {
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        let pair = first.parse::<u16>().ok().zip(last.parse::<u16>().ok());
        pair.filter(|(first, last)| *first > 0 && first <= last)
            .ok_or_else(|| bad("has no ports from 1 to 65535"))
    });
    let ports = ports.transpose()?;
    let host = match host.split_once('/') {
        Some((net, bits)) => {
            let ip: IpAddr = net.parse().map_err(|_| bad("has no address before its `/`"))?;
            let most = if ip.is_ipv4() { 32 } else { 128 };
            let bits = bits.parse::<u8>().ok().filter(|bits| *bits <= most);
            HostPattern::Net(
                ip,
                bits.ok_or_else(|| bad("has too many bits after its `/`, or none"))?,
            )
        }
        None => match address(&host) {
            Some(ip) => HostPattern::Net(ip, if ip.is_ipv4() { 32 } else { 128 }),
            None => {
                let name = |b: u8| b.is_ascii_alphanumeric() || b"-_.*?".contains(&b);
                let says = |b: u8| b.is_ascii_alphanumeric() || b == b'*';
                if !host.bytes().any(says) || !host.bytes().all(name) {
                    return Err(bad("is neither a name nor an address"));
                }
                HostPattern::Name(host.trim_end_matches('.').to_ascii_lowercase())
            }
        },
    };
    Ok(AllowedHost { host, ports })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn allow(texts: &[&str]) -> Allow {
        Allow::parse(&texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn hosts_wildcards_networks_and_ports() {
        let list = allow(&[
            "db1",
            "*.Shop.internal:5432",
            "10.0.0.0/8:5432-5439",
            "[2001:db8::]/32",
            "::1",
        ]);
        for (host, port, expected) in [
            ("db1", 1, true),
            ("DB1.", 1, true),
            ("db1.example", 6000, false),
            ("a.shop.internal", 5432, true),
            ("a.shop.internal.evil.example", 6000, false),
            ("10.1.2.3", 5432, true),
            ("10.1.2.3", 5440, false),
            ("::ffff:10.1.2.3", 5433, true),
            ("11.1.2.3", 5432, false),
            ("2001:db8::5", 99, true),
            ("2001:db9::5", 99, false),
            ("::1", 5432, true),
            ("127.0.0.1", 5432, false),
        ] {
            // Another name might be in a network of the list, which shows when it is looked up.
            let may = list.host(host, port);
            let ip = address(host);
            match ip {
                Some(ip) => {
                    assert_eq!(may, expected, "{host}:{port}");
                    assert_eq!(list.address(host, port, ip), expected, "{host}:{port}");
                }
                None => assert_eq!(list.names(host, port), expected, "{host}:{port}"),
            }
        }
        assert!(!allow(&["db1"]).host("db2", 5432) && !allow(&[]).host("db1", 5432));
    }

    #[test]
    fn a_name_leads_nowhere_near_and_into_networks_of_the_list_only() {
        let named = allow(&["*.shop.internal", "localhost"]);
        let at = |list: &Allow, host: &str, ip: &str| list.address(host, 5432, ip.parse().unwrap());
        assert!(at(&named, "a.shop.internal", "10.0.0.1"));
        for near in [
            "127.0.0.1",
            "169.254.169.254",
            "0.0.0.0",
            "::1",
            "fe80::1",
            "::ffff:127.0.0.1",
            "224.0.0.1",
        ] {
            assert!(!at(&named, "a.shop.internal", near), "{near}");
        }
        assert!(at(&named, "localhost", "127.0.0.1") && at(&named, "LocalHost", "::1"));
        assert!(!at(&named, "localhost", "169.254.169.254"));
        assert!(!at(&allow(&["local*"]), "localhost", "127.0.0.1"));
        assert!(at(&allow(&["a", "127.0.0.0/8"]), "a", "127.0.0.1"));
        let nets = allow(&["10.0.0.0/8"]);
        assert!(nets.host("any.example", 5432) && at(&nets, "any.example", "10.9.9.9"));
        assert!(!at(&nets, "any.example", "192.168.0.1"));
        // An address is no name, whatever a wildcard would match.
        assert!(
            !allow(&["*"]).host("10.0.0.1", 5432) && !at(&allow(&["*"]), "10.0.0.1", "10.0.0.1")
        );
    }

    #[test]
    fn lines_that_mean_nothing_are_refused() {
        for bad in
            ["", "a b", "db:0", "db:x", "db:9-1", "10.0.0.0/33", "x/8", "[::1", "db:1:2", "a/b"]
        {
            assert!(entry(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>(), host in any::<String>(), port in any::<u16>()) {
            if let Ok(entry) = entry(&text) {
                let list = Allow(vec![entry]);
                let _ = (list.host(&host, port), list.address(&host, port, IpAddr::from([1, 2, 3, 4])));
            }
        }
    }
}
