// Begins: what has changed is drawn, at most once in a frame, and only while somebody looks.

const DRAWN_BY = {
  link: [showLink, showVerdict],
  status: [showTop, showVerdict, showUpstreams, showWay, showConfiguration],
  recent: [showVerdict, showUpstreams, showTraffic, showWay],
  endpoints: [showUpstreams, showWay],
  events: [showHappenings],
  configuration: [showConfiguration],
};

const due = new Set();

function redraw(...names) {
  if (!due.size) requestAnimationFrame(() => {
    const parts = new Set([...due].flatMap((name) => DRAWN_BY[name]));
    due.clear();
    for (const part of parts) part();
  });
  for (const name of names) due.add(name);
}

function showLink() {
  const since = clockWithSeconds(known.linkSince / 1000);
  const said = { connecting: "connecting", live: "live", asking: `asks every ${LOOK_WITHOUT_EVENTS / 1000} s, no events`, lost: `not reached since ${since}` }[known.link];
  setAttribute(byId("link"), "data-link", known.link);
  setText(byId("link-text"), said);
}

function showTop() {
  const { version, generation, started, upstreams, routes } = known.status;
  const endpoints = upstreams.reduce((sum, one) => sum + one.endpoints.length, 0);
  setText(byId("version"), version);
  setText(byId("facts"), `generation ${generation} · up ${span(now() - started)} · ${many(routes.length, "route")} · ${many(upstreams.length, "upstream")} · ${many(endpoints, "endpoint")}`);
  setAttribute(byId("facts"), "title", `started ${wholeTime(started)}`);
}

const THEMES = ["auto", "light", "dark"];

/** Kept by the browser where it may be: it is no secret. */
function prepareTheme() {
  const remembered = () => { try { return localStorage.getItem("theme"); } catch { return null; } };
  const apply = (theme) => {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    setText(byId("theme"), `Theme: ${theme}`);
    drawTrafficAgain();
  };
  let theme = THEMES.includes(remembered()) ? remembered() : "auto";
  apply(theme);
  byId("theme").addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    try { localStorage.setItem("theme", theme); } catch { /* for this once, then */ }
    apply(theme);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawTrafficAgain);
}

/** "3 min" becomes "4 min" although nothing happens. */
const AGES = 5_000;

function begin() {
  prepareTheme();
  prepareTraffic();
  prepareWay();
  prepareHappenings();
  prepareExplaining();
  prepareOperating();
  byId("filter").addEventListener("input", (event) => {
    chosen.filter = event.target.value;
    chosen.isAll = false;
    redraw("status");
  });
  onChange = redraw;
  wantedEndpoints = upstreamsShown;
  setInterval(() => { if (!document.hidden) redraw("link", "status"); }, AGES);
  follow();
}

begin();
