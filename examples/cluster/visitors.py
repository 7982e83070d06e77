"""Visitors with a session and cookies, each with a connection of its own: requests at a fixed rate, all of them over TLS, and what
became of each."""

import asyncio
import itertools
import ssl
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

SCRIPT = "/assets/app.js"
TIMEOUT = 15  # seconds until a request counts as failed
WRITTEN = "article-"  # how the keys of what editors write begin
STAY = 10  # requests of somebody who is followed by a newcomer


@dataclass
class Answer:
    """`status` 0: no whole response, and `said` is why. `version` and `node` as the app server has said."""

    status: int
    said: str = ""
    version: str = ""
    node: str = ""
    headers: dict = field(default_factory=dict)
    cookies: list = field(default_factory=list)
    body: bytes = b""


@dataclass
class Request:
    """One that was sent; times by the monotonic clock. `wrong`: what it failed by, or nothing."""

    visitor: str
    path: str
    sent: float
    done: float
    answer: Answer
    wrong: str

    def __str__(self):
        return (f"{self.sent:.3f} s, {(self.done - self.sent) * 1000:.0f} ms, {self.visitor} {self.path}: {self.answer.status} "
                f"by {self.answer.node or 'nobody'} {self.answer.version} {self.wrong}")


class Connection:
    """HTTP/1.1 over TLS, one request at a time; opened again where it was closed."""

    def __init__(self, cluster):
        self.port = cluster.port
        self._tls = ssl.create_default_context(cafile=cluster.authority_file)
        self._reader = self._writer = None

    async def ask(self, method, path, headers=(), body=b""):
        """Never raises: what went wrong is in the answer."""
        try:
            async with asyncio.timeout(TIMEOUT):
                return await self._ask(method, path, headers, body)
        except (OSError, EOFError, ValueError, TimeoutError) as error:
            self.close()
            return Answer(0, repr(error))

    async def _ask(self, method, path, headers, body):
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=self._tls, server_hostname="localhost")
        lines = [f"{method} {path} HTTP/1.1", f"host: localhost:{self.port}", *headers]
        if body or method == "POST":
            lines.append(f"content-length: {len(body)}")
        self._writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        answer = Answer(int(head[0].split()[1]))
        for name, value in (line.split(": ", 1) for line in head[1:] if ": " in line):
            if name.lower() == "set-cookie":
                answer.cookies.append(value.split(";")[0].split("=", 1))
            answer.headers[name.lower()] = value
        answer.said = answer.headers.get("proxy-status", "")
        answer.version, answer.node = answer.headers.get("x-app-version", ""), answer.headers.get("x-served-by", "")
        answer.body = await self._reader.readexactly(int(answer.headers["content-length"]))
        if answer.headers.get("connection") == "close":
            self.close()
        return answer

    def close(self):
        if self._writer:
            self._writer.close()
        self._reader = self._writer = None


class Visitor:
    """Somebody with a browser: keeps cookies, knows their own name, and asks for pages and for their scripts."""

    def __init__(self, cluster, number):
        self.number, self.sessions, self.name, self.cookies = number, 0, "", {}
        self._connection = Connection(cluster)
        self._paths = itertools.cycle(("/", SCRIPT, "/report", SCRIPT))

    async def log_in(self):
        """As somebody whom the site has not seen before."""
        self.sessions += 1
        self.name, self.cookies = f"visitor-{self.number}-{self.sessions}", {}
        return await self._ask("POST", "/login", f"name={self.name}".encode(), expect=303)

    async def visit(self):
        path = next(self._paths)
        expect = "const version" if path == SCRIPT else f"Hello {self.name}<"
        return await self._ask("GET", path, within=expect)

    async def _ask(self, method, path, body=b"", expect=200, within=""):
        sent = time.monotonic()
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        answer = await self._connection.ask(method, path, [f"cookie: {cookies}"] if cookies else [], body)
        self.cookies.update(answer.cookies)
        wrong = ""
        if answer.status == 401:
            wrong = "the session is lost"
        elif answer.status != expect:
            wrong = f"failed: {answer.said}"
        elif within not in answer.body.decode(errors="replace") or (within and answer.version not in answer.body.decode(errors="replace")):
            wrong = f"another page than was asked for: {answer.body[:200]!r}"
        return Request(self.name, path, sent, time.monotonic(), answer, wrong)

    def close(self):
        self._connection.close()


