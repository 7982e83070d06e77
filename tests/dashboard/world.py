"""A balancer with nginx behind it, as an operator has it. What is started here ends with it."""

import http.client
import json
import os
import re
import signal
import sys
import threading
import time
import urllib.error
import urllib.request

from browser import Fault

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "judges"))

from stage import DEADLINE, CannotJudge, Stage, free_port, is_open, program, wait_for  # noqa: E402

TOKEN = "a-token-for-tests-only-0123456789"
NGINX = """
daemon off; master_process off; pid {pid}; error_log stderr;
events {{ worker_connections 64; }}
http {{ access_log off; server {{ listen 127.0.0.1:{port}; location / {{ return 200 "hello\\n"; }} location /missing {{ return 500; }} }} }}
"""
CONFIGURATION = """
[process]
workers = 1
[log]
format = "json"
[listener.web]
address = "127.0.0.1:{web}"
[upstream.app]
policy = "least-connections"
endpoints = [{app}]
health = {{ path = "/", interval = "500ms", fast_interval = "250ms", timeout = "500ms", fall = 2 }}
[upstream.authority]
endpoints = ["127.0.0.1:{authority}"]
[[route]]
path = "/admin"
upstream = "authority"
exclusive = true
[[route]]
path = "/"
upstream = "app"
[admin]
address = "127.0.0.1:{admin}"
{further}
"""


class World(Stage):
    """Three endpoints in one upstream, one in another."""

    def __init__(self, directory, options):
        super().__init__(directory, options)
        self._program = options.balancer
        self.ports = {name: free_port() for name in ("web", "admin", "authority", "app-1", "app-2", "app-3")}
        self.origins, self.daemon, self.successor = {}, None, None
        self.wants_traffic = threading.Event()

    def open(self):
        with open(self.path("token"), "w", encoding="ascii") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(TOKEN + "\n")
        for name in ("authority", "app-1", "app-2", "app-3"):
            self.start_origin(name)
        self.configure()
        self.start_daemon()
        self.wants_traffic.set()
        threading.Thread(target=self._ask, daemon=True).start()

    def __exit__(self, *rest):
        self.wants_traffic.clear()
        self.end_daemon()
        super().__exit__(*rest)

    @property
    def address(self):
        return f"http://127.0.0.1:{self.ports['admin']}/"

    def name(self, origin):
        return f"127.0.0.1:{self.ports[origin]}"

    def start_origin(self, name):
        port, file = self.ports[name], self.path(f"{name}.conf")
        with open(file, "w", encoding="ascii") as text:
            text.write(NGINX.format(port=port, pid=self.path(f"{name}.pid")))
        nginx = program_anywhere("nginx")
        with open(self.path(f"{name}.log"), "ab") as log:
            self.origins[name] = self.start([nginx, "-p", self.directory, "-c", file], stdout=log, stderr=log)
        wait_for(f"nginx at {port}", lambda: is_open(port))

    def kill(self, name):
        self.origins[name].kill()
        self.origins[name].wait()

    def configure(self, apps=("app-1", "app-2", "app-3"), further='token_file = "token"'):
        app = ", ".join(f'"{self.name(one)}"' for one in apps)
        ports = {name: self.ports[name] for name in ("web", "admin", "authority")}
        self.write(CONFIGURATION.format(app=app, further=further, **ports))

    def write(self, text):
        with open(self.path("balancer.toml"), "w", encoding="utf-8") as file:
            file.write(text)

    def start_daemon(self):
        with open(self.path("balancer.log"), "ab") as log:
            self.daemon = self.start([self._program, "--config", self.path("balancer.toml")], stderr=log)

        def is_ready():
            if self.daemon.poll() is not None:
                with open(self.path("balancer.log"), encoding="utf-8") as text:
                    raise CannotJudge(f"the balancer ended with {self.daemon.returncode}: {text.read()}")
            return is_open(self.ports["admin"]) and self.status()["upstreams"][0]["available"] == 3

        wait_for("the balancer", is_ready)

    def upgrade(self):
        """The process that takes over is nobody's child: its end is seen to by `end_daemon`, and by the world's."""
        said = self.run([self._program, "upgrade", "--config", self.path("balancer.toml"), "--timeout", "30s"])
        self.daemon.wait(timeout=DEADLINE)
        self.successor = int(re.search(r"process (\d+) ", said)[1])

    def end_daemon(self):
        if self.successor is not None:
            os.kill(self.successor, signal.SIGKILL)
            self.successor = None
        elif self.daemon is not None:
            self.daemon.kill()
            self.daemon.wait()
        wait_for("the end of the balancer", lambda: not is_open(self.ports["admin"]))

    def reload(self):
        self.daemon.send_signal(signal.SIGHUP)

    def status(self):
        return json.loads(self.fetch("api/v1/status")[1])

    def fetch(self, path):
        """Headers and body."""
        try:
            with urllib.request.urlopen(self.address + path, timeout=10) as answer:
                return answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            raise Fault(f"{path} answers {error.code}") from error

    def _ask(self):
        """Some traffic, whatever becomes of it."""
        paths = ["/", "/shop", "/admin"] * 20 + ["/missing"]
        number = 0
        while self.wants_traffic.is_set():
            number += 1
            try:
                client = http.client.HTTPConnection("127.0.0.1", self.ports["web"], timeout=2)
                client.request("GET", paths[number % len(paths)])
                client.getresponse().read()
                client.close()
            except OSError:
                pass
            time.sleep(0.02)


def program_anywhere(name):
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    return program(name, name)
