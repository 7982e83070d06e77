"""The cluster's processes: starts them, starts app servers again that have ended, and ends all of them."""

import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
DEADLINE = 60  # seconds; far above what anything needs that is waited for
GUNICORN = "--worker-class gthread --workers 1 --threads 8 --keep-alive 75 --graceful-timeout 5 --log-level warning --pid pid".split()
PROGRAMS = {"gunicorn": "gunicorn", "nginx": "nginx", "redis-server": "redis-server", "redis-cli": "redis-tools", "curl": "curl"}


class Fault(Exception):
    """Something is not there, or does not come about."""


class Cluster:
    """`clones` of them serve, two stand by. All of it is in one folder."""

    def __init__(self, folder, balancer, clones=3):
        self.folder, self._program = os.path.abspath(folder), os.path.abspath(balancer)
        with open(os.path.join(HERE, "balancer.toml"), encoding="utf-8") as text:
            configuration = with_clones(text.read(), clones)
        self.ports = {port: free_port() for port in dict.fromkeys(re.findall(r"(?<=127\.0\.0\.1:)\d+", configuration))}
        self._configuration = re.sub(r"(?<=127\.0\.0\.1:)\d+", lambda port: str(self.ports[port[0]]), configuration)
        addresses = re.findall(r'name = "([\w-]+)", address = "127\.0\.0\.1:(\d+)"', self._configuration)
        self.nodes = {name: Node(os.path.join(self.folder, name), name, int(port), self.path("redis.sock")) for name, port in addresses}
        self._others, self.balancer = [], None

    def __enter__(self):
        for name, package in PROGRAMS.items():
            program(name, package)
        redis_of_python()
        try:
            self._start()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_):
        self.end()

    def _start(self):
        os.makedirs(self.path("temporary"), exist_ok=True)
        self._beside("redis", program("redis-server"), "--port", "0", "--unixsocket", self.path("redis.sock"), "--save", "", "--appendonly", "no")
        with open(os.path.join(HERE, "nginx.conf"), encoding="utf-8") as text:
            self._write("nginx.conf", text.read().replace("9108", str(self.ports["9108"])).replace("PROJECT", HERE))
        self._beside("nginx", program("nginx"), "-p", self.folder, "-c", self.path("nginx.conf"))
        for node in self.nodes.values():
            node.prepare("v1", "authority" if node.name == "authority" else "standby")
            node.start()
        for node in self.nodes.values():
            wait_for(f"{node.name} at {node.port}", lambda node=node: is_open(node.port), node.said)
        wait_for("nginx", lambda: is_open(self.ports["9108"]), lambda: self._said("nginx"))
        wait_for("redis", lambda: self.redis("PING") == ["PONG"], lambda: self._said("redis"))
        self._write("balancer.toml", self._configuration)
        self.do("certs", "--dir", self.path("certs"))
        self._write("certs/affinity.key", secrets.token_hex(32))
        self.start_balancer()

    def start_balancer(self):
        self.balancer = self._beside("balancer", self._program, "--config", self.path("balancer.toml"))
        ready = f"http://127.0.0.1:{self.admin}/readyz"

        def is_ready():
            if self.balancer.poll() is not None:
                raise Fault(f"the balancer ended with {self.balancer.returncode}:\n{self.said_by_balancer()}")
            with contextlib.suppress(OSError):
                return urllib.request.urlopen(ready, timeout=1).status == 200
            return False

        wait_for("the balancer", is_ready, self.said_by_balancer)

    def kill_balancer(self):
        self.balancer.kill()
        self.balancer.wait()

    def _beside(self, name, *command):
        with open(self.path(f"{name}.log"), "ab") as log:
            process = subprocess.Popen(command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        self._others.append(process)
        return process

    def end(self):
        for node in self.nodes.values():
            node.kill()
        for process in self._others:
            process.kill()
            process.wait()

    @property
    def port(self):
        return self.ports["9443"]

    @property
    def admin(self):
        return self.ports["9901"]

    @property
    def authority_file(self):
        """Who signs the certificate, for clients to trust."""
        return self.path("certs/ca.pem")

    def path(self, name):
        return os.path.join(self.folder, name)

    def deploy(self, version):
        """The hook that `roll` restarts an app server with."""
        return f"{os.path.join(HERE, 'deploy')} {self.folder} {version}"

    def run(self, *arguments):
        """A command of the balancer's: its exit code, and what it says on both its outputs."""
        done = subprocess.run([self._program, "--config", self.path("balancer.toml"), *arguments], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=2 * DEADLINE, encoding="utf-8", check=False)
        return done.returncode, done.stdout

    def do(self, *arguments):
        """The same of one that must not fail."""
        code, said = self.run(*arguments)
        if code:
            raise Fault(f"`balancer {' '.join(arguments)}` ended with {code}:\n{said}")
        return said

    def redis(self, *words):
        done = subprocess.run([program("redis-cli"), "-s", self.path("redis.sock"), "--raw", *words], stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, timeout=DEADLINE, encoding="utf-8", check=False)
        return done.stdout.splitlines()

    def ask(self, path):
        """The admin address."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}{path}", timeout=DEADLINE) as answer:
            return answer.read().decode()

    def metric(self, name, **labels):
        """The sum of the series that have these labels."""
        lines = re.findall(rf"^{name}(?:\{{(.*)\}})? (\S+)$", self.ask("/metrics"), re.MULTILINE)
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        return sum(float(value) for found, value in lines if all(label in found for label in wanted))

    def said_by_balancer(self):
        return self._said("balancer")

    def _said(self, name):
        with open(self.path(f"{name}.log"), encoding="utf-8", errors="replace") as log:
            return log.read()[-4000:]

    def _write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(text)


class Node:
    """An app server: gunicorn, which is started again when it ends, as systemd would do it. `version` and `role` are files of its
    folder, which count from its next start and from its next check."""

    def __init__(self, folder, name, port, redis):
        self.folder, self.name, self.port, self.redis = folder, name, port, redis
        self._wanted = threading.Event()
        self._keeper = self._process = None

    def prepare(self, version, role):
        os.makedirs(self.folder, exist_ok=True)
        self.write("version", version)
        self.write("role", role)

    def write(self, name, text):
        """In one stroke: whoever reads finds the one before or this one."""
        with open(os.path.join(self.folder, name + ".new"), "w", encoding="ascii") as file:
            file.write(text)
        os.replace(file.name, os.path.join(self.folder, name))

    def read(self, name):
        with open(os.path.join(self.folder, name), encoding="utf-8", errors="replace") as file:
            return file.read().strip()

    def claim(self, wanted):
        """Whether its checks are answered that it is the authority."""
        self.write("role", "authority" if wanted else "standby")

    def start(self):
        self._wanted.set()
        self._keeper = threading.Thread(target=self._keep, daemon=True)
        self._keeper.start()

    def _keep(self):
        while self._wanted.is_set():
            environment = {"NODE": self.name, "VERSION": self.read("version"), "ROLE": os.path.join(self.folder, "role"),
                           "REDIS": self.redis, "PYTHONDONTWRITEBYTECODE": "1", "PATH": os.environ["PATH"]}
            command = [program("gunicorn"), *GUNICORN, "--bind", f"127.0.0.1:{self.port}", "--pythonpath", HERE, "app:application"]
            with open(os.path.join(self.folder, "log"), "ab") as log:
                self._process = subprocess.Popen(command, cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, stdout=log,
                                                 stderr=log, start_new_session=True)
            self._process.wait()
            self._kill_group()  # workers that have outlived it would keep its port

    def kill(self):
        """At once, as if its machine had lost its power; it stays away until it is started."""
        self._wanted.clear()
        if self._keeper:
            while self._keeper.is_alive():
                self._kill_group()
                self._keeper.join(0.05)

    def _kill_group(self):
        with contextlib.suppress(ProcessLookupError, AttributeError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def said(self):
        return self.read("log")[-4000:]


def with_clones(configuration, clones):
    """More of those that serve, as the third one is."""
    third = re.search(r'^.*"app-3".*\n', configuration, re.MULTILINE)[0]
    more = [third.replace("app-3", f"app-{number}").replace("9103", str(9200 + number)) for number in range(4, clones + 1)]
    return configuration.replace(third, third + "".join(more))


def program(name, package=None):
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if found is None:
        raise Fault(f"{name} is not installed (Debian: {package or name})")
    return found


def redis_of_python():
    """Of the Python that gunicorn is run by, which need not be this one."""
    with open(program("gunicorn"), encoding="utf-8") as script:
        python = script.readline().removeprefix("#!").split()
    if subprocess.run([*python, "-c", "import redis"], stderr=subprocess.DEVNULL, check=False).returncode:
        raise Fault(f"{' '.join(python)} has no package redis (Debian: python3-redis)")


def free_port():
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        return chosen.getsockname()[1]


def is_open(port):
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    return False


def wait_for(what, condition, said=lambda: ""):
    end = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > end:
            raise Fault(f"not within {DEADLINE} s: {what}\n{said()}")
        time.sleep(0.05)
