// Traffic of each upstream or route over the last quarter of an hour: requests and errors above, latencies below. The charts are
// uPlot's; they share one cursor, and what it points at is said above each.

/** Charts at first: the busiest. */
const CHARTS = 6;
const MOST_CHARTS = 60;
const HEIGHT = 92;

/** What is said above each of the two charts of one. */
const PARTS = [[["requests", "req/s", rate], ["errors", "errors/s", rate], ["time"]], [["p50", "p50", latency], ["p95", "p95", latency], ["p99", "p99", latency]]];

const traffic = { by: "upstreams", isAll: false, cursor: null, order: { at: 0, names: [] } };

function showTraffic() {
  const all = known.recent[traffic.by];
  const names = busiest(all);
  byId("traffic-none").hidden = names.length > 0;
  const shown = traffic.isAll ? names.slice(0, MOST_CHARTS) : names.slice(0, CHARTS);
  keep(byId("charts"), shown, (name) => `${traffic.by} ${name}`, makeChart, updateChart);
  byId("charts-more").hidden = shown.length === names.length;
  setText(byId("charts-more"), `Show ${traffic.isAll ? `only the first ${MOST_CHARTS} of ${names.length}` : `all ${names.length}`}`);
  if (traffic.isAll) byId("charts-more").hidden = true;
}

/** The busiest first; the order is made anew once a minute, so that charts do not jump about. */
function busiest(all) {
  const { order } = traffic;
  const isSame = order.names.length === all.size && order.names.every((name) => all.has(name));
  if (!isSame || Date.now() - order.at > 60_000) {
    const total = (name) => all.get(name).requests.reduce((sum, value) => sum + (value ?? 0), 0);
    const totals = new Map([...all.keys()].map((name) => [name, total(name)]));
    traffic.order = { at: Date.now(), names: [...all.keys()].sort((one, other) => totals.get(other) - totals.get(one) || (one < other ? -1 : 1)) };
  }
  return traffic.order.names;
}

function makeChart(name) {
  const title = make("h3", { class: "name", text: name, title: name });
  const says = PARTS.map(() => make("p", { class: "now" }));
  const canvases = [make("div", { class: "canvas", role: "img" }), make("div", { class: "canvas", role: "img" })];
  const chart = { node: make("article", { class: "chart" }, title, says[0], canvases[0], says[1], canvases[1]), says, canvases, plots: [], of: traffic.by };
  chart.node.chart = chart;
  sizes.observe(chart.node);
  return chart;
}

/** Drawn when its width is known, and again where that changes. */
const sizes = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    if (!target.isConnected) {
      sizes.unobserve(target);
      removePlots(target.chart);
      continue;
    }
    const width = target.chart.canvases[0].clientWidth;
    for (const plot of target.chart.plots) if (plot.width !== width) plot.setSize({ width, height: HEIGHT });
  }
});

function removePlots(chart) {
  for (const plot of chart.plots) plot.destroy();
  chart.plots = [];
}

function updateChart(chart, name) {
  const series = known.recent[chart.of].get(name);
  if (!series) return;
  chart.series = series;
  const { times } = known.recent;
  // No errors are no bar, not one without height.
  const data = [[times, series.requests, series.errors.map((value) => value || null)], [times, series.p50, series.p95, series.p99]];
  if (!chart.plots.length) chart.plots = [makePlot(chart, 0, data[0]), makePlot(chart, 1, data[1])];
  // A copy: what grows under uPlot's hands is drawn from the wrong end.
  else chart.plots.forEach((plot, index) => plot.setData(data[index].map((list) => list.slice())));
  showNow(chart);
  const most = Math.max(0, ...series.requests);
  setAttribute(chart.canvases[0], "aria-label", `${name}: ${rate(series.requests.at(-1))} requests a second now, ${rate(most)} at most; ${rate(series.errors.at(-1))} errors a second now, ${rate(Math.max(0, ...series.errors))} at most`);
  setAttribute(chart.canvases[1], "aria-label", `${name}: latency now, half below ${latency(series.p50.at(-1))}, 95 of 100 below ${latency(series.p95.at(-1))}, 99 of 100 below ${latency(series.p99.at(-1))}; p99 at most ${latency(Math.max(0, ...series.p99))}`);
}

