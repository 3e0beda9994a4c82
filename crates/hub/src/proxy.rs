//! Which proxy a request takes, by the environment variables that curl goes by (its manual, "ENVIRONMENT").

use std::net::IpAddr;

use crate::error::SourceError;

/// The value of an environment variable.
pub(crate) type Variable<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The proxy for a host, by the scheme of the request. `HTTP_PROXY` does not count: a web server sets it for
/// its programs from a header of the caller's.
///
/// # Errors
/// [`SourceError::Proxy`] where the variable names a kind that is not spoken here.
pub(crate) fn proxy_for(
    (scheme, host): (&str, &str),
    variable: Variable<'_>,
) -> Result<Option<String>, SourceError> {
    let names: &[&'static str] = match scheme {
        "https" => &["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"],
        _ => &["http_proxy", "all_proxy", "ALL_PROXY"],
    };
    let set = |name: &&'static str| Some((*name, filled(variable(name))?));
    let Some((name, proxy)) = names.iter().find_map(set) else {
        return Ok(None);
    };
    let but_for = ["no_proxy", "NO_PROXY"];
    let but_for = but_for.iter().find_map(|name| filled(variable(name)));
    if but_for.is_some_and(|list| is_excepted(host, &list)) {
        return Ok(None);
    }
    let kind = proxy.split_once("://").map_or("http", |(kind, _)| kind);
    // The value is not shown: it may hold a password.
    match kind.to_ascii_lowercase().as_str() {
        "http" | "https" => Ok(Some(proxy)),
        _ => Err(SourceError::Proxy {
            variable: name,
            detail: format!("a proxy of kind {kind:?} is not supported; http and https are"),
        }),
    }
}

fn filled(value: Option<String>) -> Option<String> {
    value.filter(|value| !value.is_empty())
}

/// Whether a host is in a list of names, their domains, addresses and ranges; `*` alone is every host.
fn is_excepted(host: &str, list: &str) -> bool {
    let host = bare(host);
    if list.trim() == "*" {
        return true;
    }
    let entries = list.split([',', ' ', '\t']);
    let mut entries = entries.filter(|entry| !entry.is_empty());
    match host.parse::<IpAddr>() {
        Ok(address) => entries.any(|entry| has_address(entry, address)),
        Err(_) => entries.any(|entry| {
            let name = bare(entry.strip_prefix('.').unwrap_or(entry));
            let rest = host.strip_suffix(name.as_str());
            !name.is_empty() && rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        }),
    }
}

/// A host's name without what does not matter: case, the dot of the root, an address's brackets.
fn bare(host: &str) -> String {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.trim_end_matches('.').to_ascii_lowercase()
}

/// By `10.0.0.1` or `10.0.0.0/8`, of either family.
fn has_address(entry: &str, address: IpAddr) -> bool {
    let (network, bits) = entry.split_once('/').unwrap_or((entry, "128"));
    let (Ok(network), Ok(bits)) = (bare(network).parse::<IpAddr>(), bits.parse::<u32>()) else {
        return false;
    };
    let differ = match (network, address) {
        (IpAddr::V4(a), IpAddr::V4(b)) => u128::from(u32::from(a) ^ u32::from(b)) << 96,
        (IpAddr::V6(a), IpAddr::V6(b)) => u128::from(a) ^ u128::from(b),
        _ => return false,
    };
    bits <= 128 && differ.leading_zeros() >= bits.min(if network.is_ipv4() { 32 } else { 128 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(set: &[(&str, &str)], url: (&str, &str), expected: Option<&str>) {
        let of = |name: &str| {
            let found = set.iter().find(|(n, _)| *n == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let found = proxy_for(url, &of).expect("a kind that is spoken");
        assert_eq!(found.as_deref(), expected, "{set:?} {url:?}");
    }

    const HTTPS: (&str, &str) = ("https", "hub.example.org");
    const HTTP: (&str, &str) = ("http", "hub.example.org");

    #[test]
    fn each_scheme_has_its_own_proxy() {
        let all = [
            ("HTTPS_PROXY", "http://s:1"),
            ("http_proxy", "http://p:1"),
            ("ALL_PROXY", "http://a:1"),
        ];
        check(&[], HTTPS, None);
        check(&all, HTTPS, Some("http://s:1"));
        check(&all, HTTP, Some("http://p:1"));
        check(&all[1..], HTTPS, Some("http://a:1"));
        check(&all[..1], HTTP, None);
        check(&[("HTTP_PROXY", "http://u:1")], HTTP, None);
        check(&[("HTTP_PROXY", "http://u:1")], HTTPS, None);
        check(
            &[("https_proxy", "low"), ("HTTPS_PROXY", "up")],
            HTTPS,
            Some("low"),
        );
        check(
            &[("https_proxy", ""), ("HTTPS_PROXY", "up")],
            HTTPS,
            Some("up"),
        );
        check(&[("HTTPS_PROXY", "")], HTTPS, None);
    }

    #[test]
    fn hosts_that_are_excepted_take_none() {
        let excepted = |list: &str, host: &str| {
            let set = [("HTTPS_PROXY", "p"), ("NO_PROXY", list)];
            let of = |name: &str| {
                let found = set.iter().find(|(n, _)| *n == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            proxy_for(("https", host), &of).unwrap().is_none()
        };
        for (list, host) in [
            ("*", "any.org"),
            ("example.org", "example.org"),
            ("example.org", "Hub.Example.ORG."),
            (".example.org", "example.org"),
            ("a, b example.org", "hub.example.org"),
            ("127.0.0.1", "127.0.0.1"),
            ("10.0.0.0/8", "10.200.3.4"),
            ("0.0.0.0/0", "9.9.9.9"),
            ("::1", "[::1]"),
            ("fd00::/8", "[fd12::5]"),
        ] {
            assert!(excepted(list, host), "{list} {host}");
        }
        for (list, host) in [
            ("", "example.org"),
            (",", "example.org"),
            (".", "example.org"),
            ("example.org", "notexample.org"),
            ("hub.example.org", "example.org"),
            ("*.org", "example.org"),
            ("10.0.0.0/8", "11.0.0.1"),
            ("10.0.0.0/x", "10.0.0.1"),
            ("10.0.0.0/999", "10.0.0.1"),
            ("10.0.0.1", "10.0.0.2"),
            ("::/0", "10.0.0.2"),
        ] {
            assert!(!excepted(list, host), "{list} {host}");
        }
    }

    #[test]
    fn a_proxy_that_is_not_spoken_is_named_without_its_password() {
        let socks = |name: &str| (name == "ALL_PROXY").then(|| "socks5://u:secret@p:1".to_owned());
        let error = proxy_for(HTTPS, &socks).unwrap_err().to_string();
        assert!(
            error.contains("ALL_PROXY") && error.contains("socks5"),
            "{error}"
        );
        assert!(!error.contains("secret"), "{error}");
    }
}
