// Every upstream with its endpoints: the troubled first. A thousand of them are there, and drawn only where somebody looks.

/** Rows that an open upstream shows at first. */
const ROWS = 20;
/** With more endpoints than this, only upstreams in trouble are open at first. */
const OPEN_ALL = 40;
/** Upstreams shown at first. */
const GROUPS = 40;
const COLUMNS = [
  ["who", "endpoint"], ["how", "state"], ["why", "reason"], ["since", "since"], ["number", "in flight"], ["number", "req/s"], ["number", "errors/s"],
  ["number", "p99"], ["number", "retries"], ["number", "version"], ["number", "weight"], ["acts", "actions"],
];

/** What the viewer has chosen: open and closed folds, and where everything is shown. */
const chosen = { folds: new Map(), all: new Set(), filter: "", isAll: false };

function showUpstreams() {
  if (!known.status) return;
  const { upstreams, admin } = known.status;
  setAttribute(byId("groups"), "data-writable", admin?.writable ? "" : null);
  const words = chosen.filter.toLowerCase().split(/\s+/).filter(Boolean);
  const total = upstreams.reduce((sum, { endpoints }) => sum + endpoints.length, 0);
  const groups = upstreams
    .map((upstream, index) => ({ upstream, index, endpoints: upstream.endpoints.filter((endpoint) => isFound(words, upstream, endpoint)) }))
    .filter(({ endpoints, upstream }) => endpoints.length || (!words.length && !upstream.endpoints.length))
    .map((group) => ({ ...group, worst: worstOf(group.upstream), isOpen: isOpen(group, total, words) }))
    .sort((one, other) => one.worst - other.worst || one.index - other.index);
  const shown = chosen.isAll ? groups : groups.slice(0, GROUPS);
  keep(byId("groups"), [...shown, ...(groups.length > shown.length ? [{ rest: groups.length - shown.length }] : [])], (group) => group.rest ? "rest" : `upstream ${group.upstream.name}`, makeGroup, updateGroup);
  showFound(words, groups, total);
}

function isFound(words, upstream, endpoint) {
  if (!words.length) return true;
  const text = [`${upstream.name}/${endpoint.name}`, endpoint.state, endpoint.reason, endpoint.version, endpoint.set, endpoint.backup ? "backup" : "", endpoint.address].join(" ").toLowerCase();
  return words.every((word) => text.includes(word));
}

function worstOf({ endpoints }) {
  const worst = Math.min(...endpoints.map(({ state }) => rankOf(state)), rankOf("unchecked"));
  return worst;
}

function isOpen({ upstream, endpoints }, total, words) {
  if (words.length) return endpoints.length <= ROWS * 5;
  return chosen.folds.get(upstream.name) ?? (total <= OPEN_ALL || upstream.endpoints.some(({ state }) => stateOf(state).isTrouble));
}

/** Of whom figures are wanted: those that are drawn. */
function upstreamsShown() {
  return [...document.querySelectorAll("details.group[open]")].slice(0, 12).map((group) => group.dataset.upstream);
}

function showFound(words, groups, total) {
  const found = groups.reduce((sum, { endpoints }) => sum + endpoints.length, 0);
  const text = words.length ? `${found} of ${total} endpoints match` : total ? "" : "No upstream is configured.";
  byId("found").hidden = !text;
  setText(byId("found"), text);
}

/** From elsewhere on the page: shows this one. */
function filterBy(text) {
  byId("filter").value = text;
  chosen.filter = text;
  showUpstreams();
}

function makeGroup(group) {
  if (group.rest) {
    const button = make("button", { type: "button", class: "more", onclick: () => { chosen.isAll = true; showUpstreams(); } });
    return { node: button, button };
  }
  const { name } = group.upstream;
  const [mark, share, sums] = [make("span"), make("span", { class: "share" }), make("span", { class: "sums" })];
  const body = make("div");
  const node = make("details", { class: "group", "data-upstream": name },
    make("summary", {}, make("h3", {}, mark, make("span", { class: "name", text: name })), share, sums), body);
  node.addEventListener("toggle", () => {
    if (node.open === node.wasOpen) return;
    node.wasOpen = node.open;
    chosen.folds.set(name, node.open);
    showUpstreams();
    if (node.open) lookAtEndpoints().catch(() => {});
  });
  return { node, mark, share, sums, body };
}

function updateGroup(row, group) {
  if (group.rest) return setText(row.node, `Show ${many(group.rest, "more upstream")}`);
  const { upstream, endpoints } = group;
  const word = upstream.endpoints.length ? WORST_FIRST[group.worst] ?? "unknown" : "unknown";
  setState(row.mark, word === "unchecked" ? "up" : word, "");
  setText(row.share, `${upstream.available} of ${upstream.endpoints.length} available · ${losable(upstream)} · ${upstream.policy}${upstream.paused ? " · paused" : ""}`);
  setText(row.sums, sumsOf(upstream));
  if (row.node.open !== group.isOpen) {
    row.node.wasOpen = group.isOpen;
    row.node.open = group.isOpen;
  }
  if (!group.isOpen) return row.body.replaceChildren(), void (row.table = null);
  if (!row.table) row.body.replaceChildren((row.table = makeTable(upstream.name)).node);
  updateTable(row.table, upstream, endpoints);
}

