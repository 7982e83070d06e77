// What is known of the balancer, and how it is kept up to date: its events while it tells them, else by asking. Nothing is done
// while nobody looks. Everything that is kept has a bound.

const KEPT_EVENTS = 200;
const POINTS = 180;
/** Milliseconds between two looks at everything, while events come and while none do. */
const LOOK = 10_000;
const LOOK_WITHOUT_EVENTS = 3_000;
/** With very many endpoints less often: 1,000 of them twice in a minute and a half. */
const LOOK_PER_ENDPOINT = 45;
/** An endpoint's change is followed by a look: the sums around it have changed as well. */
const LOOK_AFTER_CHANGE = 400;
const ANSWER_WITHIN = 8_000;
const SERIES = ["requests", "errors", "p50", "p95", "p99", "in_flight"];

const known = {
  status: null,
  configuration: null,
  /** Of routes and upstreams, by name: six lists each, as long as `times`. */
  recent: { times: [], routes: new Map(), upstreams: new Map() },
  /** Of the endpoints of upstreams that are shown: upstream → endpoint → the last point. */
  endpoints: new Map(),
  events: [],
  /** `connecting`, `live`, `asking` (no events, but answers) or `lost`, and since when. */
  link: "connecting",
  linkSince: Date.now(),
  /** Seconds that the balancer's clock is ahead of this one. */
  ahead: 0,
};

/** Called with the name of what has changed. */
let onChange = () => {};
/** Upstreams whose endpoints are shown. */
let wantedEndpoints = () => [];

/** The balancer's time, in Unix seconds. */
function now() {
  return Date.now() / 1000 + known.ahead;
}

async function ask(path, options = {}) {
  const answer = await fetch(path, { cache: "no-store", credentials: "omit", signal: AbortSignal.timeout(ANSWER_WITHIN), ...options });
  if (!answer.ok) throw Object.assign(new Error(await problemIn(answer)), { status: answer.status });
  const date = Date.parse(answer.headers.get("date") ?? "");
  // Full seconds only: what is less apart is no difference.
  if (!Number.isNaN(date)) known.ahead = Math.abs(date - Date.now()) > 2_000 ? (date - Date.now()) / 1000 : 0;
  return answer.json();
}

async function problemIn(answer) {
  try {
    return (await answer.json()).detail ?? answer.statusText;
  } catch {
    return `${answer.status} ${answer.statusText}`;
  }
}

function setLink(link) {
  if (known.link === link) return;
  known.link = link;
  known.linkSince = Date.now();
  onChange("link");
}

const looking = { timer: 0, isBusy: false, isWanted: false };

/** Looks at everything that is shown, and again after a while. One look at a time. */
async function look() {
  if (document.hidden) return;
  if (looking.isBusy) {
    looking.isWanted = true;
    return;
  }
  looking.isBusy = true;
  looking.isWanted = false;
  clearTimeout(looking.timer);
  try {
    const status = await ask("api/v1/status");
    if (stream.source?.readyState !== EventSource.OPEN) setLink("asking");
    await takeStatus(status);
    await new Promise(requestAnimationFrame); // only then it stands who is shown
    await lookAtEndpoints();
  } catch (error) {
    if (error.name === "TypeError" || error.name === "TimeoutError") setLink("lost");
    else console.warn(`asked in vain: ${error.message}`);
  }
  looking.isBusy = false;
  lookIn(looking.isWanted ? LOOK_AFTER_CHANGE : pause());
}

function lookIn(milliseconds) {
  clearTimeout(looking.timer);
  looking.timer = setTimeout(look, milliseconds);
}

function pause() {
  if (known.link !== "live") return LOOK_WITHOUT_EVENTS;
  const endpoints = known.status?.upstreams.reduce((sum, upstream) => sum + upstream.endpoints.length, 0) ?? 0;
  return Math.max(LOOK, endpoints * LOOK_PER_ENDPOINT);
}

/** Another process or configuration than before: everything else is another one, too. */
async function takeStatus(status) {
  const before = known.status;
  known.status = status;
  onChange("status");
  if (before && before.started !== status.started) addEvent("restart", { version: status.version, generation: status.generation }, now() * 1000);
  if (!before || before.started !== status.started || before.generation !== status.generation || before.last_reload?.at !== status.last_reload?.at) {
    await Promise.all([lookAtRecent(), lookAtConfiguration()]);
  } else if (known.link !== "live") {
    await lookAtRecent();
  }
}

async function lookAtRecent() {
  const recent = await ask("api/v1/recent");
  const most = [...recent.routes, ...recent.upstreams].reduce((most, { requests }) => Math.max(most, requests.length), 0);
  known.recent = {
    times: Array.from({ length: most }, (_, index) => recent.until - (most - 1 - index) * recent.step_seconds),
    routes: seriesByName(recent.routes, most),
    upstreams: seriesByName(recent.upstreams, most),
  };
  onChange("recent");
}

