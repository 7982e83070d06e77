"""Holds idle connections: `idle.py PORT COUNT [CHAIN]`. Says `open` once each has had a reply, waits until its standard
input ends, and says how many the proxy has closed meanwhile."""

import socket
import ssl
import sys


def main():
    port, count = int(sys.argv[1]), int(sys.argv[2])
    context = None
    if len(sys.argv) > 3:
        context = ssl.create_default_context(cafile=sys.argv[3])
        context.minimum_version = ssl.TLSVersion.TLSv1_3
    connections = [opened(port, context) for _ in range(count)]
    print("open", flush=True)
    sys.stdin.read()
    print(sum(is_closed(connection) for connection in connections), flush=True)


def opened(port, context):
    connection = socket.create_connection(("127.0.0.1", port), 20)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if context:
        connection = context.wrap_socket(connection, server_hostname="localhost")
    connection.sendall(b"GET /1k HTTP/1.1\r\nhost: localhost\r\n\r\n")
    reply = b""
    while b"\r\n\r\n" not in reply or len(reply.partition(b"\r\n\r\n")[2]) < 1024:
        part = connection.recv(8192)
        if not part:
            raise SystemExit("closed before the reply was complete")
        reply += part
    return connection


def is_closed(connection):
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True


main()
