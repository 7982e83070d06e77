"""Places for app servers that are as far away as other machines: network namespaces of their own, at the end of wires that can
be cut. This program, its clients and the balancer are in another one. All of them end with us."""

import json
import os
import socket
import subprocess
import sys
import time

from machine import LOAD_CORE, Process, Refused

HERE = os.path.dirname(os.path.abspath(__file__))


def enter():
    """Starts this program anew in a network and a mount namespace of its own. Returns there; or here, where there are none to
    be had, and why."""
    if os.environ.get(INSIDE):
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        return None
    apart = ["unshare", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"]), "--net", "--mount"]
    try:
        subprocess.run([*apart, "sh", "-c", "ip link set lo up && test -r /dev/net/tun -a -w /dev/net/tun"], check=True,
                       capture_output=True, text=True, timeout=10)
    except FileNotFoundError as missing:
        return f"{missing.filename} is not installed"
    except subprocess.CalledProcessError as failed:
        return failed.stderr.strip() or "/dev/net/tun cannot be opened"
    os.execvpe(apart[0], [*apart, sys.executable, *sys.argv], {**os.environ, INSIDE: "1"})


class Network:
    """So many places, and a wire to each."""

    def __init__(self, directory, count):
        self.wires = Process("wires", [sys.executable, os.path.join(HERE, "wire.py"), str(count)], LOAD_CORE, directory)
        _wait("no wires", lambda: sum(name.startswith("near") for _, name in socket.if_nameindex()) == count, self.wires)
        self.places = [Place(directory, number) for number in range(count)]

    def wire(self, number, **state):
        """How a wire is from now on: `delay`, `loss`, `hole`, see wire.py; nothing: as it should be."""
        self.wires.child.stdin.write(f"{number} {json.dumps(state)}\n".encode())
        self.wires.child.stdin.flush()

    def link(self, number, state):
        """Our own end of a wire, "up" or "down"."""
        _ip(f"link set near{number} {state}\n")


class Place:
    """Where one app server is."""

    def __init__(self, directory, number):
        self.host = f"10.99.{number}.2"
        # A namespace is there as long as somebody is in it.
        self.keeper = Process(f"place{number}", ["unshare", "--net", "sleep", "infinity"], LOAD_CORE, directory)
        own = os.readlink("/proc/self/ns/net")
        _wait("no namespace", lambda: os.readlink(f"/proc/{self.keeper.pid}/ns/net") != own, self.keeper)
        _ip(f"addr add 10.99.{number}.1/30 dev near{number}\nlink set near{number} up\n"
            f"link set far{number} netns {self.keeper.pid}\n")
        _ip(f"link set lo up\naddr add {self.host}/30 dev far{number}\nlink set far{number} up\n", self.command([]))

    def command(self, program):
        """`program`, started there."""
        return ["nsenter", f"--net=/proc/{self.keeper.pid}/ns/net", *program]


def _ip(lines, there=()):
    subprocess.run([*there, "ip", "-batch", "-"], input=lines, text=True, check=True)


def _wait(what, done, process):
    deadline = time.monotonic() + 10
    while not done():
        if process.has_ended() or time.monotonic() > deadline:
            raise Refused(f"{what}: {process.complaint()}")
        time.sleep(0.01)


INSIDE = "FAULTS_INSIDE"
