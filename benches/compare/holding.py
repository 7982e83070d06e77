"""Idle connections to a proxy, held by a process on the load's core. See idle.py."""

import os
import subprocess
import sys
import time

from machine import LOAD_CORE, Process, Refused


class Held:
    """So many connections, open and idle: over TLS where there is a certificate, HTTP/2 where wanted."""

    def __init__(self, directory, port, count, certificate=None, h2=False):
        self.count = count
        holder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "idle.py")
        arguments = [certificate.chain] if certificate else []
        if h2:
            arguments.append("h2")
        self.process = Process("idle", [sys.executable, holder, str(port), str(count), *arguments], LOAD_CORE,
                               directory, output=subprocess.PIPE)
        if self.process.child.stdout.readline() != b"open\n":
            self.process.child.wait()
            raise Refused(f"idle connections did not open: {self.process.complaint()}")

    def settle(self):
        time.sleep(SETTLE_SECONDS)

    def close(self):
        """Closes them; how many the proxy had closed before."""
        self.process.child.stdin.close()
        return int(self.process.child.stdout.readline() or self.count)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stop()


WARM_UP = 100  # connections, so that what a first request allocates once is not counted
SETTLE_SECONDS = 4  # longer than anyone waits before giving memory back
