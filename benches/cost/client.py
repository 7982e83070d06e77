"""Clients that do the same in every run: one connection, a known number of requests, and no answer but the right one."""

import http.client

import load
from machine import Refused
from peers import client_context, socket_to
from tools import find


class Http1:
    """One request at a time on a connection that stays, over TLS 1.3 if there is a certificate to trust; `body`: POST it."""

    def __init__(self, port, path, expected, certificate=None, body=None):
        self.connection = socket_to(port, client_context(certificate) if certificate else None)
        self.connection.settimeout(TIMEOUT_SECONDS)
        self.expected = expected
        self.method = "GET" if body is None else "POST"
        length = "" if body is None else f"content-length: {len(body)}\r\n"
        self.request = f"{self.method} {path} HTTP/1.1\r\nhost: localhost\r\n{length}\r\n".encode() + (body or b"")

    def send(self, count):
        for _ in range(count):
            self.connection.sendall(self.request)
            check(self.connection, self.method, self.expected)


class Resuming:
    """A connection for each request, which resumes the TLS session of the one before."""

    def __init__(self, port, path, expected, certificate):
        self.port, self.context, self.session = port, client_context(certificate), None
        self.request = f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode()
        self.expected = expected

    def send(self, count):
        for _ in range(count):
            with socket_to(self.port, self.context, self.session) as connection:
                connection.settimeout(TIMEOUT_SECONDS)
                if self.session and not connection.session_reused:
                    raise Refused("the session was not resumed")
                connection.sendall(self.request)
                check(connection, "GET", self.expected)
                self.session = connection.session


class H2load:
    """16 streams at a time on one connection; a new one, with its handshake, for each `send`."""

    def __init__(self, url, directory):
        self.program, self.url, self.directory = find("h2load"), url, directory
        if not self.program:
            raise Refused("h2load is not installed (Debian: nghttp2-client): it sends HTTP/2")

    def send(self, count):
        result = load.h2load(self.program, self.directory, self.url, TIMEOUT_SECONDS, "-c1", "-m16", f"-n{count}")
        if (result.requests, result.errors) != (count, 0):
            raise Refused(f"of {count} requests {result.requests} succeeded, {result.errors} failed")


def check(connection, method, expected):
    reply = http.client.HTTPResponse(connection, method=method)
    reply.begin()
    answer = (reply.status, len(reply.read()))
    if answer != (200, expected):
        raise Refused(f"the answer should be 200 with {expected} bytes, not {answer}")


FAILURES = (OSError, http.client.HTTPException)
TIMEOUT_SECONDS = 30  # valgrind translates each function when it is first called
