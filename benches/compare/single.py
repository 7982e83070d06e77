"""The balancer alone: started from a configuration, reloaded, asked for its metrics."""

import contextlib
import os
import signal
import time
import urllib.request

from machine import PROXY_CORE, Process, Refused, free_port, wait_for_port


class Balancer:
    """A running balancer with one worker, and its configuration file."""

    def __init__(self, program, directory, body, cores=PROXY_CORE):
        self.file = os.path.join(directory, "balancer.toml")
        self.port, self.admin = free_port(), free_port()
        self.write(body)
        self.process = Process("balancer", [program, "--config", self.file], cores, directory)
        self._wait()

    def write(self, body):
        """Replaces the configuration in one step; a reload never sees half of it."""
        with open(self.file + ".new", "w", encoding="ascii") as file:
            file.write(f"""
[process]
workers = 1
shutdown_grace = "1s"
[log]
format = "json"
[admin]
address = "127.0.0.1:{self.admin}"
[listener.http]
address = "127.0.0.1:{self.port}"
{body}""")
        os.replace(self.file + ".new", self.file)

    def _wait(self):
        """Listeners may be open before endpoints have been checked: `/readyz` says when all is well."""
        wait_for_port(self.process, self.admin)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):  # 503, or not yet
                urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/readyz", timeout=5).close()
                return
            time.sleep(0.01)
        raise Refused(f"the balancer is not ready after 10 s: {self.process.complaint()}")

    def reload(self, body):
        self.write(body)
        self.process.child.send_signal(signal.SIGHUP)

    def metric(self, name, *labels):
        """The sum of what `/metrics` says of a family's members with these labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/metrics", timeout=5) as reply:
            lines = reply.read().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines
                   if line.startswith((name + " ", name + "{")) and all(label in line for label in labels))

    def generation(self):
        return int(self.metric("balancer_config_generation"))
