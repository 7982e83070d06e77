#!/usr/bin/env python3
"""An app server that fails on demand. `app.py PORT LOG [KEEP_ALIVE_SECONDS]`

Every request is noted in LOG as it arrives, `METHOD PATH`, in one write, so that the note outlives a kill. `/control/MODE`
changes what comes next:

well            200
slow:SECONDS    200 after that long
status:CODE     that status
reset           the connection is reset when the request has arrived
cut             half of a response, then the end
limit:COUNT     so many are served at once, the others wait for their turn
"""

import asyncio
import os
import socket
import struct
import sys


class App:
    """What all connections share."""

    def __init__(self, log, keep_alive):
        self.log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self.keep_alive = keep_alive
        self.mode, self.value = "well", ""
        self.delay, self.turns = 0.0, None
        self.connections = 0

    def control(self, text):
        mode, _, value = text.partition(":")
        if mode == "slow":
            self.delay = float(value)
        elif mode == "limit":
            self.turns = asyncio.Semaphore(int(value))
        else:
            self.mode, self.value = mode, value
            if mode == "well":
                self.delay, self.turns = 0.0, None

    def note(self, line):
        os.write(self.log, line)

    async def serve(self, reader, writer):
        """One connection."""
        self.connections += 1
        try:
            while await self.exchange(reader, writer):
                pass
        except (OSError, EOFError, ValueError, TimeoutError, asyncio.LimitOverrunError):
            pass  # the other side's affair
        finally:
            self.connections -= 1
            writer.close()

    async def exchange(self, reader, writer):
        """One request. Whether another may follow."""
        async with asyncio.timeout(self.keep_alive):
            head = await reader.readuntil(b"\r\n\r\n")
        line, _, fields = head.partition(b"\r\n")
        method, path, _ = line.split(b" ")
        lower = fields.lower()
        at = lower.find(b"content-length:")
        if at >= 0:
            await reader.readexactly(int(lower[at + 15:].split(b"\r\n", 1)[0]))
        if path.startswith(b"/control/"):
            self.control(path[9:].decode())
            writer.write(answer(200, b"done\n"))
            return True
        if path == b"/healthz":
            writer.write(answer(503 if self.mode == "status" else 200, b"ok\n"))
            return True
        self.note(method + b" " + path + b"\n")
        if self.turns:
            async with self.turns:
                await asyncio.sleep(self.delay)
        elif self.delay:
            await asyncio.sleep(self.delay)
        if self.mode == "reset":
            # No time to linger: closing sends a RST.
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        if self.mode == "cut":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n" + b"x" * 500)
            return False
        status = int(self.value) if self.mode == "status" else 200
        writer.write(answer(status, b"" if method == b"HEAD" else b"x" * 1000, 1000))
        await writer.drain()
        return True


def answer(status, body, length=None):
    length = len(body) if length is None else length
    return b"HTTP/1.1 %d -\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n" % (status, length) + body


async def main(port, log, keep_alive=60.0):
    app = App(log, float(keep_alive))
    server = await asyncio.start_server(app.serve, "127.0.0.1", int(port), backlog=1024)
    async with server:
        await server.serve_forever()


asyncio.run(main(*sys.argv[1:]))
