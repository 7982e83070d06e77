"""Rotel (PyPI), an OpenTelemetry collector: takes the balancer's traces, and passes on what it has understood.

That is read with the official messages (PyPI: opentelemetry-proto), and compared with what the app server was told. Each request
is answered by the second attempt only."""

import json
import os
import threading
import urllib.request
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from stage import free_port, is_open, wait_for

PACKAGES = "rotel==0.0.1a15", "opentelemetry-proto==1.45.2"
REQUESTS = 200
SERVER, CLIENT = 2, 3


class App(BaseHTTPRequestHandler):
    """Answers 503 to the first request for a path, and 200 to the next."""

    protocol_version = "HTTP/1.1"
    told = defaultdict(list)

    def do_GET(self):
        told = self.told[self.path]
        told.append(self.headers.get("traceparent"))
        self.send_response(503 if len(told) == 1 else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def judge(stage):
    python = stage.environment("rotel", *PACKAGES)
    app = ThreadingHTTPServer(("127.0.0.1", 0), App)
    app.daemon_threads = True
    threading.Thread(target=app.serve_forever, daemon=True).start()
    read = stage.path("spans")
    reader, collector, unused = free_port(), free_port(), free_port()
    stage.start([python, os.path.join(os.path.dirname(os.path.abspath(__file__)), "trace_reader.py"), str(reader), read])
    wait_for("the reader", lambda: is_open(reader))
    agent = stage.run([python, "-c", "import os, rotel; print(os.path.dirname(rotel.__file__))"]).strip()
    with open(stage.path("rotel.log"), "wb") as log:
        stage.start([os.path.join(agent, "rotel-agent"), "start",
                     "--otlp-grpc-endpoint", f"127.0.0.1:{unused}", "--otlp-http-endpoint", f"127.0.0.1:{collector}",
                     "--exporter", "otlp", "--otlp-exporter-endpoint", f"http://127.0.0.1:{reader}",
                     "--otlp-exporter-protocol", "http"],
                    stdout=log, stderr=log)
    wait_for("the collector", lambda: is_open(collector))
    ports = stage.balancer(f"""
        [tracing]
        endpoint = "http://127.0.0.1:{collector}"
        sample = 1
        service_name = "judged"
        [listener.http]
        address = "127.0.0.1:0"
        [upstream.app]
        endpoints = ["127.0.0.1:{app.server_port}"]
        retry = {{ statuses = [503], budget_min = 1000 }}
        passive = "off"
        [[route]]
        name = "all"
        upstream = "app"
    """)
    for number in range(REQUESTS):
        with urllib.request.urlopen(f"http://127.0.0.1:{ports['http']}/{number}", timeout=20) as answer:
            answer.read()
    wait_for("all spans", lambda: len(spans_in(read)) >= 3 * REQUESTS)
    spans = spans_in(read)
    print(f"   {REQUESTS} requests, {len(spans)} spans")
    faults = [f"{len(spans)} spans, not {3 * REQUESTS}"] if len(spans) != 3 * REQUESTS else []
    traces = defaultdict(list)
    for span in spans:
        traces[span["trace"]].append(span)
    if len(traces) != REQUESTS:
        faults.append(f"{len(traces)} traces, not {REQUESTS}")
    for trace in traces.values():
        faults.extend(faults_of(trace))
    return faults


def spans_in(file):
    if not os.path.exists(file):
        return []
    with open(file, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.endswith("\n")]


def faults_of(trace):
    """What is wrong with the spans of one request."""
    servers = [span for span in trace if span["kind"] == SERVER]
    clients = sorted((span for span in trace if span["kind"] == CLIENT), key=lambda span: span["begin"])
    if len(servers) != 1 or len(clients) != 2:
        return [f"not one server span and two client spans: {trace}"]
    server, path = servers[0], servers[0]["attributes"].get("url.path")
    told = [f"00-{span['trace']}-{span['id']}-01" for span in clients]
    expected = {
        "the app server was told otherwise": App.told[path] == told,
        "the server span has a parent": server["parent"] == "",
        "the client spans do not stand below": all(span["parent"] == server["id"] for span in clients),
        "times do not nest": all(server["begin"] <= span["begin"] <= span["end"] <= server["end"] for span in clients),
        "statuses": [span["attributes"].get("http.response.status_code") for span in (server, *clients)] == [200, 503, 200],
        "errors": [span["error"] for span in (server, *clients)] == [False, True, False],
        "names": [span["name"] for span in (server, *clients)] == ["GET all", "GET", "GET"],
        "the service": server["resource"].get("service.name") == "judged",
    }
    return [f"{what}: {trace}" for what, holds in expected.items() if not holds]
