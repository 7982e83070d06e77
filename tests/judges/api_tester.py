"""Schemathesis (PyPI): asks the admin API for whatever its OpenAPI description allows, and for what it does not, over TCP and
over the unix socket. No answer may have status 500 or above, a status or a shape that is not described, or take what is wrong.

Not judged: /api/v1/events, which has no end; that the API can be asked without a key, and over TCP for nothing that changes."""

import os
import re
import socket
import threading

from stage import CannotJudge

PACKAGE = "schemathesis==4.32.5"
CASES = 25  # for each operation, of each kind
CHECKS = ["not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance",
          "negative_data_rejection", "unsupported_method"]
CONFIGURATION = """
    [listener.http]
    address = "127.0.0.1:0"
    [upstream.app]
    endpoints = [{ name = "a", address = "127.0.0.1:1" }, { name = "b", address = "127.0.0.1:2" }]
    [[route]]
    upstream = "app"
    [process]
    workers = 1
"""

# Of what is there: other names are refused by the first look-up.
NAMES = """
[parameters]
"path.upstream" = "app"
"path.endpoint" = "a"
"""


def judge(stage):
    python = stage.environment("schemathesis", PACKAGE)
    stage.balancer(CONFIGURATION)
    names = stage.path("schemathesis.toml")
    with open(names, "w", encoding="utf-8") as text:
        text.write(NAMES)
    faults = []
    relay = Relay(stage.path("run/balancer.sock"))
    for over, port in (("TCP", stage.admin), ("the socket", relay.port)):
        said = stage.run([os.path.join(os.path.dirname(python), "schemathesis"), "--config-file", names, "run", "--url",
                          f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port}/api/v1/openapi.json",
                          # Events never end; an upgrade starts any program, and 500 is its word for one that fails.
                          "--exclude-path", "/api/v1/events", "--exclude-path", "/api/v1/upgrade",
                          "--checks", ",".join(CHECKS), "--mode", "all",
                          "--max-examples", str(20 * CASES if stage.all else CASES), "--phases", "examples,coverage,fuzzing",
                          "--seed", "1", "--generation-database", "none", "--no-color", "--suppress-health-check", "all"],
                         seconds=600 if stage.all else 120, accept_failure=True)
        tested = re.search(r"Tested: (\d+)", said)
        cases = re.search(r"(\d+) generated", said)
        if tested is None or cases is None or int(tested[1]) < 10:
            raise CannotJudge(f"over {over} it has not tested what there is:\n{said[-4000:]}")
        print(f"   over {over}: {tested[1]} operations, {cases[1]} cases")
        if "FAILURES" in said or "ERRORS" in said:
            faults.append(f"over {over}:\n{said[-6000:]}")
    relay.close()
    return faults


class Relay:
    """A port that leads to a unix socket."""

    def __init__(self, path):
        self._path = path
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self._listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            endpoint = socket.socket(socket.AF_UNIX)
            try:
                endpoint.connect(self._path)
            except OSError:
                client.close()
                continue
            for source, target in ((client, endpoint), (endpoint, client)):
                threading.Thread(target=pass_on, args=(source, target), daemon=True).start()


def pass_on(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        pass  # one side has gone: so does the other
    for end in (source, target):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