class Editor:
    """Somebody who does admin work: writes, each time with another key."""

    def __init__(self, cluster, number):
        self.number = number
        self._connection = Connection(cluster)

    async def write(self, count):
        key, sent = f"{WRITTEN}{self.number}-{count}", time.monotonic()
        answer = await self._connection.ask("POST", "/admin/articles", [f"idempotency-key: {key}"])
        wrong = "" if answer.status == 200 else answer.said
        return Request(key, "/admin/articles", sent, time.monotonic(), answer, wrong)

    def close(self):
        self._connection.close()


class Crowd:
    """People who go on asking, `rate` requests a second of all of them, one at a time each, as long as the block lasts. With the next
    block it is the same people."""

    def __init__(self, people, rate):
        self.people, self.rate = people, rate
        self.requests, self.begun, self.ended = [], 0.0, 0.0
        self._wanted, self._thread, self._fault = threading.Event(), None, None

    def __enter__(self):
        self.requests = []
        self._wanted.set()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self.begun = time.monotonic()
        return self

    def __exit__(self, *_):
        self.ended = time.monotonic()
        self._wanted.clear()
        self._thread.join()
        if self._fault:
            raise self._fault

    def _run(self):
        try:
            asyncio.run(self._all())
        except Exception as error:  # told where the block ends
            self._fault = error

    async def _all(self):
        await asyncio.gather(*(self._one(number, person) for number, person in enumerate(self.people)))

    async def _one(self, number, person):
        """Requests one after the other, each when it is due; late ones at once."""
        pause = len(self.people) / self.rate
        due = time.monotonic() + pause * number / len(self.people)
        for count in itertools.count(number):
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if not self._wanted.is_set():
                break
            self.requests.append(await self.next(number, person, count))
            due = max(due + pause, time.monotonic() - 1)
        person.close()

    def since(self, moment):
        return [request for request in list(self.requests) if request.sent >= moment]

    def figures(self):
        ordered = sorted(request.done - request.sent for request in self.requests)
        rate = len(ordered) / (self.ended - self.begun)
        longest = ordered[-1] * 1000 if ordered else 0.0
        return f"{len(ordered)} requests of {len(self.people)} {self.kind}, {rate:.0f}/s, longest {longest:.0f} ms"


class Editors(Crowd):
    """Whatever they are answered, they go on."""

    kind = "editors"

    def __init__(self, cluster, rate, editors):
        super().__init__([Editor(cluster, number) for number in range(editors)], rate)

    async def next(self, number, editor, count):
        return await editor.write(count)


class Load(Crowd):
    """Visitors who have logged in. Where there are `newcomers`, every fourth one is followed by somebody else after some requests."""

    kind = "visitors"

    def __init__(self, cluster, rate, visitors):
        super().__init__([Visitor(cluster, number) for number in range(visitors)], rate)
        self.newcomers = False

    def log_in(self):
        return [request for request in asyncio.run(self._log_in()) if request.wrong]

    async def _log_in(self):
        requests = [await visitor.log_in() for visitor in self.people]
        for visitor in self.people:
            visitor.close()  # a connection belongs to the loop that has opened it
        return requests

    def with_newcomers(self):
        self.newcomers = True
        return self

    def __exit__(self, *rest):
        super().__exit__(*rest)
        self.newcomers = False

    async def next(self, number, visitor, count):
        leaves = self.newcomers and number % 4 == 0 and count % STAY == STAY - 1
        return await (visitor.log_in() if leaves else visitor.visit())

    def wrong(self):
        return [request for request in self.requests if request.wrong]

    def nodes(self):
        """How many requests each has answered."""
        return Counter(request.answer.node for request in self.requests)

    def backwards(self, versions):
        """Requests that an earlier one of these versions has answered although a later one had answered that visitor before."""
        newest, found = {}, []
        for request in sorted(self.requests, key=lambda request: request.done):  # of one visitor they do not overlap
            rank = versions.index(request.answer.version) if request.answer.version in versions else None
            if rank is None:
                continue
            if rank < newest.get(request.visitor, 0):
                found.append(request)
            newest[request.visitor] = max(rank, newest.get(request.visitor, 0))
        return found

    def mixed(self):
        """Scripts of another version than their page had."""
        pages, found = {}, []
        for request in sorted(self.requests, key=lambda request: request.done):
            if request.path != SCRIPT:
                pages[request.visitor] = request.answer.version
            elif pages.get(request.visitor, request.answer.version) != request.answer.version:
                found.append(request)
        return found


def ask(cluster, method, path, headers=(), body=b""):
    """One request on a connection of its own; the path is sent as it is written here."""
    async def once():
        connection = Connection(cluster)
        try:
            return await connection.ask(method, path, headers, body)
        finally:
            connection.close()

    return asyncio.run(once())