/** The numbers at the cursor, or the last ones. */
function showNow(chart) {
  const at = traffic.cursor ?? chart.series.requests.length - 1;
  PARTS.forEach((parts, index) => keep(chart.says[index], parts, ([key]) => key, ([key, unit]) => {
    const value = make("b");
    return { node: key === "time" ? make("span", { class: "at" }) : make("span", {}, make("span", { class: `key ${key}` }), value, ` ${unit}`), value };
  }, (part, [key, , said]) => {
    if (key === "time") return setText(part.node, traffic.cursor === null ? "" : clockWithSeconds(known.recent.times[at]));
    const value = chart.series[key][at];
    setText(part.value, said(value));
    part.node.classList.toggle("is-bad", key === "errors" && value > 0);
  }));
}

function makePlot(chart, index, data) {
  const colour = colours();
  const lines = [
    [{ stroke: colour.tint, width: 1.5, fill: colour.soft }, { fill: colour.bad, width: 0, paths: uPlot.paths.bars({ size: [1, 4, 2] }) }],
    [{ stroke: colour.pale, width: 1.25, dash: [2, 3] }, { stroke: colour.tint2, width: 1.25, dash: [6, 3] }, { stroke: colour.tint, width: 1.5 }],
  ][index];
  const axis = { stroke: colour.pale, font: "11px system-ui, sans-serif", grid: { stroke: colour.line, width: 1 }, ticks: { show: false } };
  const said = index ? (value) => latency(value) : (value) => rate(value);
  const options = {
    width: chart.canvases[index].clientWidth || 300,
    height: HEIGHT,
    padding: [6, 4, 0, 0],
    legend: { show: false },
    cursor: { y: false, sync: { key: "traffic" }, points: { size: 5 }, drag: { x: false, y: false } },
    scales: { y: { range: (_, __, most) => [0, most > 0 ? most * 1.12 : 1] } },
    axes: [
      { ...axis, size: 20, space: 70, grid: { show: false }, values: (_, values) => values.map((value) => clock(value)) },
      { ...axis, size: 50, space: 26, values: (_, values) => values.map((value) => (value === 0 ? "0" : said(value))) },
    ],
    series: [{}, ...lines.map((line) => ({ ...line, points: { show: false }, spanGaps: false }))],
    hooks: { setCursor: [(plot) => pointAt(plot.cursor.idx ?? null)] },
  };
  return new uPlot(options, data.map((list) => list.slice()), chart.canvases[index]);
}

/** The cursor is one for all charts. */
function pointAt(index) {
  if (traffic.cursor === index) return;
  traffic.cursor = index;
  for (const { chart } of document.querySelectorAll(".chart")) if (chart.series) showNow(chart);
}

/** The page's colours as a canvas wants them. */
function colours() {
  const probe = make("span");
  document.body.append(probe);
  const found = Object.fromEntries([["tint", "--tint"], ["tint2", "--tint-2"], ["soft", "--tint-soft"], ["bad", "--bad"], ["pale", "--pale"], ["line", "--line"]].map(([name, property]) => {
    probe.style.color = `var(${property})`;
    return [name, getComputedStyle(probe).color];
  }));
  probe.remove();
  return found;
}

/** In other colours. */
function drawTrafficAgain() {
  for (const { chart } of document.querySelectorAll(".chart")) removePlots(chart);
  showTraffic();
}

function prepareTraffic() {
  const choose = (by) => {
    traffic.by = by;
    traffic.isAll = false;
    traffic.order = { at: 0, names: [] };
    setAttribute(byId("by-upstream"), "aria-pressed", `${by === "upstreams"}`);
    setAttribute(byId("by-route"), "aria-pressed", `${by === "routes"}`);
    for (const { chart } of document.querySelectorAll(".chart")) removePlots(chart);
    showTraffic();
  };
  byId("by-upstream").addEventListener("click", () => choose("upstreams"));
  byId("by-route").addEventListener("click", () => choose("routes"));
  byId("charts-more").addEventListener("click", () => {
    traffic.isAll = true;
    showTraffic();
  });
}
