//! IP addresses and networks, as in `[listen] proxies`.

use std::net::IpAddr;
use std::str::FromStr;

/// A list of addresses and networks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks(Vec<Network>);

/// A network: an address and the length of its prefix in bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    bits: u8,
}

impl Networks {
    /// Parses each text as an address (`127.0.0.1`) or a network (`10.0.0.0/8`, `2001:db8::/32`).
    /// The error is the index of the first invalid text and the reason.
    pub(super) fn read(texts: &[String]) -> Result<Self, (usize, String)> {
        let read = |(at, text): (usize, &String)| text.parse().map_err(|reason| (at, reason));
        texts.iter().enumerate().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// Whether one of the networks contains the address. An IPv4-mapped IPv6 address counts as the
    /// IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(address))
    }
}

impl Network {
    fn contains(self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let shift = 32 - u32::from(self.bits);
                (own.to_bits() ^ other.to_bits()).checked_shr(shift).unwrap_or_default() == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let shift = 128 - u32::from(self.bits);
                (own.to_bits() ^ other.to_bits()).checked_shr(shift).unwrap_or_default() == 0
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("{text:?} is neither an address (127.0.0.1) nor a network (10.0.0.0/8)");
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => bits.parse().map_err(|_| wrong())?,
            Some(_) => return Err(wrong()),
        };
        if bits > most {
            return Err(format!("the prefix in {text:?} is longer than the {most} bits of its address"));
        }
        Ok(Self { address, bits })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> Networks {
        Networks::read(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    fn contains(networks: &Networks, address: &str) -> bool {
        networks.contains(address.parse().unwrap())
    }

    #[test]
    fn a_network_contains_its_addresses_and_no_others() {
        let some = networks(&["127.0.0.1", "10.0.0.0/8", "2001:db8::/32"]);
        for inside in ["127.0.0.1", "10.255.0.1", "::ffff:10.1.2.3", "2001:db8:ffff::1"] {
            assert!(contains(&some, inside), "{inside}");
        }
        for outside in ["127.0.0.2", "11.0.0.1", "2001:db9::1", "::1", "::ffff:127.0.0.2"] {
            assert!(!contains(&some, outside), "{outside}");
        }
        assert!(contains(&networks(&["0.0.0.0/0"]), "192.0.2.1"));
        assert!(!contains(&networks(&["0.0.0.0/0"]), "2001:db8::1"));
        assert!(contains(&networks(&["::/0"]), "2001:db8::1"));
        assert!(!contains(&Networks::default(), "127.0.0.1"));
    }

    #[test]
    fn an_invalid_network_is_refused_with_its_index() {
        for bad in ["", "localhost", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/+8", "10.0.0/8", "10.0.0.0/8/8"] {
            let (at, reason) = Networks::read(&["127.0.0.1".to_owned(), bad.to_owned()]).unwrap_err();
            assert_eq!(at, 1, "{bad}");
            assert!(reason.contains(bad), "{reason}");
        }
    }
}
