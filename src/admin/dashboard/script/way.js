// The way of requests as a picture: listeners, routes, upstreams, endpoints, from left to right. A line is as wide as what goes
// along it. What is drawn stands in a table as well; where the page is narrow only that is shown.

const PLACES = 12; // in each column; the rest is folded into one more
const NARROW = 420;
const BOX = { height: 26, gap: 8, top: 24 };
const WIDEST = 13;
const TITLES = ["listeners", "routes", "upstreams", "endpoints"];

function showWay() {
  if (!known.status) return;
  const way = wayOf(known.status);
  // Of what is always there: the picture itself may be hidden.
  const width = byId("way-table").clientWidth;
  const isNarrow = width < NARROW;
  byId("picture").hidden = isNarrow;
  // Where there is no room for the picture; closing it is the viewer's choice.
  if (isNarrow !== Boolean(byId("way-table").wasNarrow)) byId("way-table").open = isNarrow;
  byId("way-table").wasNarrow = isNarrow;
  if (!isNarrow) drawWay(way, width);
  if (byId("way-table").open) showWayTable(way);
}

/** Columns of `{ key, name, load, tone }` and flows `{ from, to, load, tone }` between columns, `load` null where unknown. */
function wayOf(status) {
  const last = (series) => series?.requests.at(-1) ?? null;
  const isLone = status.listeners.length === 1;
  const routes = status.routes.map((route) => ({ key: route.name, name: route.name, load: last(known.recent.routes.get(route.name)), tone: "", route }));
  const upstreams = status.upstreams.map((upstream) => ({ key: upstream.name, name: upstream.name, load: last(known.recent.upstreams.get(upstream.name)), tone: toneOf(upstream), upstream }));
  const endpoints = status.upstreams.flatMap((upstream) => upstream.endpoints.map((endpoint) => {
    const point = known.endpoints.get(upstream.name)?.get(endpoint.name);
    const { tone, isTrouble } = stateOf(endpoint.state);
    return { key: `${upstream.name}/${endpoint.name}`, name: endpoint.name, upstream: upstream.name, state: endpoint.state, load: point?.requests ?? null, tone: isTrouble ? tone : "" };
  }));
  const flows = [[], [], []];
  for (const { key, load, route } of routes) {
    const listeners = route.listeners?.length ? route.listeners : status.listeners.map(({ name }) => name);
    for (const from of listeners) flows[0].push({ from, to: key, load: isLone || listeners.length === 1 ? load : null, tone: "" });
    const shares = route.split?.length ? route.split : route.upstream ? [{ upstream: route.upstream, weight: 1 }] : [];
    const sum = shares.reduce((total, { weight }) => total + weight, 0);
    for (const { upstream, weight } of shares) {
      const tone = upstreams.find((one) => one.key === upstream)?.tone ?? "";
      flows[1].push({ from: key, to: upstream, load: load === null ? null : (load * weight) / (sum || 1), tone });
    }
  }
  for (const endpoint of endpoints) flows[2].push({ from: endpoint.upstream, to: endpoint.key, load: endpoint.load, tone: endpoint.tone });
  const listeners = status.listeners.map(({ name }) => ({ key: name, name, load: loadOf(flows[0], name), tone: "" }));
  return { columns: [listeners, routes, upstreams, endpoints], flows };
}

function loadOf(flows, from) {
  const loads = flows.filter((flow) => flow.from === from).map(({ load }) => load);
  return loads.length && loads.every((load) => load !== null) ? loads.reduce((sum, load) => sum + load, 0) : null;
}

function toneOf(upstream) {
  if (upstream.endpoints.length && !upstream.available) return "bad";
  return upstream.degraded || upstream.paused ? "warn" : "";
}

/** The troubled and the busiest of each column; others become one box. */
function folded({ columns, flows }) {
  const places = columns.map((column) => {
    const order = [...column.entries()].sort(([one, a], [other, b]) => (b.tone ? 1 : 0) - (a.tone ? 1 : 0) || (b.load ?? 0) - (a.load ?? 0) || one - other);
    const shown = new Set((column.length > PLACES ? order.slice(0, PLACES) : order).map(([index]) => index));
    return column.filter((_, index) => shown.has(index));
  });
  const rests = columns.map((column, index) => column.length - places[index].length);
  const boxes = places.map((place, index) => (rests[index] ? [...place, { key: REST, name: `+ ${rests[index]} more`, load: null, tone: "", isRest: true }] : place));
  const has = places.map((place) => new Set(place.map(({ key }) => key)));
  const merged = flows.map((list, index) => {
    const found = new Map();
    for (const flow of list) {
      const from = has[index].has(flow.from) ? flow.from : REST;
      const to = has[index + 1].has(flow.to) ? flow.to : REST;
      const key = JSON.stringify([from, to]);
      const before = found.get(key);
      found.set(key, before ? { ...before, load: before.load === null && flow.load === null ? null : (before.load ?? 0) + (flow.load ?? 0) } : { ...flow, from, to });
    }
    return [...found.values()];
  });
  return { boxes, flows: merged };
}

const REST = Symbol("the rest");

