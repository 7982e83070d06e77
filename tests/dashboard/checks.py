"""What the dashboard promises, looked at in a real browser. Each check says in its first line what holds."""

import os
import time

from browser import SIZES, Fault
from mock import Mock
from world import TOKEN
import scenes

MOST_BYTES = 150 * 1024
FOLLOWS_WITHIN = 2.0  # seconds from the death of an endpoint to its row
KEPT_EVENTS = 200
POINTS = 180


def page_is_small_and_may_run_nothing_else(world, browser):
    """The page has at most 150 KiB, and its headers let nothing but itself run."""
    headers, body = world.fetch("")
    demand(len(body) <= MOST_BYTES, f"{len(body)} bytes")
    policy = headers["Content-Security-Policy"]
    demand("default-src 'none'" in policy and "unsafe" not in policy, policy)
    return f"{len(body) / 1024:.1f} KiB"


def shows_what_runs(world, browser):
    """Verdict, endpoints, charts, the way, the configuration: of a real balancer with real traffic."""
    browser.shape("large")
    browser.open(world.address)
    took = browser.await_text("#headline", "All 4 endpoints serve")
    for origin in ("app-1", "app-2", "app-3", "authority"):
        demand(world.name(origin) in browser.text("#groups"), f"no row of {origin}")
    browser.await_that("points are drawn", lambda: browser.run("return document.querySelectorAll('.chart canvas').length") >= 4)
    browser.await_that("lines have widths", lambda: browser.run(
        "return [...document.querySelectorAll('.picture .flow:not(.still)')].some((line) => line.getAttribute('stroke-width') > 2)"))
    browser.await_that("rows have rates", lambda: browser.run(
        "return [...document.querySelectorAll('.line [data-title=\"req/s\"]')].some((cell) => parseFloat(cell.textContent) > 0)"))
    browser.await_text("#accepted", "1 (in use)")
    browser.await_text("#link-text", "live")
    complain(browser)
    return f"{took:.1f} s until it stands"


def follows_a_death(world, browser):
    """Within 2 seconds the page shows that an endpoint was killed (kill -9), why, and what is left; and later that it is back."""
    row = f"[...document.querySelectorAll('.line')].find((line) => line.textContent.includes('{world.name('app-2')}'))?.innerText ?? ''"
    browser.await_text("#link-text", "live")
    world.kill("app-2")
    took = browser.await_that("its row tells", lambda: "down" in browser.run(f"return {row}") or "ejected" in browser.run(f"return {row}"))
    demand(took <= FOLLOWS_WITHIN, f"{took:.2f} s")
    browser.await_text("#headline", "1 of 4 endpoints in trouble")
    browser.await_text("#troubles", f"app/{world.name('app-2')}")
    browser.await_text("#troubles", "refused")
    browser.await_text("#carry", "2 endpoints of app carry the load")
    browser.await_text("#events", f"app/{world.name('app-2')}")
    browser.await_that("those who listen are told", lambda: "in trouble" in browser.run("return document.querySelector('#said').textContent"))
    demand(browser.run("return document.title").startswith("! 1 of 4"), "the title says it")
    world.start_origin("app-2")
    browser.await_text("#headline", "All 4 endpoints serve")
    complain(browser)
    return f"{took:.2f} s"


def shows_a_reload(world, browser):
    """A reload and its generation; one that is refused, and what stays in use."""
    world.configure(apps=("app-1", "app-2"))
    world.reload()
    browser.await_text("#events", "generation 2 in use")
    browser.await_text("#facts", "generation 2")
    browser.await_text("#headline", "All 3 endpoints serve")
    browser.await_text("#accepted", "2 (in use)")
    world.write("nonsense = 1\n")
    world.reload()
    browser.await_text("#events", "reload refused")
    browser.await_text("#troubles", "was refused")
    browser.await_text("#last-reload", "generation 2 stays in use")
    world.configure()
    world.reload()
    browser.await_text("#headline", "All 4 endpoints serve")
    browser.await_that("nothing is left of it", lambda: browser.text("#troubles") == "")
    complain(browser)


