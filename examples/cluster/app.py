"""The app server that is cloned: people log in, their session is in Redis, and every answer says by which version of the code and by
which node it was given. `/admin` writes; whoever is asked does it and notes it, so that others can count. It keeps nothing to itself.

Environment: NODE (its name), VERSION, ROLE (a file that holds what it says of itself), REDIS (a unix socket)."""

import html
import json
import os
import random
import secrets
import time
from http.cookies import SimpleCookie

import redis

NODE, VERSION, ROLE = os.environ["NODE"], os.environ["VERSION"], os.environ["ROLE"]
BROKEN, FAILING = "v3", 0.2  # one of five requests fails in this version; its checks pass all the same
SESSION_SECONDS, BEHIND = 3600, 1
STORE = redis.Redis(unix_socket_path=os.environ["REDIS"], decode_responses=True)

PAGE = """<!doctype html>
<title>A cluster of clones</title>
<link rel="icon" href="/images/clone.svg">
<script src="/assets/app.js"></script>
<h1><img src="/images/clone.svg" width="48" alt=""> Hello {name}</h1>
<p>This page is of version <b>{version}</b>, made by {node}; its script is of version <b id="script"></b>.
<p>Visits in this session: {visits}
<script>document.getElementById("script").textContent = version</script>
"""
FORM = '<!doctype html><title>Who are you?</title><form method="post" action="/login">Name <input name="name"><button>Log in</button></form>\n'


def application(environ, start_response):
    method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
    if path == "/healthz":
        with open(ROLE, encoding="ascii") as role:
            status, kind, body, more = "200 OK", "text/plain", "ok\n", [("X-Role", role.read().strip())]
    elif VERSION == BROKEN and random.random() < FAILING:
        status, kind, body, more = "500 Internal Server Error", "text/plain", "this version is broken\n", []
    elif path == "/login" and method == "POST":
        status, kind, body, more = log_in(environ)
    elif path in ("/", "/report"):
        status, kind, body, more = page(environ, path)
    elif path == "/assets/app.js":
        status, kind, body, more = "200 OK", "text/javascript", f'const version = "{VERSION}";\n', []
    elif path == "/notes":
        status, kind, body, more = notes(environ, method)
    elif path == "/admin" or path.startswith("/admin/"):
        status, kind, body, more = administer(environ, method)
    else:
        status, kind, body, more = "404 Not Found", "text/plain", "there is no such page\n", []
    body = body.encode()
    start_response(status, [("Content-Type", f"{kind}; charset=utf-8"), ("Content-Length", str(len(body))), ("Cache-Control", "no-store"),
                            ("X-App-Version", VERSION), ("X-Served-By", NODE), *more])
    return [] if method == "HEAD" else [body]


def log_in(environ):
    """Whoever says a name is believed: what this is about is that all clones know it from then on."""
    form = environ["wsgi.input"].read(min(int(environ.get("CONTENT_LENGTH") or 0), 1000)).decode(errors="replace")
    name = form.removeprefix("name=")[:100]
    session = secrets.token_urlsafe(16)
    STORE.hset(f"session:{session}", mapping={"name": name, "visits": 0})
    STORE.expire(f"session:{session}", SESSION_SECONDS)
    cookie = f"session={session}; Path=/; HttpOnly; SameSite=Lax; Secure"
    return "303 See Other", "text/plain", "welcome\n", [("Location", "/"), ("Set-Cookie", cookie)]


def page(environ, path):
    cookie = SimpleCookie(environ.get("HTTP_COOKIE", "")).get("session")
    name = STORE.hget(f"session:{cookie.value}", "name") if cookie else None
    if name is None:
        return "401 Unauthorized", "text/html", FORM, []
    if path == "/report":
        time.sleep(0.1)  # so that there is always something in flight
    visits = STORE.hincrby(f"session:{cookie.value}", "visits", 1)
    return "200 OK", "text/html", PAGE.format(name=html.escape(name), version=VERSION, node=NODE, visits=visits), []


def notes(environ, method):
    """Who is not the authority is a moment behind, as a replica of a database would be."""
    with open(ROLE, encoding="ascii") as role:
        newest = time.time() - (0 if role.read().strip() == "authority" else BEHIND)
    if method == "POST":
        text = environ["wsgi.input"].read(min(int(environ.get("CONTENT_LENGTH") or 0), 1000)).decode(errors="replace")
        STORE.zadd("notes", {text: time.time()})
        return "201 Created", "text/plain", "noted\n", []
    return "200 OK", "text/plain", "".join(f"{text}\n" for text in STORE.zrangebyscore("notes", "-inf", newest)), []


def administer(environ, method):
    """Writes, and notes which node did it how often; reads what was noted."""
    if method == "POST":
        STORE.hincrby("done", f"{environ.get('HTTP_IDEMPOTENCY_KEY', 'without')} {NODE}", 1)
        return "200 OK", "text/plain", f"done by {NODE}\n", []
    return "200 OK", "application/json", json.dumps({"node": NODE, "done": STORE.hlen("done")}) + "\n", []
