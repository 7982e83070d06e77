"""An admin server that says whatever a check wants: names that no configuration allows, a thousand endpoints, nothing at all.
It gives the page and its headers exactly as the balancer did."""

import json
import math
import queue
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

STEP = 5  # seconds between two points
POINTS = 180


class Mock:
    """What is told stands in `status`; `tell` sends an event to everybody who watches."""

    def __init__(self, page, headers, status, token=None):
        self.page, self.headers, self.status, self.token = page, headers, status, token
        self.earlier = []
        self.has_traffic = True
        self.asked = []
        self._viewers = []
        self._server = Server(("127.0.0.1", 0), handler(self))
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        for viewer in self._viewers:
            viewer.put(None)
        self._server.shutdown()
        self._server.server_close()

    def tell(self, kind, data):
        for viewer in self._viewers:
            viewer.put((kind, {"time_ms": int(time.time() * 1000), **data}))

    def watch(self):
        viewer = queue.Queue()
        begin = {"generation": self.status["generation"], "version": self.status["version"], "recent_events": self.earlier}
        viewer.put(("begin", {"time_ms": int(time.time() * 1000), **begin}))
        self._viewers.append(viewer)
        return viewer

    def answer(self, path, query):
        """The JSON at `path`; `None` where there is none."""
        if path == "/api/v1/status":
            return self.status
        if path == "/api/v1/config":
            return {"generation": self.status["generation"], "hash": "9f86d081884c7d65" * 4, "accepted": [
                {"generation": number, "file_of": number, "hash": f"{(number * 0x9E3779B97F4A7C15) % 2**64:016x}" * 4, "by": "start" if number == 1 else "reload",
                 "at": self.status["started"] + 3000 * number} for number in range(1, self.status["generation"] + 1)]}
        if path == "/api/v1/recent":
            return self.recent(query)
        return None

    def recent(self, query):
        until = int(time.time()) // STEP * STEP
        envelope = {"until": until, "step_seconds": STEP}
        count = int(query.get("points", [POINTS])[0]) if self.has_traffic else 0
        if "upstream" in query:
            upstream = next(one for one in self.status["upstreams"] if one["name"] == query["upstream"][0])
            return {**envelope, "endpoints": [{"upstream": upstream["name"], **series(one["name"], until, count, one["load"])} for one in upstream["endpoints"]]}
        return {**envelope, "routes": [series(one["name"], until, count, one.get("load", 30)) for one in self.status["routes"]],
                "upstreams": [series(one["name"], until, count, sum(each["load"] for each in one["endpoints"])) for one in self.status["upstreams"]]}


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        pass  # a browser that leaves in the middle of an answer is its own affair


def series(name, until, count, load):
    """As many points as asked for, of a believable load, the same for the same time."""
    phase = sum(map(ord, name)) % 100
    times = [until - STEP * (count - 1 - index) for index in range(count)]
    wave = [max(0.0, load * (1 + 0.25 * math.sin(at / 90 + phase) + 0.12 * math.sin(at / 17 + 3 * phase))) for at in times]
    is_asked = load > 0
    return {"name": name, "requests": [round(one, 1) for one in wave],
            "errors": [round(load * 0.004, 2) if (at // STEP + phase) % 37 == 0 else 0.0 for at in times],
            "p50": [0.011 + 0.003 * math.sin(at / 70 + phase) if is_asked else None for at in times],
            "p95": [0.038 + 0.009 * math.sin(at / 55 + phase) if is_asked else None for at in times],
            "p99": [0.085 + 0.03 * math.sin(at / 40 + phase) if is_asked else None for at in times],
            "in_flight": [int(one / 12) for one in wave]}


def handler(mock):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            url = urlsplit(self.path)
            mock.asked.append(self.path)
            if url.path == "/":
                return self.give(200, mock.page, mock.headers)
            if url.path == "/api/v1/events":
                return self.stream()
            found = mock.answer(url.path, parse_qs(url.query))
            return self.give_json(200, found) if found is not None else self.give_json(404, {"detail": "there is nothing at this path"})

        def do_POST(self):
            mock.asked.append(self.path)
            if self.headers.get("Authorization") != f"Bearer {mock.token}":
                return self.give_json(401, {"detail": "the token is not the right one"})
            upstream, endpoint, action = map(unquote, self.path.split("/")[4:7])
            found = next(one for group in mock.status["upstreams"] if group["name"] == upstream
                         for one in group["endpoints"] if one["name"] == endpoint)
            before, found["mode"] = found["mode"], {"drain": "draining", "resume": "active"}[action]
            found["state"] = "draining" if action == "drain" else "up"
            return self.give_json(200, {"before": before, "endpoint": found})

        def stream(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            viewer = mock.watch()
            while (told := viewer.get()) is not None:
                kind, data = told
                try:
                    self.wfile.write(f"event: {kind}\ndata: {json.dumps(data)}\n\n".encode())
                except OSError:
                    return
            self.close_connection = True

        def give_json(self, status, value):
            self.give(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

        def give(self, status, body, headers):
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    return Handler


def endpoint(number, name, state="up", **more):
    """One as `/api/v1/status` has it."""
    is_up = state in ("up", "degraded", "unchecked")
    return {"id": number, "name": name, "address": name, "resolved": name, "weight": 1, "backup": False, "slow_start": None,
            "mode": "active", "health": "up" if is_up else "down", "evidence": None, "ejected": None, "state": state, "reason": None,
            "since": int(time.time()) - 11520, "in_flight": 3 if is_up else 0, "max_in_flight": None, "peak_in_flight": 14, "tunnels": 0,
            "eligible": is_up, "retries": 0, "version": "2.14.1", "load": 60 if is_up else 0, **more}


def upstream(name, endpoints, policy="least-connections", **more):
    available = sum(one["eligible"] for one in endpoints)
    return {"name": name, "policy": policy, "available": available, "degraded": False, "queued": 0, "paused": False, "held": 0,
            "headroom": {"could_lose": max(0, available - 1), "could_lose_at_peak": max(0, available - 1), "of": available, "load": 12,
                         "peak": 40, "by": "observed_peak"}, "endpoints": endpoints, **more}


def status(upstreams, routes, listeners=("https",), is_writable=False, **more):
    now = int(time.time())
    names = list(listeners)
    return {"version": "0.1.0", "generation": 3, "started": now - 93_000, "last_reload": {"by": "reload", "result": "accepted", "at": now - 5400, "why": None},
            "upgrade": None, "admin": {"writable": is_writable},
            "listeners": [{"name": name, "address": f"0.0.0.0:{8443 + 37 * index}", "tls": name == "https", "open_connections": 41,
                           "certificates": [{"label": "certs/www.pem", "names": ["www.example.com", "example.com"], "not_after": now + 61 * 86400}]
                           if name == "https" else []} for index, name in enumerate(names)],
            "upstreams": upstreams,
            "routes": [{"listeners": names, "hosts": [], "path_kind": "prefix", "in_flight": 1, "path": None, **one} for one in routes], **more}