def explains(world, browser):
    """Where a request would go; and what is no request."""
    browser.find("#explain-url").send_keys("http://example.com/admin/users\n")
    browser.await_text("#explained", f"{world.name('authority')} would be asked now")
    browser.find("#explain-url").clear()
    browser.find("#explain-header").send_keys("no header")
    browser.find("#explain-url").send_keys("http://example.com/")
    browser.find("#explain-form button").click()
    browser.await_text("#explained .problem", "header must be")
    browser.find("#explain-header").clear()
    complain(browser, expected=["400 (Bad Request)"])


def drains_by_button(world, browser):
    """Drain and resume by button: asked for twice, with what is left, and only by the right token."""
    name = f"app/{world.name('app-3')}"
    browser.await_that("there are buttons", lambda: browser.run("return document.querySelectorAll('button.act').length") == 4)
    press(browser, f"Drain {name}")
    browser.await_text("#confirm-text", "2 of 3 endpoints of app are picked")
    browser.find("#confirm-token").send_keys("a-wrong-token-0123456789\n")
    browser.await_text("#confirm-problem", "Refused")
    demand(state(world, "app-3")["mode"] == "active", "a wrong token has drained it")
    browser.find("#confirm-token").send_keys(TOKEN + "\n")
    browser.await_that("the dialog is done", lambda: not browser.run("return document.querySelector('#confirm').open"))
    browser.await_text("#headline", "3 of 4 endpoints serve, 1 taken out")
    browser.await_text("#events", "drain")
    demand(state(world, "app-3")["mode"] == "draining", "it is not drained")
    press(browser, f"Resume {name}")
    demand(not browser.find("#confirm-token").is_displayed(), "the token is asked for again")
    browser.find("#confirm-yes").click()
    browser.await_text("#headline", "All 4 endpoints serve")
    kept = browser.run("return JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie])")
    demand(TOKEN not in kept, f"the token is kept: {kept}")
    complain(browser, expected=["401 (Unauthorized)"])


def follows_an_upgrade(world, browser):
    """A new process takes over, and the page goes on with that one."""
    before = world.status()["started"]
    world.upgrade()
    browser.await_text("#events", "upgraded to")
    browser.await_that("the new one is asked", lambda: browser.run("return known.link === 'live' && known.status.started > arguments[0]", before))
    browser.await_text("#headline", "All 4 endpoints serve")
    browser.driver.get_log("browser")  # that the stream of the one before was cut is no complaint


def survives_a_restart(world, browser):
    """A balancer that is gone is told, and since when; one that is back is shown without the page being opened again."""
    world.end_daemon()
    browser.await_text("#headline", "cannot be reached since")
    browser.await_text("#carry", "as of then")
    demand(world.name("app-1") in browser.text("#groups"), "what was known is gone")
    world.configure(apps=("app-1", "app-2", "app-3"))
    world.start_daemon()
    took = browser.await_text("#headline", "All 4 endpoints serve")
    browser.await_text("#link-text", "live")
    browser.await_text("#facts", "generation 1")
    browser.await_text("#events", "another process answers")
    browser.driver.get_log("browser")  # that it could not be asked is no complaint
    return f"back {took:.1f} s after the balancer"


def asks_nobody_else(world, browser):
    """Everything that the browser has asked for so far is the balancer's."""
    asked = browser.addresses()
    outside = [address for address in asked if not address.startswith((world.address, "data:"))]
    demand(asked and not outside, f"{len(asked)} asked, of these outside: {outside[:5]}")
    entries = browser.run("return performance.getEntriesByType('resource').map(({ name }) => name)")
    demand(all(entry.startswith((world.address, "data:")) for entry in entries), f"{entries[:5]}")
    return f"{len(asked)} requests"