function losable({ headroom, endpoints }) {
  if (endpoints.length < 2) return "nobody to spare";
  const peak = headroom.could_lose_at_peak === headroom.could_lose ? "" : ` (${headroom.could_lose_at_peak} at the day’s peak)`;
  return `could lose ${headroom.could_lose} of ${headroom.of}${peak}`;
}

function sumsOf({ name, queued }) {
  const series = known.recent.upstreams.get(name);
  const parts = series ? [`${rate(series.requests.at(-1))} req/s`, series.errors.at(-1) > 0 ? `${rate(series.errors.at(-1))} errors/s` : null, series.p99.at(-1) ? `p99 ${latency(series.p99.at(-1))}` : null] : [];
  if (queued) parts.push(`${queued} waiting`);
  return parts.filter(Boolean).join(" · ");
}

/** Roles stand in the page: as cards, on a narrow screen, it is a table still. */
function makeTable(name) {
  const titles = COLUMNS.map(([kind, title]) => make("span", { role: "columnheader", class: kind }, title === "actions" ? make("span", { class: "unseen", text: title }) : title));
  const lines = make("div", { role: "rowgroup" });
  const more = make("button", { type: "button", class: "more", hidden: true, onclick: () => { chosen.all.add(name); showUpstreams(); } });
  const table = make("div", { class: "table", role: "table", "aria-label": `Endpoints of ${name}` }, make("div", { role: "rowgroup" }, make("div", { class: "line titles", role: "row" }, ...titles)), lines);
  return { node: make("div", {}, table, more), lines, more };
}

function updateTable(table, upstream, endpoints) {
  const sorted = endpoints.map((endpoint, index) => ({ upstream, endpoint, index })).sort((one, other) => rankOf(one.endpoint.state) - rankOf(other.endpoint.state) || one.index - other.index);
  const isAll = chosen.all.has(upstream.name);
  const shown = isAll ? sorted : sorted.slice(0, ROWS);
  keep(table.lines, shown, ({ endpoint }) => endpoint.id, makeLine, updateLine);
  table.more.hidden = shown.length === sorted.length;
  setText(table.more, `Show all ${sorted.length} endpoints of ${upstream.name}`);
}

function makeLine() {
  const cells = COLUMNS.map(([kind, title]) => make("span", { role: "cell", class: kind, "data-title": kind !== "number" ? undefined : title }));
  const [who, how, why, since, inFlight, requests, errors, p99, retries, version, weight, acts] = cells;
  const [name, address] = [make("span", { class: "name" }), make("span", { class: "address name" })];
  who.append(name, address);
  return { node: make("div", { class: "line", role: "row" }, ...cells), name, address, how, why, since, inFlight, requests, errors, p99, retries, version, weight, acts };
}

function updateLine(row, { upstream, endpoint }) {
  const { tone } = stateOf(endpoint.state);
  setAttribute(row.node, "data-tone", stateOf(endpoint.state).isTrouble ? tone : null);
  setText(row.name, endpoint.name);
  setText(row.address, [endpoint.address === endpoint.name ? "" : endpoint.address, endpoint.resolved && endpoint.resolved !== endpoint.address ? `→ ${endpoint.resolved}` : ""].filter(Boolean).join(" "));
  setState(row.how, endpoint.state);
  setText(row.why, whyOf(upstream, endpoint));
  setAttribute(row.why, "title", endpoint.reason);
  setText(row.since, span(now() - endpoint.since));
  setAttribute(row.since, "title", wholeTime(endpoint.since));
  setText(row.inFlight, endpoint.max_in_flight ? `${endpoint.in_flight}/${endpoint.max_in_flight}` : `${endpoint.in_flight}`);
  setAttribute(row.inFlight, "title", [endpoint.tunnels ? many(endpoint.tunnels, "tunnel") : "", `most within a day: ${endpoint.peak_in_flight}`].filter(Boolean).join(", "));
  const point = known.endpoints.get(upstream.name)?.get(endpoint.name);
  setFigure(row.requests, rate(point?.requests));
  setFigure(row.errors, rate(point?.errors), point?.errors > 0);
  setFigure(row.p99, latency(point?.p99));
  setFigure(row.retries, endpoint.retries === undefined || endpoint.retries === null ? "–" : `${endpoint.retries}`);
  setFigure(row.version, [endpoint.version, endpoint.set].filter(Boolean).join(" · ") || "–");
  setText(row.weight, `${endpoint.weight}`);
  updateActs(row, upstream, endpoint);
}

function setFigure(cell, text, isHot = false) {
  setText(cell, text);
  cell.classList.toggle("hot", isHot);
  cell.classList.toggle("none", text === "–");
}

function whyOf(upstream, endpoint) {
  const reason = reasonOf(endpoint.reason);
  if (reason) return endpoint.ejected && endpoint.state === "ejected" ? `${reason}; until ${clockWithSeconds(endpoint.ejected.until)}` : reason;
  if (endpoint.slow_start !== null && endpoint.slow_start !== undefined) return `eased in: ${Math.round(endpoint.slow_start * 100)} % of its share`;
  if (endpoint.state === "standby") return "another set serves";
  if (endpoint.backup) return endpoint.eligible ? "backup, in use" : "backup, waits";
  if (endpoint.max_in_flight && endpoint.in_flight >= endpoint.max_in_flight) return "full";
  if (["draining", "disabled"].includes(endpoint.state)) return endpoint.tunnels ? `${many(endpoint.tunnels, "tunnel")} left` : "by an operator or the file";
  return "";
}
