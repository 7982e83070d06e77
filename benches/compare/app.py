"""An app server that takes its time: `app.py PORT MILLISECONDS FILE [ADDRESS…]`. Answers GETs after so many
milliseconds, /healthz at once, and keeps the number of requests it is working on in the first four bytes of the file, to
be read after its death."""

import asyncio
import mmap
import struct
import sys

PORT, PAUSE = int(sys.argv[1]), int(sys.argv[2]) / 1000
ADDRESSES = sys.argv[4:] or ["127.0.0.1"]


async def main():
    with open(sys.argv[3], "r+b") as file:
        counter = mmap.mmap(file.fileno(), 4)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(loop, counter), ADDRESSES, PORT, backlog=1024)
    await server.serve_forever()


class Connection(asyncio.Protocol):
    """One request after the other; none has a body."""

    def __init__(self, loop, counter):
        self.loop, self.counter, self.received = loop, counter, b""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.received += data
        while b"\r\n\r\n" in self.received:
            head, _, self.received = self.received.partition(b"\r\n\r\n")
            if head.startswith(b"GET /healthz "):
                self.transport.write(REPLY)
            else:
                self.count(1)
                self.loop.call_later(PAUSE, self.answer)

    def answer(self):
        self.count(-1)
        self.transport.write(REPLY)

    def count(self, change):
        struct.pack_into("i", self.counter, 0, struct.unpack_from("i", self.counter)[0] + change)


REPLY = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n"

if __name__ == "__main__":
    asyncio.run(main())