def no_fault_for_those_who_hear_or_see_otherwise(world, browser):
    """axe finds nothing, in light and dark, at three sizes, in trouble and with buttons; nothing is wider than the page."""
    shown = 0
    all_views = [(size, scheme) for size in SIZES for scheme in ("light", "dark")]
    for scene, views in ((scenes.trouble(), all_views), (scenes.nobody(), [("middle", "light")]), (scenes.empty(), [("large", "dark")])):
        with mocked(world, scene) as mock:
            mock.earlier = earlier_events()
            browser.open(mock.address)
            browser.await_that("it stands", lambda: "endpoint" in browser.text("#facts"))
            for size, scheme in views:
                browser.shape(size, scheme)
                browser.settle()
                time.sleep(0.35)  # colours change over
                found = browser.accessibility()
                demand(not found, f"{size}, {scheme}: {found}")
                wide = browser.run("return document.documentElement.scrollWidth - innerWidth")
                demand(wide <= 0, f"{size}: {wide} pixels wider than the page")
                shown += 1
            complain(browser)
    browser.shape("large")
    return f"{shown} views"


def works_by_keyboard(world, browser):
    """The first key leads past the head; what has the focus shows it; the dialog gives it back."""
    with mocked(world, scenes.nobody()) as mock:
        browser.open(mock.address)
        browser.await_text("#headline", "Nobody answers for authority")
        focus = "const it = document.activeElement; return [it.className || it.id || it.tagName, getComputedStyle(it).outlineStyle]"
        keys(browser, "Tab")
        demand(browser.run(focus) == ["skip", "solid"], browser.run(focus))
        keys(browser, "Enter", "Tab")
        demand(browser.run(focus)[0] == "filter", browser.run(focus))
        keys(browser, "Tab", "Tab")
        demand(browser.run(focus) == ["act", "solid"], browser.run(focus))
        label = "return document.activeElement.getAttribute('aria-label')"
        before = browser.run(label)
        keys(browser, "Enter")
        browser.await_that("the dialog is open", lambda: browser.run("return document.querySelector('#confirm').open"))
        demand("refused with 503" in browser.text("#confirm-text") or "only endpoint" in browser.text("#confirm-text"), browser.text("#confirm-text"))
        keys(browser, "Escape")
        browser.await_that("the focus is back", lambda: browser.run(label) == before)
        complain(browser)


def markup_in_names_stays_text(world, browser):
    """Names, versions, reasons and events that hold markup are shown as they are, and run nothing."""
    with mocked(world, scenes.hostile()) as mock:
        markup = scenes.MARKUP + scenes.SCRIPT
        mock.earlier = [{"kind": kind, "time_ms": int(time.time() * 1000) - 5000 - number, "upstream": markup, "endpoint": markup, "before": markup, "state": markup,
                         "reason": markup, "by": markup, "result": markup, "action": markup, "target": markup, "why": markup, "generation": markup, "version": markup}
                        for number, kind in enumerate(("endpoint", "reload", "operator", "upgrade", "pause"))]
        browser.open(mock.address)
        browser.await_text("#groups", scenes.MARKUP)
        mock.tell("endpoint", {"upstream": scenes.MARKUP, "endpoint": scenes.MARKUP, "before": "up", "state": "down", "reason": markup, "eligible": False})
        browser.await_that("events are shown", lambda: browser.run("return document.querySelectorAll('#events li').length") >= 6)
        for button in ("#by-route", "#by-upstream"):
            browser.run("document.querySelector(arguments[0]).click()", button)
            browser.settle()
        press(browser, f"Drain {scenes.MARKUP}/{scenes.MARKUP}")
        browser.await_text("#confirm-title", scenes.MARKUP)
        browser.run("document.querySelector('#confirm').close()")
        for size in SIZES:
            browser.shape(size)
            browser.settle()
            wide = browser.run("return document.documentElement.scrollWidth - innerWidth")
            demand(wide <= 0, f"{size}: {wide} pixels wider than the page")
        browser.shape("large")
        demand(browser.run("return window.hacked") is None, "it has run")
        made = browser.run("return document.querySelectorAll('img, script:not(body > script), iframe, object').length")
        demand(made == 0, f"{made} elements were made of names")
        demand(browser.run("return ({}).requests === undefined && ({}).shape === undefined"), "a prototype was changed")
        complain(browser)


