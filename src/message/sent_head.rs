//! The head of a request to an endpoint, read back from the bytes that were written.
//!
//! For the rare request that is sent again: keeping these bytes costs the others next to nothing. Reads only what hyper
//! writes; anything else gives nothing.

use http::{HeaderName, HeaderValue, Method, Request, Uri};

/// The request that `bytes` are the head of, without its body; `None` where they are not exactly a head.
pub fn read(bytes: &[u8]) -> Option<Request<()>> {
    let head = bytes.strip_suffix(b"\r\n\r\n")?;
    let mut lines = head.split(|byte| *byte == b'\n');
    let mut words = line(lines.next()?).split(|byte| *byte == b' ');
    let (method, target) = (words.next()?, words.next()?);
    if words.next()? != b"HTTP/1.1" || words.next().is_some() {
        return None;
    }
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(method).ok()?;
    *request.uri_mut() = Uri::try_from(target).ok()?;
    for field in lines.map(line) {
        let colon = field.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&field[..colon]).ok()?;
        let value = HeaderValue::from_bytes(field[colon + 1..].trim_ascii()).ok()?;
        request.headers_mut().append(name, value);
    }
    Some(request)
}

fn line(bytes: &[u8]) -> &[u8] {
    bytes.strip_suffix(b"\r").unwrap_or(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_back_with_every_field() {
        let head = b"PUT /a?b HTTP/1.1\r\nhost: app.test\r\nx-a: 1\r\nx-a: 2: \xe4\r\nx-empty: \r\ncontent-length: 3\r\n\r\n";
        let request = read(head).unwrap();
        assert_eq!(
            (request.method().as_str(), request.uri().to_string()),
            ("PUT", "/a?b".to_owned())
        );
        let values = |name| -> Vec<&[u8]> {
            let all = request.headers().get_all(name).iter();
            all.map(HeaderValue::as_bytes).collect()
        };
        assert_eq!(values("x-a"), [&b"1"[..], b"2: \xe4"]);
        assert_eq!(values("x-empty"), [b""]);
        assert_eq!(request.headers().len(), 5);
    }

    #[test]
    fn what_is_no_whole_head_is_none() {
        for bytes in [
            "",
            "\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\n\r\nbody",
            "GET / HTTP/1.0\r\nhost: a\r\n\r\n",
            "GET / x HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nhost\r\n\r\n",
            "5\r\nhello\r\n\r\n",
        ] {
            assert!(read(bytes.as_bytes()).is_none(), "{bytes:?}");
        }
    }
}
