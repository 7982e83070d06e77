"""A WebSocket server that says back what it hears, unread: `echo.py PORT`. What a proxy passes on it does not read either."""

import base64
import hashlib
import select
import socket
import sys


def main():
    server = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=4096)
    server.setblocking(False)
    poll = select.epoll()
    poll.register(server, select.EPOLLIN)
    clients = {}
    while True:
        for number, _ in poll.poll():
            if number == server.fileno():
                connection, _ = server.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                clients[connection.fileno()] = [connection, b""]
                poll.register(connection, select.EPOLLIN)
                continue
            connection, head = clients[number]
            try:
                heard = connection.recv(65536)
                if heard:
                    clients[number][1] = answer(connection, head, heard)
            except OSError:
                heard = b""
            if not heard:
                del clients[number]
                connection.close()


def answer(connection, head, heard):
    """What came of the head so far; None once it has been answered."""
    if head is None:
        connection.sendall(heard)
        return None
    head += heard
    if b"\r\n\r\n" not in head:
        return head
    fields = dict(line.lower().split(": ", 1) for line in head.decode().split("\r\n")[1:] if ": " in line)
    # As it was sent: it is case-sensitive.
    key = next(line.split(": ", 1)[1] for line in head.decode().split("\r\n") if line.lower().startswith("sec-websocket-key"))
    if "upgrade" not in fields:
        raise OSError("no WebSocket was asked for")
    accept = base64.b64encode(hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()
    connection.sendall(f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                       f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode())
    return None


if __name__ == "__main__":
    main()