def a_thousand_endpoints_are_no_burden(world, browser):
    """Of 1,000 endpoints those in trouble come first; others are drawn where they are asked for; a filter finds each."""
    with mocked(world, scenes.huge()) as mock:
        begin = time.monotonic()
        browser.open(mock.address)
        browser.await_text("#headline", "3 of 1000 endpoints in trouble")
        took = time.monotonic() - begin
        lines = "return document.querySelectorAll('.line:not(.titles)').length"
        demand(browser.run(lines) <= 60, f"{browser.run(lines)} rows at once")
        demand("10.3.0.4:8080" in browser.text(".line:not(.titles)"), f"the first row is {browser.text('.line:not(.titles)')!r}")
        browser.find("#filter").send_keys("10.39.0.24")
        browser.await_text("#found", "1 of 1000 endpoints match")
        demand("10.39.0.24:8080" in browser.text("#groups"), "it is not found")
        browser.run("const filter = document.querySelector('#filter'); filter.value = ''; filter.dispatchEvent(new Event('input'))")
        browser.await_that("more is offered", lambda: "Show all 25 endpoints of shop-03" in browser.text("#groups"))
        browser.run("document.querySelector('.group .more').click()")
        browser.await_that("all of it", lambda: browser.run("return document.querySelectorAll('.group[open]')[0].querySelectorAll('.line:not(.titles)').length") == 25)
        frame = browser.run("const begin = performance.now(); showUpstreams(); showWay(); showVerdict(); return performance.now() - begin")
        complain(browser)
        return f"there after {took:.1f} s, drawn again in {frame:.0f} ms"


def memory_has_bounds_and_nothing_is_done_unseen(world, browser):
    """However much happens, 200 events and 180 points are kept; a page that nobody looks at asks for nothing."""
    with mocked(world, scenes.well()) as mock:
        browser.open(mock.address)
        browser.await_text("#headline", "All 12 endpoints serve")
        until = int(time.time())
        for number in range(300):
            mock.tell("operator", {"action": f"drain {number}", "target": "app/x", "generation": 3})
            mock.tell("point", {"until": until + 5 * number, "routes": [], "upstreams": [
                {"name": f"n{number % 3}", "requests": 1.0, "errors": 0.0, "p50": None, "p95": None, "p99": None, "in_flight": 0}]})
        browser.await_that("the last one is there", lambda: "drain 299" in browser.text("#events"))
        kept = browser.run("return [known.events.length, known.recent.times.length, Math.max(...[...known.recent.upstreams.values()].map(({ requests }) => requests.length))]")
        demand(kept == [KEPT_EVENTS, POINTS, POINTS], kept)
        browser.run("Object.defineProperty(document, 'hidden', { get: () => window.isUnseen, configurable: true });"
                    "window.isUnseen = true; document.dispatchEvent(new Event('visibilitychange'))")
        time.sleep(0.7)  # what was under way
        asked = len(mock.asked)
        time.sleep(3.5)
        demand(len(mock.asked) == asked, mock.asked[asked:])
        demand(browser.run("return stream.source === null"), "it still listens")
        browser.run("window.isUnseen = false; document.dispatchEvent(new Event('visibilitychange'))")
        browser.await_that("it goes on", lambda: len(mock.asked) > asked)
        complain(browser)


def screenshots(world, browser):
    """Pictures of it, to be looked at by people."""
    count = 0
    for name, scene in (("well", scenes.well()), ("trouble", scenes.trouble()), ("nobody", scenes.nobody()), ("thousand", scenes.huge()),
                        ("hostile", scenes.hostile()), ("one", scenes.one()), ("empty", scenes.empty())):
        with mocked(world, scene) as mock:
            mock.has_traffic = name not in ("one", "empty")
            mock.earlier = earlier_events() if name in ("trouble", "nobody") else []
            browser.open(mock.address)
            browser.await_that("it stands", lambda: "endpoint" in browser.text("#facts"))
            views = (("small", "light"), ("middle", "dark"), ("large", "light"), ("large", "dark"))
            for size, scheme in views if name in ("well", "trouble") else views[:2]:
                browser.screenshot(os.path.join(world.screenshots, f"{name}-{size}-{scheme}.png"), size, scheme)
                count += 1
    return f"{count} in {world.screenshots}"


