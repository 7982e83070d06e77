"""What every judge needs: a balancer with a certificate, programs beside it, and packages from PyPI. Whatever is started
here ends with it."""

import glob
import json
import os
import shutil
import socket
import subprocess
import sys
import time

DEADLINE = 60  # seconds; far above what anything needs that is waited for


class CannotJudge(Exception):
    """Something the judge needs is not there or does not work."""


class Stage:
    def __init__(self, directory, options):
        self.directory = directory
        self.all = options.all
        self.admin = None  # the port of the balancer's admin address
        self._balancer = options.balancer
        self._packages = options.packages
        self._running = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self._running:
            process.kill()
            process.wait()

    def path(self, name):
        return os.path.join(self.directory, name)

    def certificate(self):
        """ECDSA P-256 for localhost, its own authority, in `chain.pem` and `key.pem`; the path of the chain."""
        self.run([program("openssl", "openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt",
                  "ec_paramgen_curve:prime256v1", "-nodes", "-days", "90", "-subj", "/CN=localhost",
                  "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
                  "-keyout", self.path("key.pem"), "-out", self.path("chain.pem")])
        return self.path("chain.pem")

    def balancer(self, configuration):
        """Starts it; the port of each listener by its name. Those with a certificate find it in `chain.pem`."""
        file, log = self.path("balancer.toml"), self.path("balancer.log")
        with open(file, "w", encoding="utf-8") as text:
            text.write(configuration + '\n[admin]\naddress = "127.0.0.1:0"\n[log]\nformat = "json"\n')
        with open(log, "wb") as output:
            process = self.start([self._balancer, "--config", file], stderr=output)

        def events():
            with open(log, encoding="utf-8") as lines:
                return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]

        def is_ready():
            if process.poll() is not None:
                with open(log, encoding="utf-8") as text:
                    raise CannotJudge(f"the balancer ended with {process.returncode}: {text.read()}")
            return any(event["message"] == "ready" for event in events())

        wait_for("the balancer", is_ready)
        self.admin = next(int(event["address"].rpartition(":")[2]) for event in events()
                          if event["message"] == "admin open")
        return {event["listener"]: int(event["address"].rpartition(":")[2])
                for event in events() if event["message"] == "listener open"}

    def start(self, command, **options):
        process = subprocess.Popen(command, cwd=self.directory, stdin=subprocess.DEVNULL, **options)
        self._running.append(process)
        return process

    def run(self, command, seconds=DEADLINE, accept_failure=False):
        """What it says, on both its outputs."""
        try:
            done = subprocess.run(command, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, timeout=seconds, encoding="utf-8", errors="replace")
        except subprocess.TimeoutExpired as error:
            raise CannotJudge(f"{command[0]} did not end within {seconds} s") from error
        if done.returncode != 0 and not accept_failure:
            raise CannotJudge(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-4000:]}")
        return done.stdout

    def environment(self, name, *packages):
        """A Python of this version with these packages from PyPI; its path. One that is there is kept."""
        folder = os.path.join(self._packages, name)
        self._make(folder, [sys.executable, "-m", "venv", folder], packages)
        return os.path.join(folder, "bin", "python")

    def environment_of_python_2(self, name, *packages):
        """The same of Python 2.7; `None` where that is not on this machine."""
        python = python_2()
        if python is None:
            return None
        # The last release that makes environments of Python 2.7.
        virtualenv = self.environment("virtualenv", "virtualenv==20.15.1")
        folder = os.path.join(self._packages, name)
        self._make(folder, [virtualenv, "-m", "virtualenv", "--python", python, folder], packages)
        return os.path.join(folder, "bin", "python")

    def _make(self, folder, command, packages):
        complete = os.path.join(folder, "packages")
        wanted = " ".join(packages)
        if os.path.exists(complete):
            with open(complete, encoding="utf-8") as text:
                if text.read() == wanted:
                    return
        shutil.rmtree(folder, ignore_errors=True)
        self.run(command, seconds=120)
        print(f"   installing {wanted}", flush=True)
        self.run([os.path.join(folder, "bin", "python"), "-m", "pip", "install", "--quiet", *packages], seconds=300)
        with open(complete, "w", encoding="utf-8") as text:
            text.write(wanted)


def program(name, package):
    """The path of a program."""
    found = shutil.which(name)
    if found is None:
        raise CannotJudge(f"{name} is not installed (Debian: {package})")
    return found


def python_2():
    """The path of Python 2.7. Where there are several shims of it, one that works."""
    root = os.environ.get("PYENV_ROOT", os.path.expanduser("~/.pyenv"))
    for candidate in [*map(shutil.which, ("python2.7", "python2")), *glob.glob(f"{root}/versions/2.7.*/bin/python2.7")]:
        works = candidate and subprocess.run(
            [candidate, "-c", "import sys; sys.exit(sys.version_info[:2] != (2, 7))"], capture_output=True, check=False)
        if works and works.returncode == 0:
            return candidate
    return None


def free_port():
    """One that nobody listens on, for programs that cannot choose one themselves and say which."""
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        return chosen.getsockname()[1]


def wait_for(what, condition):
    end = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > end:
            raise CannotJudge(f"not within {DEADLINE} s: {what}")
        time.sleep(0.05)


def is_open(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