/** All lists equally long: what came later has nothing in front. */
function seriesByName(list, length) {
  return new Map(list.map((one) => [one.name, Object.fromEntries(SERIES.map((key) => {
    const points = one[key] ?? [];
    return [key, [...Array(length - points.length).fill(null), ...points]];
  }))]));
}

/** One more point of everything; the oldest goes. */
function addPoint(point) {
  const { times, routes, upstreams } = known.recent;
  if (times.length && point.until <= times[times.length - 1]) return;
  times.push(point.until);
  for (const [all, list] of [[routes, point.routes], [upstreams, point.upstreams]]) {
    const told = new Map(list.map((one) => [one.name, one]));
    for (const name of told.keys()) {
      if (!all.has(name)) all.set(name, Object.fromEntries(SERIES.map((key) => [key, Array(times.length - 1).fill(null)])));
    }
    for (const [name, series] of all) {
      for (const key of SERIES) {
        series[key].push(told.get(name)?.[key] ?? null);
        if (series[key].length > POINTS) series[key].shift();
      }
      if (series.requests.every((value) => value === null)) all.delete(name);
    }
  }
  if (times.length > POINTS) times.shift();
  onChange("recent");
}

async function lookAtEndpoints() {
  const names = wantedEndpoints();
  for (const name of known.endpoints.keys()) if (!names.includes(name)) known.endpoints.delete(name);
  await Promise.all(names.map(async (name) => {
    try {
      const { endpoints } = await ask(`api/v1/recent?upstream=${encodeURIComponent(name)}&points=1`);
      known.endpoints.set(name, new Map(endpoints.map((one) => [one.name, Object.fromEntries(SERIES.map((key) => [key, one[key].at(-1) ?? null]))])));
    } catch (error) {
      if (error.status === undefined) throw error;
      known.endpoints.delete(name); // a reload has just removed it
    }
  }));
  if (names.length) onChange("endpoints");
}

async function lookAtConfiguration() {
  known.configuration = await ask("api/v1/config");
  onChange("configuration");
}

const stream = { source: null, again: 0 };

/** Begins to listen. The browser comes back by itself when a stream is cut, not where it is refused: that is done here. */
function listen() {
  if (document.hidden || stream.source) return;
  const source = new EventSource("api/v1/events");
  stream.source = source;
  const on = (kind, take) => source.addEventListener(kind, (event) => take(JSON.parse(event.data)));
  source.addEventListener("open", () => setLink("live"));
  source.addEventListener("error", () => {
    if (source !== stream.source) return;
    setLink("asking");
    lookIn(0);
    if (source.readyState !== EventSource.CLOSED) return;
    stream.source = null;
    clearTimeout(stream.again);
    stream.again = setTimeout(listen, LOOK_WITHOUT_EVENTS);
  });
  on("begin", (data) => {
    takeEarlier(data.recent_events ?? []);
    if (known.status) {
      // What was while nobody listened.
      lookAtRecent().catch(() => {});
      lookIn(0);
    }
  });
  on("point", addPoint);
  on("endpoint", (data) => {
    addEvent("endpoint", data);
    patchEndpoint(data);
    lookIn(LOOK_AFTER_CHANGE);
  });
  for (const kind of ["reload", "operator", "upgrade", "pause", "flip"]) {
    on(kind, (data) => {
      addEvent(kind, data);
      lookIn(LOOK_AFTER_CHANGE);
    });
  }
}

function stopListening() {
  clearTimeout(stream.again);
  clearTimeout(looking.timer);
  stream.source?.close();
  stream.source = null;
}

/** An endpoint's row says the news at once; the look that follows brings the rest. */
function patchEndpoint(data) {
  const upstream = known.status?.upstreams.find(({ name }) => name === data.upstream);
  const endpoint = upstream?.endpoints.find(({ name }) => name === data.endpoint);
  if (!endpoint) return;
  endpoint.since = data.since ?? Math.floor(data.time_ms / 1000);
  for (const key of ["state", "reason", "eligible", "mode", "health", "ejected", "in_flight", "weight", "version"]) {
    if (data[key] !== undefined) endpoint[key] = data[key];
  }
  onChange("status");
}

/** Each event once: a stream that was cut may tell it again. */
function addEvent(kind, data, time = data.time_ms) {
  const key = `${kind} ${time} ${data.upstream ?? ""} ${data.endpoint ?? ""} ${data.state ?? data.action ?? ""}`;
  if (known.events.some((other) => other.key === key)) return;
  known.events.unshift({ kind, data, time, key });
  known.events.sort((one, other) => other.time - one.time);
  known.events.length = Math.min(known.events.length, KEPT_EVENTS);
  onChange("events");
}

/** What was before this page was opened, or while it did not listen. */
function takeEarlier(list) {
  for (const event of list) addEvent(event.kind, event);
}

/** Begins; from then on it works while somebody looks. */
function follow() {
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) return stopListening();
    listen();
    look();
  });
  listen();
  look();
}
