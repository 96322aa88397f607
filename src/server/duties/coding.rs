//! Which content codings a client likes, and what an answer says about having looked.

use http::HeaderMap;
use http::header::{ACCEPT_ENCODING, HeaderValue, VARY};

use crate::config::Coding;

/// The header by which answers differ, as `Vary` names it.
pub const VARIES: &str = "accept-encoding";

/// Thousandths, as RFC 9110, section 12.4.2, has them.
type Weight = u16;

/// Those of the codings on `offer` that the client takes and likes at least as much as none, the
/// best first: of those it likes alike, that which is offered first.
pub fn liked(request: &HeaderMap, offer: &[Coding]) -> Vec<Coding> {
    let mut weights = [None; Coding::ALL.len()];
    let (mut identity, mut others) = (None, None);
    for list in request.get_all(ACCEPT_ENCODING) {
        for element in list.to_str().unwrap_or_default().split(',') {
            let (name, parameter) = element.split_once(';').unwrap_or((element, ""));
            let weight = Some(weight(parameter));
            match name.trim().to_ascii_lowercase().as_str() {
                "zstd" => weights[Coding::Zstd as usize] = weight,
                "br" => weights[Coding::Br as usize] = weight,
                "gzip" | "x-gzip" => weights[Coding::Gzip as usize] = weight,
                "identity" => identity = weight,
                "*" => others = weight,
                _ => {}
            }
        }
    }
    // A client that does not name it does not mind it, and prefers what it names.
    let least = identity.unwrap_or(0).max(1);
    let weight = |coding: &Coding| weights[*coding as usize].or(others).unwrap_or(0);
    let mut liked: Vec<_> = offer.iter().copied().filter(|it| weight(it) >= least).collect();
    liked.sort_by_key(|coding| std::cmp::Reverse(weight(coding)));
    liked
}

/// The weight in what follows a name; none at all where it is not well written.
fn weight(parameter: &str) -> Weight {
    let parameter = parameter.trim();
    if parameter.is_empty() {
        return 1000;
    }
    let Some(number) = parameter.strip_prefix(['q', 'Q']) else { return 0 };
    let Some(number) = number.trim_start().strip_prefix('=') else { return 0 };
    match number.trim_start().parse::<f32>() {
        Ok(number) if (0.0..=1.0).contains(&number) => (number * 1000.0).round() as Weight,
        _ => 0,
    }
}

/// Adds to `Vary` that the answer depends on what codings the client takes.
pub fn vary(headers: &mut HeaderMap) {
    let says_so = |list: &HeaderValue| {
        let mut names = list.to_str().unwrap_or_default().split(',').map(str::trim);
        names.any(|name| name == "*" || name.eq_ignore_ascii_case(VARIES))
    };
    if !headers.get_all(VARY).iter().any(says_so) {
        headers.append(VARY, HeaderValue::from_static(VARIES));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(accept: &[&'static str]) -> String {
        let mut request = HeaderMap::new();
        for value in accept {
            request.append(ACCEPT_ENCODING, HeaderValue::from_static(value));
        }
        let names: Vec<_> = liked(&request, &Coding::ALL).iter().map(|it| it.name()).collect();
        names.join(" ")
    }

    #[test]
    fn what_a_client_likes_is_told_from_what_it_takes() {
        for (accept, expected) in [
            ("gzip, deflate, br, zstd", "zstd br gzip"),
            ("gzip, deflate", "gzip"),
            ("br;q=1.0, gzip;q=0.8, *;q=0.1", "br gzip zstd"),
            ("gzip;q=1, br;q=0.9", "gzip br"),
            ("GZIP", "gzip"),
            ("x-gzip", "gzip"),
            ("gzip ; q = 0.5 , br", "br gzip"),
            ("*", "zstd br gzip"),
            ("*;q=0", ""),
            ("*, zstd;q=0", "br gzip"),
            ("gzip;q=0", ""),
            ("gzip;q=0.000", ""),
            ("identity", ""),
            ("identity;q=0, gzip", "gzip"),
            ("identity, gzip;q=0.5", ""),
            ("identity;q=0.5, gzip;q=0.5", "gzip"),
            ("identity;q=0", ""),
            ("", ""),
            ("deflate", ""),
            ("gzip;q=2", ""),
            ("gzip;q=-1", ""),
            ("gzip;q=nan", ""),
            ("gzip;level=9", ""),
            ("gzip;", "gzip"),
            (",, ,gzip,", "gzip"),
        ] {
            assert_eq!(names(&[accept]), expected, "{accept}");
        }
        assert_eq!(names(&["gzip", "br"]), "br gzip", "two headers are one list");
        assert_eq!(names(&[]), "", "a client that says nothing gets it as it is");
    }

    #[test]
    fn vary_is_added_to_what_is_there() {
        for (before, after) in [
            (vec![], vec![VARIES]),
            (vec!["origin"], vec!["origin", VARIES]),
            (vec!["Origin, Accept-Encoding"], vec!["Origin, Accept-Encoding"]),
            (vec!["*"], vec!["*"]),
        ] {
            let mut headers = HeaderMap::new();
            headers.extend(before.iter().map(|it| (VARY, HeaderValue::from_static(it))));
            vary(&mut headers);
            assert_eq!(headers.get_all(VARY).iter().collect::<Vec<_>>(), after);
        }
    }
}
