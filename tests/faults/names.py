"""A name server that knows one name, and forgets it on demand."""

import os
import socket
import struct
import subprocess
import threading


class Names:
    """Answers for every name that ends in `.test`. The processes that are started after it ask it, and nobody else."""

    def __init__(self, directory):
        self.state = "silent"
        self.asked, self.mounted = 0, []
        files = {"resolv.conf": "nameserver 127.0.0.1\noptions timeout:1 attempts:2\n", "nsswitch.conf": "hosts: files dns\n"}
        for name, text in files.items():
            path = os.path.join(directory, name)
            with open(path, "w", encoding="ascii") as file:
                file.write(text)
            # Our mount namespace is our own.
            if os.path.exists(f"/etc/{name}"):
                subprocess.run(["mount", "--bind", path, f"/etc/{name}"], check=True)
                self.mounted.append(f"/etc/{name}")
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 53))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            query, client = self.socket.recvfrom(4096)
            if not query:
                return
            self.asked += 1
            if answer := reply(query, self.state):
                self.socket.sendto(answer, client)


    def end(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self.socket.getsockname())
        for path in self.mounted:
            subprocess.run(["umount", path], check=True)


def reply(query, state):
    """To one question, RFC 1035 §4: `state` is an IPv4 address, "gone" (NXDOMAIN) or "silent"."""
    if state == "silent":
        return None
    question = query[12:query.index(b"\0", 12) + 5]
    kind = struct.unpack(">H", question[-4:-2])[0]
    is_answered = state != "gone" and kind == 1
    head = query[:2] + struct.pack(">HHHHH", 0x8180 | (3 if state == "gone" else 0), 1, int(is_answered), 0, 0)
    if not is_answered:
        return head + question
    return head + question + struct.pack(">HHHLH", 0xC00C, 1, 1, 0, 4) + socket.inet_aton(state)
