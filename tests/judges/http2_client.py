"""nghttp (Debian: nghttp2-client): HTTP/2 by another library than the balancer's: bodies, trailers, windows, streams.

Behind the balancer stands a server over HTTP/1.1 that says back what it got."""

import hashlib
import os
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from stage import program

LARGE = 3 << 20
STREAMS = 100


class Server(ThreadingHTTPServer):
    request_queue_size = 2 * STREAMS
    daemon_threads = True

    def handle_error(self, *_):
        """What goes wrong shows in what the client says."""


class Handler(BaseHTTPRequestHandler):
    """Answers with the method, the body's length and digest, and the trailers; in chunks, with a trailer of its own."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body, trailers = self.body_and_trailers()
        digest = hashlib.sha256(body).hexdigest()
        answer = f"{self.command} {len(body)} {digest} {trailers.get('x-sent', '-')}".encode()
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Trailer", "x-answered")
        self.end_headers()
        self.wfile.write(b"%x\r\n%s\r\n0\r\nX-Answered: after the body\r\n\r\n" % (len(answer), answer))

    do_POST = do_GET

    def body_and_trailers(self):
        if self.headers.get("Transfer-Encoding", "") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", "0"))), {}
        body, trailers = b"", {}
        while length := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(length)
            self.rfile.readline()
        while (line := self.rfile.readline().decode().strip()):
            name, _, value = line.partition(":")
            trailers[name.lower()] = value.strip()
        return body, trailers

    def log_message(self, *_):
        pass


def judge(stage):
    client = program("nghttp", "nghttp2-client")
    stage.certificate()
    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = stage.balancer(f"""
        [listener.https]
        address = "127.0.0.1:0"
        tls = {{ certificates = [{{ chain = "chain.pem", key = "key.pem" }}] }}
        [upstream.app]
        endpoints = ["127.0.0.1:{server.server_port}"]
        [[route]]
        upstream = "app"
    """)["https"]
    body = os.urandom(LARGE)
    with open(stage.path("body"), "wb") as file:
        file.write(body)
    upload = f"POST {LARGE} {hashlib.sha256(body).hexdigest()}"
    nothing = f"GET 0 {hashlib.sha256(b'').hexdigest()} -"

    def says(*arguments):
        return stage.run([client, "--no-verify-peer", *arguments, f"https://localhost:{port}/"])

    # What is to be in nghttp's account of it, how often.
    cases = [
        ("a request", says(), re.escape(nothing), 1),
        ("the answer's trailers", says("--verbose"), r"x-answered: after the body", 1),
        ("an upload of 3 MiB", says("--data", "body"), re.escape(f"{upload} -"), 1),
        ("one of unknown length", says("--no-content-length", "--data", "body"), re.escape(f"{upload} -"), 1),
        ("one with trailers", says("--no-content-length", "--data", "body", "--trailer", "x-sent: yes"), re.escape(f"{upload} yes"), 1),
        # Over HTTP/2 the 100 does not come (README.md, "Limits of what there is"): nghttp waits and then sends.
        ("one that waits for 100", says("--expect-continue", "--data", "body"), re.escape(f"{upload} -"), 1),
        ("padding", says("--padding", "200", "--data", "body"), re.escape(f"{upload} -"), 1),
        ("small windows", says("--window-bits", "4", "--data", "body"), re.escape(f"{upload} -"), 1),
        ("many streams at once", says("--multiply", str(STREAMS)), re.escape(nothing), STREAMS),
    ]
    server.shutdown()
    print(f"   {len(cases)} ways to ask: {', '.join(title for title, *_ in cases)}")
    return [f"{title}: {len(re.findall(wanted, said))} times {wanted!r} instead of {times} in:\n{said[-3000:]}"
            for title, said, wanted, times in cases if len(re.findall(wanted, said)) != times]
