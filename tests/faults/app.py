#!/usr/bin/env python3
"""An app server that fails on demand. `app.py HOST PORT NAME LOG [KEEP_ALIVE_SECONDS]`

Every request is noted in LOG as it arrives, `METHOD PATH`, in one write, so that the note outlives a kill. `/control/MODE`
changes what comes next:

well            200
slow:SECONDS    200 after that long
status:CODE     that status
reset           the connection is reset when the request has arrived
cut             half of a response, then the end
break           half of a response, then a reset
drip:COUNT:SECONDS
                a response in so many pieces with pauses between them, every other one in chunks
head:SECONDS    a response whose head comes byte by byte, with pauses between them
limit:COUNT     so many are served at once, the others wait for their turn
"""

import asyncio
import os
import socket
import struct
import sys


class App:
    """What all connections share."""

    def __init__(self, name, log, keep_alive):
        self.name = name
        self.log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self.keep_alive = keep_alive
        self.mode, self.value = "well", ""
        self.delay, self.turns = 0.0, None
        self.connections = 0
        self.answers = 0

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
            writer.write(self.answer(200, b"done\n", 5))
            return True
        if path == b"/healthz":
            writer.write(self.answer(503 if self.mode == "status" else 200, b"ok\n", 3))
            return True
        self.note(method + b" " + path + b"\n")
        if self.turns:
            async with self.turns:
                await asyncio.sleep(self.delay)
        elif self.delay:
            await asyncio.sleep(self.delay)
        if self.mode in ("cut", "break"):
            writer.write(self.answer(200, b"x" * 500))
            await writer.drain()
            await asyncio.sleep(0.05)  # a RST takes with it what has not been read
        if self.mode in ("reset", "break"):
            # No time to linger: closing sends a RST.
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if self.mode in ("cut", "reset", "break"):
            return False
        if self.mode == "drip":
            await self.drip(writer)
            return True
        status = int(self.value) if self.mode == "status" else 200
        response = self.answer(status, b"" if method == b"HEAD" else b"x" * 1000)
        if self.mode == "head":
            head, pause = response.index(b"\r\n\r\n") + 4, float(self.value)
            for at in range(head):
                writer.write(response[at:at + 1])
                await writer.drain()
                await asyncio.sleep(pause)
            response = response[head:]
        writer.write(response)
        await writer.drain()
        return True

    async def drip(self, writer):
        count, _, pause = self.value.partition(":")
        self.answers += 1
        in_chunks = self.answers % 2
        head = b"transfer-encoding: chunked" if in_chunks else b"content-length: %d" % (1000 * int(count))
        writer.write(b"HTTP/1.1 200 -\r\nx-app: %s\r\n%s\r\n\r\n" % (self.name, head))
        for _ in range(int(count)):
            writer.write(b"3e8\r\n" + b"x" * 1000 + b"\r\n" if in_chunks else b"x" * 1000)
            await writer.drain()
            await asyncio.sleep(float(pause))
        writer.write(b"0\r\n\r\n" if in_chunks else b"")

    def answer(self, status, body, length=1000):
        return b"HTTP/1.1 %d -\r\nx-app: %s\r\ncontent-length: %d\r\n\r\n" % (status, self.name, length) + body


async def main(host, port, name, log, keep_alive=60.0):
    app = App(name.encode(), log, float(keep_alive))
    server = await asyncio.start_server(app.serve, host, int(port), backlog=1024)
    async with server:
        await server.serve_forever()


asyncio.run(main(*sys.argv[1:]))
