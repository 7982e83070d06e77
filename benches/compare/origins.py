"""The app servers behind every proxy: two nginx processes with fixed answers."""

import os
import sys
from dataclasses import dataclass

from machine import LOAD_CORE, Process, free_port, wait_for_port
from tools import needed

PATHS = {"1k": 1024, "100k": 100 * 1024, "1m": 1024 * 1024}


@dataclass
class Origins:
    """Where they are, and their processes."""

    ports: list
    call_ports: list
    processes: list

    def addresses(self):
        return [f"127.0.0.1:{port}" for port in self.ports]

    def call_addresses(self):
        """Where they speak HTTP/2 without TLS."""
        return [f"127.0.0.1:{port}" for port in self.call_ports]


def start(directory, count=2, address="127.0.0.1"):
    """Starts `count` origins on the load's core, which listen on `address`."""
    nginx = needed("nginx", "it serves as the app servers")
    files = os.path.join(directory, "files")
    os.makedirs(files, exist_ok=True)
    for name, size in {**PATHS, "sink": 0}.items():
        with open(os.path.join(files, name), "w", encoding="ascii") as file:
            file.write("x" * size)
    origins = Origins([], [], [])
    for index in range(count):
        port, call_port = free_port(), free_port()
        own = os.path.join(directory, f"origin{index}")
        os.makedirs(own)
        with open(os.path.join(own, "nginx.conf"), "w", encoding="ascii") as file:
            file.write(CONFIGURATION % {"user": "user root;" if os.geteuid() == 0 else "", "address": address, "port": port,
                                        "call_port": call_port, "files": files,
                                        "body": "x" * PATHS["1k"], "answer": "x" * 69})
        process = Process(f"origin{index}", [nginx, "-p", own, "-e", "stderr", "-c", "nginx.conf"], LOAD_CORE, own)
        wait_for_port(process, port)
        origins.ports.append(port)
        origins.call_ports.append(call_port)
        origins.processes.append(process)
    return origins


def start_echo(directory):
    """Starts a WebSocket server that says back what it hears; its address."""
    port = free_port()
    program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "echo.py")
    wait_for_port(Process("echo", [sys.executable, program, str(port)], LOAD_CORE, directory), port)
    return f"127.0.0.1:{port}"


# /sink reads the whole body before it answers: `mirror` makes nginx wait for it, the error page is the answer.
CONFIGURATION = """
daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr crit;
%(user)s
worker_rlimit_nofile 20000;
events { worker_connections 10000; multi_accept on; }
http {
    access_log off;
    sendfile on;
    tcp_nodelay on;
    keepalive_timeout 1h;
    keepalive_requests 1000000000;
    open_file_cache max=10 inactive=1h;
    client_body_buffer_size 64k;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    default_type application/octet-stream;
    server {
        listen %(address)s:%(port)d backlog=4096;
        listen %(address)s:%(call_port)d http2 backlog=4096;
        root %(files)s;
        location = /1k { return 200 "%(body)s"; }
        location = /call { default_type application/grpc; return 200 "%(answer)s"; }
        location = /healthz { return 200 "ok"; }
        location = /sink { mirror /nothing; error_page 405 =200 @received; }
        location = /nothing { internal; return 204; }
        location @received { return 200 "received"; }
    }
}
"""
