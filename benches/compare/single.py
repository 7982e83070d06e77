"""The balancer alone: started from a configuration, reloaded, asked for its metrics."""

import contextlib
import os
import signal
import time
import urllib.request

from machine import PROXY_CORE, Process, Refused, free_port, wait_for_port


class Balancer:
    """A running balancer and its configuration file; with a certificate it listens on `https`, too."""

    def __init__(self, program, directory, body, cores=PROXY_CORE, workers=1, certificate=None):
        self.port, self.https, self.admin = free_port(), free_port(), free_port()
        self.workers, self.certificate = workers, certificate
        own = os.path.join(directory, f"balancer-{self.port}")
        os.makedirs(own)
        self.file = os.path.join(own, "balancer.toml")
        self.write(body)
        self.process = Process("balancer", [program, "--config", self.file], cores, own)
        self._wait()

    def write(self, body):
        """Replaces the configuration in one step; a reload never sees half of it."""
        tls = f"""
[listener.https]
address = "127.0.0.1:{self.https}"
tls = {{ certificates = [{{ chain = "{self.certificate.chain}", key = "{self.certificate.key}" }}] }}
""" if self.certificate else ""
        with open(self.file + ".new", "w", encoding="ascii") as file:
            file.write(f"""
[process]
workers = {self.workers}
shutdown_grace = "1s"
[log]
format = "json"
[admin]
address = "127.0.0.1:{self.admin}"
[listener.http]
address = "127.0.0.1:{self.port}"
{tls}{body}""")
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

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stop()


def forwarding(addresses, more=""):
    """Sends every request to these app servers; `more` is said of the upstream."""
    endpoints = ", ".join(f'"{address}"' for address in addresses)
    return f'[upstream.app]\nendpoints = [{endpoints}]\n{more}\n[[route]]\npath = "/"\nupstream = "app"\n'


def routes(name, count):
    """So many further routes to the same upstream."""
    return "".join(f'[[route]]\npath = "/{name}/service{index}"\nupstream = "app"\n' for index in range(count))
