"""App servers that can be killed, stopped and told to fail; and what they were asked."""

import os
import sys
import urllib.request
from collections import Counter

from machine import LOAD_CORE, Process, free_port, wait_for_port

HERE = os.path.dirname(os.path.abspath(__file__))


class App:
    """One of them; the same port through all its lives. On this machine, or at a `place` of its own."""

    def __init__(self, directory, index, keep_alive=60.0, place=None):
        os.makedirs(directory, exist_ok=True)
        self.directory, self.index, self.keep_alive, self.place = directory, index, keep_alive, place
        self.host, self.port = (place.host, 8000) if place else ("127.0.0.1", free_port())
        self.log = os.path.join(directory, f"app{index}.log")
        self.process = None
        self.start()

    @property
    def address(self):
        return f"{self.host}:{self.port}"

    def start(self):
        program = [sys.executable, os.path.join(HERE, "app.py"), self.host, str(self.port), str(self.index), self.log,
                   str(self.keep_alive)]
        program = self.place.command(program) if self.place else program
        self.process = Process(f"app{self.index}", program, LOAD_CORE, self.directory)
        wait_for_port(self.process, self.port)

    def kill(self):
        self.process.child.kill()
        self.process.child.wait()

    def signal(self, number):
        self.process.child.send_signal(number)

    def control(self, mode):
        urllib.request.urlopen(f"http://{self.address}/control/{mode}", timeout=10).close()


def forwarding(apps, more=""):
    """A configuration that sends everything to them."""
    endpoints = ", ".join(f'"{app.address}"' for app in apps)
    return f'[upstream.app]\nendpoints = [{endpoints}]\n{more}[[route]]\npath = "/"\nupstream = "app"\n'


def noted(apps):
    """How often each request arrived at any of them."""
    counts = Counter()
    for app in apps:
        if os.path.exists(app.log):
            with open(app.log, encoding="ascii", errors="replace") as lines:
                counts.update(line.strip() for line in lines)
    return counts


def delivered_twice(apps):
    """What arrived more than once, though its method may not be repeated."""
    return {line for line, count in noted(apps).items() if count > 1 and line.split()[0] not in REPEATABLE}


REPEATABLE = {"GET", "HEAD", "OPTIONS", "PUT", "DELETE"}
FAST_CHECKS = 'health = { path = "/healthz", interval = "1s", fast_interval = "200ms", timeout = "500ms" }\n'
