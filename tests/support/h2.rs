//! HTTP/2 clients: a well-behaved one, and one that writes frames by hand.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::LazyLock;
use std::thread;

use bytes::Bytes;
use http::response::Parts;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Collected, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConnection, StreamOwned};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Handle};
use tokio::task::JoinHandle;

use super::client::{HOST, Tls, connect};
use super::deadline::DEADLINE;

/// Drives all HTTP/2 connections of the tests.
pub(crate) static RUNTIME: LazyLock<Handle> = LazyLock::new(|| {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let handle = runtime.handle().clone();
    thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    handle
});

/// A proper HTTP/2 connection.
#[derive(Clone)]
pub(crate) struct H2 {
    sender: http2::SendRequest<Full<Bytes>>,
}

/// A reply whose body has been read as far as it went.
#[derive(Debug)]
pub(crate) struct H2Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Result<Bytes, hyper::Error>,
    pub(crate) trailers: HeaderMap,
}

impl H2Reply {
    fn new(head: Parts, body: Result<Collected<Bytes>, hyper::Error>) -> Self {
        let trailers = body.as_ref().ok().and_then(|body| body.trailers().cloned());
        Self {
            status: head.status.as_u16(),
            headers: head.headers,
            body: body.map(Collected::to_bytes),
            trailers: trailers.unwrap_or_default(),
        }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(self.body.as_ref().expect("a whole body")).into_owned()
    }
}

impl H2 {
    /// Connects over TLS, offering only HTTP/2.
    pub(crate) fn connect(address: SocketAddr, tls: &Tls) -> Self {
        Self::over(connect(address).unwrap(), tls)
    }

    /// The same on a connection that is there already.
    pub(crate) fn over(socket: TcpStream, tls: &Tls) -> Self {
        let tls = tls.offering(&["h2"]);
        RUNTIME.block_on(async move {
            socket.set_nonblocking(true).unwrap();
            let socket = tokio::net::TcpStream::from_std(socket).unwrap();
            let connector = tokio_rustls::TlsConnector::from(tls.config.clone());
            let stream = connector
                .connect(tls.server_name.clone(), socket)
                .await
                .unwrap();
            assert_eq!(
                stream.get_ref().1.alpn_protocol(),
                Some(&b"h2"[..]),
                "HTTP/2 was chosen by ALPN"
            );
            let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .unwrap();
            RUNTIME.spawn(connection);
            Self { sender }
        })
    }

    /// `GET path`, whole.
    pub(crate) fn get(&self, path: &str) -> Result<H2Reply, hyper::Error> {
        self.send(get(path))
    }

    /// Sends a request and reads the whole reply.
    pub(crate) fn send(&self, request: Request<Full<Bytes>>) -> Result<H2Reply, hyper::Error> {
        self.begin(request).map(finish)
    }

    /// Sends a request and waits for the reply's head only.
    pub(crate) fn begin(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, hyper::Error> {
        let mut sender = self.sender.clone();
        RUNTIME.block_on(async move {
            sender.ready().await?;
            within_deadline(sender.send_request(request)).await
        })
    }

    /// Sends a request and does not wait.
    pub(crate) fn spawn(&self, request: Request<Full<Bytes>>) -> Pending {
        let mut sender = self.sender.clone();
        Pending(RUNTIME.spawn(async move {
            sender.ready().await?;
            let response = sender.send_request(request).await?;
            let (head, body) = response.into_parts();
            Ok(H2Reply::new(head, body.collect().await))
        }))
    }

    /// Asks for `protocol` on `path`: the status, and the tunnel where it is a success.
    pub(crate) fn tunnel(&self, protocol: &'static str, path: &str) -> (u16, Option<H2Tunnel>) {
        // What the balancer offers comes before its first reply.
        let _ = self.get("/");
        let mut request = Request::connect(format!("https://{HOST}{path}"))
            .header("sec-websocket-version", "13")
            .header("origin", "https://page.test")
            .body(Full::default())
            .unwrap();
        let protocol = hyper::ext::Protocol::from_static(protocol);
        request.extensions_mut().insert(protocol);
        let response = self.begin(request).unwrap();
        let status = response.status();
        let tunnel = status.is_success().then(|| {
            let upgraded = RUNTIME
                .block_on(within_deadline(hyper::upgrade::on(response)))
                .unwrap();
            H2Tunnel(TokioIo::new(upgraded))
        });
        (status.as_u16(), tunnel)
    }

    /// Whether no further request can be sent.
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

/// A stream that carries another protocol.
pub(crate) struct H2Tunnel(TokioIo<Upgraded>);

impl H2Tunnel {
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        RUNTIME
            .block_on(within_deadline(self.0.write_all(bytes)))
            .unwrap();
    }

    pub(crate) fn read_exact(&mut self, bytes: &mut [u8]) {
        RUNTIME
            .block_on(within_deadline(self.0.read_exact(bytes)))
            .unwrap();
    }

    /// Ends sending; what still comes.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        RUNTIME.block_on(within_deadline(async {
            let _ = self.0.shutdown().await;
            let _ = self.0.read_to_end(&mut rest).await;
        }));
        rest
    }
}

