"""gRPC's own library (grpcio, PyPI) on both sides of the balancer: calls of every kind, statuses, deadlines, leaving.

The calls themselves are in grpc_calls.py, which runs where the library is installed."""

import os
import subprocess

from stage import CannotJudge, free_port

LIBRARY = "grpcio==1.85.1"
CALLS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "grpc_calls.py")


def judge(stage):
    python = stage.environment("grpc", LIBRARY)
    chain = stage.certificate()
    server = stage.start([python, "-B", CALLS, "serve"], stdout=subprocess.PIPE, encoding="ascii")
    port = server.stdout.readline().strip()
    if not port:
        raise CannotJudge("the gRPC server did not start")
    ports = stage.balancer(f"""
        [listener.https]
        address = "127.0.0.1:0"
        tls = {{ certificates = [{{ chain = "chain.pem", key = "key.pem" }}] }}
        [upstream.app]
        endpoints = ["127.0.0.1:{port}"]
        protocol = "h2"
        [upstream.nobody]
        endpoints = ["127.0.0.1:{free_port()}"]
        protocol = "h2"
        [[route]]
        upstream = "app"
        [[route]]
        path = "/nobody"
        upstream = "nobody"
    """)
    said = stage.run([python, "-B", CALLS, "judge", f"localhost:{ports['https']}", chain], seconds=120,
                     accept_failure=True)
    lines = said.splitlines()
    passed = [line[3:] for line in lines if line.startswith("ok ")]
    print(f"   {len(passed)} of what gRPC can do: {', '.join(passed)}")
    if "done" not in lines:
        return [said]
    return [line for line in lines if line.startswith("not ok ")]