def readme_screenshot(world, browser):
    """The one that the README shows."""
    with mocked(world, scenes.trouble()) as mock:
        mock.earlier = earlier_events()
        browser.open(mock.address)
        browser.await_that("rows have latencies", lambda: browser.run(
            "return [...document.querySelectorAll('.line [data-title=p99]')].some((cell) => cell.textContent.endsWith('ms'))"))
        browser.screenshot(world.readme, (1680, 1460), "light", is_whole=False)
    return world.readme


def earlier_events():
    now = int(time.time() * 1000)
    return [
        {"kind": "reload", "time_ms": now - 5_400_000, "by": "reload", "result": "accepted", "generation": 3, "kept": 12, "added": 0, "draining": 0, "why": None},
        {"kind": "endpoint", "time_ms": now - 1_900_000, "upstream": "api", "endpoint": "10.0.1.3:9000", "before": "up", "state": "down", "reason": "check timed out after 2s"},
        {"kind": "endpoint", "time_ms": now - 1_812_000, "upstream": "api", "endpoint": "10.0.1.3:9000", "before": "down", "state": "up", "reason": None},
        {"kind": "endpoint", "time_ms": now - 258_000, "upstream": "app", "endpoint": "10.0.0.3:8080", "before": "up", "state": "down", "reason": "connect failed: Connection refused (os error 111)"},
        {"kind": "operator", "time_ms": now - 70_400, "action": "drain", "target": "api/10.0.1.1:9000", "generation": 3},
        {"kind": "endpoint", "time_ms": now - 70_000, "upstream": "api", "endpoint": "10.0.1.1:9000", "before": "up", "state": "draining", "reason": None},
        {"kind": "endpoint", "time_ms": now - 9_000, "upstream": "media", "endpoint": "media-2.internal:80", "before": "up", "state": "ejected", "reason": "5 failures in a row, the last: response head timed out after 2s"},
    ]


# In this order: the first few look at the same page of one balancer.
CHECKS = [page_is_small_and_may_run_nothing_else, shows_what_runs, follows_a_death, shows_a_reload, explains, drains_by_button, follows_an_upgrade, survives_a_restart, asks_nobody_else,
          no_fault_for_those_who_hear_or_see_otherwise, works_by_keyboard, markup_in_names_stays_text, a_thousand_endpoints_are_no_burden,
          memory_has_bounds_and_nothing_is_done_unseen]


class mocked:
    """An admin server with the balancer's page and headers, and a status of its own."""

    def __init__(self, world, status):
        headers, body = world.fetch("")
        wanted = ("Content-Type", "Content-Security-Policy", "X-Content-Type-Options", "Referrer-Policy")
        given = {name: headers[name] for name in wanted if name in headers}
        self.mock = Mock(body, given, status, TOKEN)
        self.mock.address = f"http://127.0.0.1:{self.mock.port}/"

    def __enter__(self):
        return self.mock

    def __exit__(self, *_):
        self.mock.close()


def demand(holds, otherwise):
    if not holds:
        raise Fault(str(otherwise))


def complain(browser, expected=()):
    said = browser.complaints(expected)
    demand(not said, f"the console says: {said[:3]}")


def press(browser, label):
    browser.await_that(f"a button {label!r}", lambda: browser.run(
        "const found = [...document.querySelectorAll('button.act')].find((one) => one.getAttribute('aria-label') === arguments[0]); found?.click(); return Boolean(found)", label))


CODES = {"Tab": 9, "Enter": 13, "Escape": 27}


def keys(browser, *names):
    for name in names:
        of = {"key": name, "code": name, "windowsVirtualKeyCode": CODES[name], **({"text": "\r"} if name == "Enter" else {})}
        browser.driver.execute_cdp_cmd("Input.dispatchKeyEvent", {"type": "keyDown", **of})
        browser.driver.execute_cdp_cmd("Input.dispatchKeyEvent", {"type": "keyUp", "key": name, "code": name, "windowsVirtualKeyCode": CODES[name]})


def state(world, origin):
    return next(one for group in world.status()["upstreams"] for one in group["endpoints"] if one["name"] == world.name(origin))