/// A request on its way.
pub(crate) struct Pending(JoinHandle<Result<H2Reply, hyper::Error>>);

impl Pending {
    pub(crate) fn wait(self) -> Result<H2Reply, hyper::Error> {
        RUNTIME.block_on(within_deadline(self.0)).unwrap()
    }

    /// Leaves: the stream is reset.
    pub(crate) fn abandon(self) {
        self.0.abort();
    }
}

/// Reads the rest of a reply.
pub(crate) fn finish(response: Response<Incoming>) -> H2Reply {
    let (head, body) = response.into_parts();
    H2Reply::new(head, RUNTIME.block_on(within_deadline(body.collect())))
}

/// A `GET` of `path` on the usual host.
pub(crate) fn get(path: &str) -> Request<Full<Bytes>> {
    Request::get(format!("https://{HOST}{path}"))
        .body(Full::default())
        .unwrap()
}

async fn within_deadline<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future)
        .await
        .expect("an answer within the deadline")
}

/// An HTTP/2 connection written frame by frame.
pub(crate) struct Frames {
    stream: StreamOwned<ClientConnection, TcpStream>,
}

#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    const ACK: u8 = 1;

    /// A frame of this kind, with these flags, on this stream, as it goes over the wire.
    pub(crate) fn bytes((kind, flags, stream): (u8, u8, u32), payload: &[u8]) -> Vec<u8> {
        let mut frame = (u32::try_from(payload.len()).unwrap() << 8 | u32::from(kind))
            .to_be_bytes()
            .to_vec();
        frame.push(flags);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    }

    /// Writes such a frame.
    pub(super) fn write_to(
        wire: &mut impl Write,
        head: (u8, u8, u32),
        payload: &[u8],
    ) -> io::Result<()> {
        wire.write_all(&Self::bytes(head, payload))?;
        wire.flush()
    }

    /// The next frame; settings and pings are answered on the way.
    pub(super) fn read_from(wire: &mut (impl Read + Write)) -> io::Result<Self> {
        let mut head = [0; 9];
        wire.read_exact(&mut head)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        wire.read_exact(&mut payload)?;
        let frame = Self {
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff,
            payload,
        };
        if frame.flags & Self::ACK == 0 {
            match frame.kind {
                Frames::SETTINGS => Self::write_to(wire, (Frames::SETTINGS, Self::ACK, 0), &[])?,
                Frames::PING => {
                    Self::write_to(wire, (Frames::PING, Self::ACK, 0), &frame.payload)?;
                }
                _ => {}
            }
        }
        Ok(frame)
    }
}

/// How a stream ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Ending {
    /// A reply with this status and body, properly ended.
    Reply(u16, Vec<u8>),
    /// RST_STREAM with this code.
    Reset(u32),
    /// GOAWAY with this code, or the connection's end, before the stream's.
    Gone,
}

impl Frames {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PING: u8 = 6;
    pub(crate) const GOAWAY: u8 = 7;

    pub(crate) const END_STREAM: u8 = 1;
    pub(crate) const END_HEADERS: u8 = 4;

