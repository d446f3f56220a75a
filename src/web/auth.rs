//! Which requests are served: those with the token, under one of the server's names, and not from
//! another site's page.
//!
//! A browser can be made to send requests to any address that it can reach: by pages (the Origin
//! header names their site), and by names that are pointed at the server later (the Host header
//! names them).

use hyper::{
    HeaderMap, StatusCode,
    header::{AUTHORIZATION, HOST, HeaderName, ORIGIN},
};

/// What is required of every request.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    /// The token that requests must carry; `None` at a socket in the file system, which only its
    /// owner reaches.
    pub token: Option<String>,
    /// Names of the server, with or without a port; empty: any name.
    pub hosts: Vec<String>,
}

impl Guard {
    /// The reason to refuse a request with these headers, if there is one.
    pub fn refuse(&self, headers: &HeaderMap) -> Option<(StatusCode, &'static str)> {
        let value = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
        if !self.hosts.is_empty() {
            let host = value(HOST).unwrap_or_default();
            if !self.is_ours(host) {
                return Some((
                    StatusCode::MISDIRECTED_REQUEST,
                    "this is not a name of this scheduler (allow it with --host)",
                ));
            }
        }
        if let Some(origin) = value(ORIGIN) {
            let host = origin.split_once("://").map_or("", |(_, host)| host);
            if !self.is_ours(host) {
                return Some((StatusCode::FORBIDDEN, "requests of other sites are refused"));
            }
        }
        let token = self.token.as_ref()?;
        let given = value(AUTHORIZATION).and_then(|value| value.split_once(' '));
        let given = given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let given = given.map(|(_, token)| token.trim());
        match given.is_some_and(|given| is_same(given, token)) {
            true => None,
            false => Some((
                StatusCode::UNAUTHORIZED,
                "the token is missing or wrong (it is in the scheduler's directory)",
            )),
        }
    }

    fn is_ours(&self, host: &str) -> bool {
        let without_port = match host.rsplit_once(':') {
            Some((name, port)) if port.chars().all(|c| c.is_ascii_digit()) => name,
            _ => host,
        };
        let mut hosts = self.hosts.iter();
        hosts.any(|ours| ours.eq_ignore_ascii_case(host) || ours.eq_ignore_ascii_case(without_port))
    }
}

/// Compares in a time that does not tell how much of the token is right.
fn is_same(given: &str, token: &str) -> bool {
    let pairs = given.bytes().zip(token.bytes());
    let differences = pairs.fold(0, |all, (a, b)| all | (a ^ b));
    given.len() == token.len() && differences == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_turned_away() {
        let guard = Guard {
            token: Some("secret".to_owned()),
            hosts: vec!["127.0.0.1:8080".to_owned(), "cluster".to_owned()],
        };
        let answer = |headers: &[(HeaderName, &str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.insert(name, value.parse().unwrap());
            }
            guard.refuse(&map).map(|(status, _)| status.as_u16())
        };
        let good = (AUTHORIZATION, "Bearer secret");
        let host = (HOST, "127.0.0.1:8080");
        assert_eq!(answer(&[host.clone(), good.clone()]), None);
        assert_eq!(answer(&[(HOST, "cluster:9"), good.clone()]), None);
        assert_eq!(answer(std::slice::from_ref(&host)), Some(401));
        assert_eq!(
            answer(&[host.clone(), (AUTHORIZATION, "Bearer secreT")]),
            Some(401)
        );
        assert_eq!(answer(&[(HOST, "evil:8080"), good.clone()]), Some(421));
        assert_eq!(answer(std::slice::from_ref(&good)), Some(421));
        let origin = |value| (ORIGIN, value);
        assert_eq!(
            answer(&[host.clone(), good.clone(), origin("http://evil")]),
            Some(403)
        );
        assert_eq!(
            answer(&[host.clone(), good.clone(), origin("null")]),
            Some(403)
        );
        assert_eq!(answer(&[host, good, origin("http://cluster")]), None);
    }
}
