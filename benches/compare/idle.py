"""Holds idle connections: `idle.py PORT COUNT [CHAIN [h2]]`. Says `open` once each has had a reply, waits until its
standard input ends, and says how many the proxy has closed meanwhile. Of HTTP/2 it knows what that takes, no more."""

import socket
import ssl
import sys


def main():
    port, count = int(sys.argv[1]), int(sys.argv[2])
    context = None
    if len(sys.argv) > 3:
        context = ssl.create_default_context(cafile=sys.argv[3])
        context.minimum_version = ssl.TLSVersion.TLSv1_3
    ask = ask_http1
    if sys.argv[4:] == ["h2"]:
        context.set_alpn_protocols(["h2"])
        ask = ask_h2
    connections = [opened(port, context, ask) for _ in range(count)]
    print("open", flush=True)
    sys.stdin.read()
    print(sum(is_closed(connection) for connection in connections), flush=True)


def opened(port, context, ask):
    connection = socket.create_connection(("127.0.0.1", port), 20)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if context:
        connection = context.wrap_socket(connection, server_hostname="localhost")
    ask(connection)
    return connection


def ask_http1(connection):
    connection.sendall(b"GET /1k HTTP/1.1\r\nhost: localhost\r\n\r\n")
    reply = b""
    while b"\r\n\r\n" not in reply or len(reply.partition(b"\r\n\r\n")[2]) < 1024:
        reply += received(connection)


def ask_h2(connection):
    """RFC 9113 §3.4, §4.1: preface, SETTINGS, one request; then frames until one ends its stream."""
    if connection.selected_alpn_protocol() != "h2":
        raise SystemExit("the proxy does not choose HTTP/2")
    connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, b"")
                       + frame(HEADERS, END_STREAM | END_HEADERS, 1, GET_1K))
    pending = b""
    while True:
        while len(pending) < 9 or len(pending) < 9 + int.from_bytes(pending[:3], "big"):
            pending += received(connection)
        length, kind, flags = int.from_bytes(pending[:3], "big"), pending[3], pending[4]
        if kind in (RST_STREAM, GOAWAY):
            raise SystemExit("the proxy refuses the request")
        if kind in (DATA, HEADERS) and flags & END_STREAM:
            return
        pending = pending[9 + length:]


def frame(kind, flags, stream, payload):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def received(connection):
    part = connection.recv(8192)
    if not part:
        raise SystemExit("closed before the reply was complete")
    return part


def is_closed(connection):
    connection.setblocking(False)
    try:
        while connection.recv(8192):
            pass  # what HTTP/2 had to say in between
        return True
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True


DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY = 0, 1, 3, 4, 7
END_STREAM, END_HEADERS = 1, 4
# RFC 7541, appendix A: :method GET, :scheme https; then a literal :path and a literal :authority.
GET_1K = b"\x82\x87\x04\x03/1k\x01\x09localhost"

main()