function drawWay(way, width) {
  const { boxes, flows } = folded(way);
  const rows = Math.max(1, ...boxes.map((column) => column.length));
  const step = BOX.height + BOX.gap;
  const height = BOX.top + rows * step;
  const shares = [0.13, 0.22, 0.19, 0.28];
  const between = (width - shares.reduce((sum, share) => sum + share * width, 0) - 2) / 3;
  const lefts = shares.map((_, index) => 1 + shares.slice(0, index).reduce((sum, share) => sum + share * width, 0) + index * between);
  const most = Math.max(0.001, ...flows.flat().map(({ load }) => load ?? 0));
  const top = (column, index) => BOX.top + ((rows - boxes[column].length) * step) / 2 + index * step;
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": `The way of requests: ${TITLES.map((title, index) => `${way.columns[index].length} ${title}`).join(", ")}. The table below says the same.` });
  flows.forEach((list, column) => {
    const places = [column, column + 1].map((index) => new Map(boxes[index].map(({ key }, place) => [key, top(index, place) + BOX.height / 2])));
    for (const flow of list) {
      const [y1, y2] = [places[0].get(flow.from), places[1].get(flow.to)];
      if (y1 === undefined || y2 === undefined) continue;
      const [x1, x2] = [lefts[column] + shares[column] * width, lefts[column + 1]];
      const bend = (x2 - x1) / 2;
      const isStill = !flow.load;
      const path = draw("path", { class: `flow${flow.from === REST || flow.to === REST ? " rest" : ""}${flow.tone ? ` tone-${flow.tone}` : isStill ? " still" : ""}`, d: `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`, "stroke-width": isStill ? 1.5 : 1.5 + (WIDEST - 1.5) * Math.sqrt(flow.load / most) });
      svg.append(path);
    }
  });
  boxes.forEach((column, index) => {
    svg.append(draw("text", { class: "heading", x: lefts[index], y: 12, text: TITLES[index] }));
    column.forEach((box, place) => drawBox(svg, box, { x: lefts[index], y: top(index, place), width: shares[index] * width }));
  });
  byId("picture").replaceChildren(svg);
}

function drawBox(svg, box, { x, y, width }) {
  const load = box.load === null ? "" : rate(box.load);
  const room = width - 20 - widthOf(load);
  const sign = box.tone && box.state ? `${{ bad: "✕", warn: "◐" }[box.tone]} ` : "";
  const name = cut(`${sign}${box.name}`, room);
  svg.append(draw("g", {}, draw("title", { text: [box.name, box.state, load && `${load} requests a second`].filter(Boolean).join(", ") }),
    draw("rect", { class: `box${box.tone ? ` tone-${box.tone}` : ""}${box.isRest ? " rest" : ""}`, x, y, width, height: BOX.height, rx: 6 }),
    draw("text", { x: x + 7, y: y + 17, text: name }),
    draw("text", { class: "rate", x: x + width - 7, y: y + 17, "text-anchor": "end", text: load })));
}

/** As much of `text` as has room. The end of a name tells more than its beginning, where many look alike. */
function cut(text, room) {
  let said = text;
  for (let kept = Math.min(text.length, 60); widthOf(said) > room && kept > 1; kept--) {
    const atEnd = Math.ceil(kept * 0.6);
    said = `${text.slice(0, kept - atEnd)}…${text.slice(-atEnd)}`;
  }
  return said;
}

const pen = document.createElement("canvas").getContext("2d");

function widthOf(text) {
  pen.font = `11.5px ${getComputedStyle(document.body).fontFamily}`;
  return pen.measureText(text).width;
}

function showWayTable(way) {
  const rows = known.status.routes.slice(0, PLACES * 4).map((route) => {
    const to = way.flows[1].filter(({ from }) => from === route.name).map(({ to: upstream }) => upstream);
    const upstreams = known.status.upstreams.filter(({ name }) => to.includes(name));
    const endpoints = upstreams.flatMap((upstream) => upstream.endpoints);
    const troubled = endpoints.filter(({ state }) => stateOf(state).isTrouble).map(({ name, state }) => `${name} ${state}`);
    const reached = endpoints.length ? `${many(endpoints.length, "endpoint")}${troubled.length ? `: ${troubled.slice(0, 3).join(", ")}${troubled.length > 3 ? ", …" : ""}` : ", all well"}` : "–";
    return [(route.listeners?.length ? route.listeners : known.status.listeners.map(({ name }) => name)).join(", "), route.name, rate(known.recent.routes.get(route.name)?.requests.at(-1)), to.join(", ") || "answers itself", reached];
  });
  const text = JSON.stringify(rows);
  if (byId("way-rows").said === text) return;
  byId("way-rows").said = text;
  const more = known.status.routes.length > rows.length ? `, the first ${rows.length} of ${known.status.routes.length} routes` : "";
  byId("way-rows").replaceChildren(tableOf(`Way of requests${more}`, ["listener", "route", "req/s", "upstream", "endpoints"], rows, [2]));
}

function prepareWay() {
  new ResizeObserver(() => showWay()).observe(byId("way"));
  byId("way-table").addEventListener("toggle", () => showWay());
}
