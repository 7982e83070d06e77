//! What is framed without doubt, and what is not.

use proptest::prelude::*;

use super::*;

const LIMITS: HeadLimits = HeadLimits {
    head: 1024,
    target: 100,
    fields: 10,
};

fn feed(bytes: &[u8]) -> Result<Phase, (usize, Violation)> {
    let mut framing = Framing::new(LIMITS);
    framing.feed(bytes).map(|()| framing.phase())
}

fn violation(bytes: &[u8]) -> Violation {
    feed(bytes).expect_err("refused").1
}

#[test]
fn whole_requests_leave_the_connection_idle() {
    for request in [
        &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        b"POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n0\r\nX-T: 1\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        assert_eq!(feed(request), Ok(Phase::Idle), "{}", request.escape_ascii());
    }
}

#[test]
fn parts_of_requests_are_told_apart() {
    assert_eq!(feed(b""), Ok(Phase::Idle));
    assert_eq!(feed(b"\r\n"), Ok(Phase::Idle));
    assert_eq!(feed(b"G"), Ok(Phase::Head));
    assert_eq!(feed(b"GET / HTTP/1.1\r\nHost: a\r\n\r"), Ok(Phase::Head));
    assert_eq!(
        feed(b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab"),
        Ok(Phase::Body)
    );
    assert_eq!(
        feed(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n"),
        Ok(Phase::Body)
    );
}

#[test]
fn ambiguous_heads_are_refused() {
    use Violation::*;
    for (head, expected) in [
        (&b"GET / HTTP/1.1\nHost: a\n\n"[..], BareLf),
        (b"GET / HTTP/1.1\r\nHost: a\n\r\n", BareLf),
        (b"GET  / HTTP/1.1\r\n\r\n", RequestLine),
        (b"GET /a b HTTP/1.1\r\n\r\n", RequestLine),
        (b"GET /\r\n\r\n", RequestLine),
        (b"PRI * HTTP/2.0\r\n\r\n", Version),
        (b"GET / HTTP/1.2\r\n\r\n", Version),
        (b"GET /a#b HTTP/1.1\r\n\r\n", Fragment),
        (b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", ObsFold),
        (
            b"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
            ContentLength,
        ),
        (
            b"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
            ContentLength,
        ),
        (
            b"POST / HTTP/1.1\r\nContent-Length: +3\r\n\r\nabc",
            ContentLength,
        ),
        (
            b"POST / HTTP/1.1\r\nContent-Length: 3, 3\r\n\r\nabc",
            ContentLength,
        ),
        (b"POST / HTTP/1.1\r\nContent-Length:\r\n\r\n", ContentLength),
        (
            b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
            ContentLength,
        ),
        (
            b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            TransferEncoding,
        ),
        (
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            TransferEncoding,
        ),
        (
            b"POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n",
            TransferEncoding,
        ),
        (
            b"POST / HTTP/1.1\r\nContent-Length: 3\r\ntransfer-encoding:\tchunked\r\n\r\n",
            BothLengths,
        ),
        (
            b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
            OldTransferEncoding,
        ),
    ] {
        assert_eq!(violation(head), expected, "{}", head.escape_ascii());
    }
}

#[test]
fn limits_hold_for_whole_and_for_endless_heads() {
    let long = "a".repeat(200);
    assert_eq!(
        violation(format!("GET /{long} HTTP/1.1\r\n\r\n").as_bytes()),
        Violation::TargetTooLong
    );
    assert_eq!(
        violation(format!("GET /{long}").as_bytes()),
        Violation::TargetTooLong
    );
    assert_eq!(violation(&[b'a'; 2000]), Violation::HeadTooLarge);
    assert_eq!(
        violation(format!("GET / HTTP/1.1\r\nA: {}", long.repeat(10)).as_bytes()),
        Violation::HeadTooLarge
    );
    assert_eq!(
        violation(format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(11)).as_bytes()),
        Violation::TooManyFields
    );
    assert_eq!(
        feed(format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(10)).as_bytes()),
        Ok(Phase::Idle)
    );
}

#[test]
fn a_head_that_comes_byte_by_byte_is_looked_at_once() {
    let mut framing = Framing::new(HeadLimits {
        head: 64 * 1024,
        target: 8 * 1024,
        fields: 100_000,
    });
    let mut head = b"GET / HTTP/1.1\r\n".to_vec();
    while head.len() < 60 * 1024 {
        head.extend_from_slice(b"a:\r\n");
    }
    for (fed, byte) in head.iter().enumerate() {
        framing.feed(std::slice::from_ref(byte)).unwrap();
        assert_eq!(framing.scan.searched, fed + 1);
        // Only the line that has not ended may be looked at again.
        assert!(framing.scan.searched - framing.scan.line <= 16);
    }
    assert_eq!(framing.scan.fields, (head.len() - 16) / 4);
    framing.feed(b"\r\n").unwrap();
    assert_eq!(framing.phase(), Phase::Idle);
    // The next head is looked at from its own beginning.
    framing.feed(b"G").unwrap();
    assert_eq!((framing.scan.searched, framing.scan.fields), (1, 0));
}

#[test]
fn an_endless_line_is_refused_at_the_first_byte_too_many() {
    let endless = |begin: &[u8]| {
        let mut framing = Framing::new(LIMITS);
        framing.feed(begin).unwrap();
        (begin.len()..10_000)
            .find_map(|fed| {
                framing
                    .feed(b"a")
                    .err()
                    .map(|(_, violation)| (fed + 1, violation))
            })
            .expect("refused")
    };
    assert_eq!(
        endless(b"GET /"),
        (LIMITS.target + 33, Violation::TargetTooLong)
    );
    assert_eq!(
        endless(b"GET / HTTP/1.1\r\nA: "),
        (LIMITS.head + 1, Violation::HeadTooLarge)
    );
}

#[test]
fn malformed_chunks_are_refused() {
    for chunks in [
        "x\r\n",
        "\r\n",
        "3\nabc",
        "3\r\nabcd",
        "3\r\nabc\n",
        "-1\r\n",
        "0x3\r\n",
        "11111111111111111\r\n",
        "3;\nabc",
        "0\r\nA: b\n",
    ] {
        let request = format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
        assert_eq!(
            violation(request.as_bytes()),
            Violation::Chunk,
            "{chunks:?}"
        );
    }
}

#[test]
fn what_came_before_the_offending_request_may_be_used() {
    let good = b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc";
    let both = [&good[..], b"GET / HTTP/1.1\nHost: a\n\n"].concat();
    assert_eq!(feed(&both), Err((good.len(), Violation::BareLf)));
}

proptest! {
    #[test]
    fn pieces_are_read_like_the_whole(cuts in proptest::collection::vec(1_usize..40, 1..30), which in 0_usize..4) {
        let source: &[u8] = [
            &b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n5;q=\"x\"\r\n01234\r\n0\r\nT: 1\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
            b"POST /a HTTP/1.1\r\nContent-Length: 30\r\n\r\n012345678901234567890123456789GET / HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\nb: c\r\n\r\n",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd",
        ][which];
        let mut pieces = Framing::new(LIMITS);
        let mut result = Ok(());
        let (mut at, mut cuts) = (0, cuts.iter().cycle());
        while at < source.len() && result.is_ok() {
            let end = (at + cuts.next().copied().unwrap_or(1)).min(source.len());
            result = pieces.feed(&source[at..end]).map_err(|(_, violation)| violation);
            at = end;
        }
        let mut whole = Framing::new(LIMITS);
        let expected = whole.feed(source).map_err(|(_, violation)| violation);
        prop_assert_eq!(result, expected);
        if expected.is_ok() {
            prop_assert_eq!(pieces.phase(), whole.phase());
        }
    }

    #[test]
    fn any_bytes_are_safe(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..10)) {
        let mut framing = Framing::new(LIMITS);
        for piece in pieces {
            if let Err((usable, _)) = framing.feed(&piece) {
                prop_assert!(usable <= piece.len());
                break;
            }
        }
    }
}