    pub(crate) fn open(address: SocketAddr, tls: &Tls) -> Self {
        let mut frames = Self::open_with(address, tls, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        frames.write(Self::SETTINGS, 0, 0, &[]).unwrap();
        frames
    }

    /// A connection whose first bytes are these.
    pub(crate) fn open_with(address: SocketAddr, tls: &Tls, first: &[u8]) -> Self {
        let mut stream = tls.offering(&["h2"]).connect(address).unwrap();
        stream.write_all(first).unwrap();
        Self { stream }
    }

    /// Whether the other side offers tunnels (RFC 8441 §3): its settings come first.
    pub(crate) fn offers_tunnels(&mut self) -> bool {
        const ENABLE_CONNECT_PROTOCOL: [u8; 6] = [0, 8, 0, 0, 0, 1];
        let settings = self.read().unwrap();
        assert_eq!(settings.kind, Self::SETTINGS);
        settings
            .payload
            .chunks(6)
            .any(|setting| setting == ENABLE_CONNECT_PROTOCOL)
    }

    pub(crate) fn write(
        &mut self,
        kind: u8,
        flags: u8,
        stream: u32,
        payload: &[u8],
    ) -> io::Result<()> {
        Frame::write_to(&mut self.stream, (kind, flags, stream), payload)
    }

    /// Writes bytes as they are. Where the other side has closed already, what it said before tells.
    pub(crate) fn write_bytes(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
        let _ = self.stream.flush();
    }

    /// Lets the other side send as much as it likes, into a small socket buffer.
    pub(crate) fn take_much_slowly(&mut self) {
        const INITIAL_WINDOW_SIZE: [u8; 2] = [0, 4];
        const WINDOW_UPDATE: u8 = 8;
        let much = (1_u32 << 28).to_be_bytes();
        let setting = [&INITIAL_WINDOW_SIZE[..], &much].concat();
        self.write(Self::SETTINGS, 0, 0, &setting).unwrap();
        self.write(WINDOW_UPDATE, 0, 0, &much).unwrap();
        SockRef::from(&self.stream.sock)
            .set_recv_buffer_size(128 * 1024)
            .unwrap();
    }

    /// Sends a request without a body, its fields exactly as given.
    pub(crate) fn request(&mut self, stream: u32, fields: &[(&str, &str)]) {
        self.head(stream, fields, Self::END_STREAM);
    }

    /// Sends a request with a body in one frame.
    pub(crate) fn request_with_body(&mut self, stream: u32, fields: &[(&str, &str)], body: &[u8]) {
        self.begin_request(stream, fields);
        let _ = self.write(Self::DATA, Self::END_STREAM, stream, body);
    }

    /// Sends a request whose body follows.
    pub(crate) fn begin_request(&mut self, stream: u32, fields: &[(&str, &str)]) {
        self.head(stream, fields, 0);
    }

    fn head(&mut self, stream: u32, fields: &[(&str, &str)], flags: u8) {
        let block = header_block(fields);
        let _ = self.write(Self::HEADERS, Self::END_HEADERS | flags, stream, &block);
    }

    /// The next frame; settings and pings are answered on the way.
    pub(crate) fn read(&mut self) -> io::Result<Frame> {
        Frame::read_from(&mut self.stream)
    }

    /// Reads until `stream` has ended.
    pub(crate) fn ending(&mut self, stream: u32) -> Ending {
        let (mut status, mut body) = (0, Vec::new());
        loop {
            let Ok(frame) = self.read() else {
                return Ending::Gone;
            };
            match frame.kind {
                Self::GOAWAY if frame.payload.get(4..8).is_some_and(|code| code != [0; 4]) => {
                    return Ending::Gone;
                }
                Self::RST_STREAM if frame.stream == stream => {
                    return Ending::Reset(u32::from_be_bytes(
                        frame.payload.try_into().expect("four bytes"),
                    ));
                }
                Self::HEADERS if frame.stream == stream && status == 0 => {
                    status = status_of(&frame.payload)
                }
                Self::DATA if frame.stream == stream => body.extend(&frame.payload),
                _ => continue,
            }
            if frame.flags & Self::END_STREAM != 0 {
                return Ending::Reply(status, body);
            }
        }
    }
}

/// HPACK: these fields in plain.
pub(crate) fn header_block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0); // literal, not for the table, new name
        push_string(&mut block, name);
        push_string(&mut block, value);
    }
    block
}

/// HPACK: a string without Huffman coding.
fn push_string(block: &mut Vec<u8>, text: &str) {
    let mut length = text.len();
    if length < 127 {
        block.push(u8::try_from(length).unwrap());
    } else {
        block.push(127);
        length -= 127;
        while length >= 128 {
            block.push(u8::try_from(length % 128).unwrap() | 128);
            length /= 128;
        }
        block.push(u8::try_from(length).unwrap());
    }
    block.extend(text.as_bytes());
}

/// HPACK: the status, which is the first field of a response.
fn status_of(block: &[u8]) -> u16 {
    const TABLE: [u16; 7] = [200, 204, 206, 304, 400, 404, 500]; // RFC 7541 Appendix A, 8 to 14
    let block = &block[block
        .iter()
        .take_while(|byte| **byte & 0xe0 == 0x20)
        .count()..]; // table size updates
    if block[0] & 0x80 != 0 {
        return TABLE[usize::from(block[0] & 0x7f) - 8];
    }
    let text = &block[2..2 + usize::from(block[1] & 0x7f)];
    let digits: String = if block[1] & 0x80 == 0 {
        String::from_utf8_lossy(text).into_owned()
    } else {
        huffman_digits(text)
    };
    digits
        .parse()
        .unwrap_or_else(|_| panic!("not a status: {block:?}"))
}

/// RFC 7541 Appendix B, digits only: `0` to `2` have five bits (0 to 2), `3` to `9` six (25 to 31).
fn huffman_digits(text: &[u8]) -> String {
    let bits: Vec<u8> = text
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1))
        .collect();
    let number = |bits: &[u8]| bits.iter().fold(0, |number, bit| number << 1 | bit);
    let (mut digits, mut at) = (String::new(), 0);
    while digits.len() < 3 {
        let five = number(&bits[at..at + 5]);
        let (digit, length) = if five < 3 {
            (five, 5)
        } else {
            (number(&bits[at..at + 6]) - 25 + 3, 6)
        };
        digits.push(char::from(b'0' + digit));
        at += length;
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_in_each_of_its_spellings() {
        assert_eq!(status_of(&[0x88]), 200);
        assert_eq!(status_of(&[0x20, 0x8c]), 400);
        assert_eq!(status_of(&[0x48, 3, b'4', b'3', b'1']), 431);
        // RFC 7541 C.6.1: 302 in Huffman code.
        assert_eq!(status_of(&[0x48, 0x82, 0x64, 0x02]), 302);
    }
}
