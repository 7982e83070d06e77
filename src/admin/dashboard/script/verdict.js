// The top of the page: how it is, in one line; what is wrong; four numbers.

const MARKS = { well: "check", note: "bar", trouble: "triangle", wait: "ring" };
const TONES = { well: "#2e9e6a", note: "#d08a12", trouble: "#d13a30", wait: "#888" };
/** What has not changed for so long is told to those who listen. */
const SETTLED = 1_500;

const listening = { timer: 0, told: null };

function showVerdict() {
  if (!known.status) return known.link === "lost" ? showLost() : undefined;
  const verdict = judge(known.status, known.recent);
  const isLost = known.link === "lost";
  const level = isLost ? "trouble" : verdict.level;
  const headline = isLost ? `The balancer cannot be reached since ${clockWithSeconds(known.linkSince / 1000)}` : verdict.headline;
  const carry = isLost ? `What is below is as of then: ${verdict.headline[0].toLowerCase()}${verdict.headline.slice(1)}. It is asked again every few seconds.` : verdict.carry;
  showLevel(level);
  setText(byId("headline"), headline);
  setText(byId("carry"), carry);
  setText(document.querySelector("title"), `${level === "well" ? "" : "! "}${headline} – balancer`);
  showTroubles(verdict.troubles);
  showVitals(known.recent);
  tell(isLost ? headline : verdict.short, `${level} ${isLost} ${verdict.troubles.map((one) => `${nameOf(one)} ${one.state}`)}`);
}

/** Before there was any answer. */
function showLost() {
  showLevel("trouble");
  setText(byId("headline"), "The balancer cannot be reached");
  setText(byId("carry"), "It is asked again every few seconds.");
}

function showLevel(level) {
  const section = byId("verdict");
  if (section.dataset.level === level && byId("verdict-mark").firstChild) return;
  section.dataset.level = level;
  byId("verdict-mark").replaceChildren(shape(MARKS[level]));
  const icon = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><path fill="${TONES[level]}" fill-rule="evenodd" d="${SHAPES[MARKS[level]]}"/></svg>`;
  byId("icon").href = `data:image/svg+xml,${encodeURIComponent(icon)}`;
}

function showTroubles(troubles) {
  const shown = troubles.slice(0, TOLD);
  if (troubles.length > TOLD) shown.push({ rest: troubles.length - TOLD });
  keep(byId("troubles"), shown, (one) => (one.rest ? "rest" : `${nameOf(one)} ${one.state} ${one.what}`), makeTrouble, updateTrouble);
}

function makeTrouble(trouble) {
  if (trouble.rest) return { node: make("li", { class: "quiet-text" }) };
  const subject = make(trouble.upstream === undefined ? "b" : "a", { class: "name", href: trouble.upstream === undefined ? undefined : "#upstreams" });
  if (trouble.upstream !== undefined) subject.addEventListener("click", () => filterBy(trouble.endpoint === undefined ? trouble.upstream : `${trouble.upstream}/${trouble.endpoint}`));
  const [badge, since, why, doing] = [make("span"), make("span"), make("span", { class: "why" }), make("p", { class: "doing" })];
  const mark = make("span", { class: `state tone-${stateOf(trouble.state).tone}` }, shape(stateOf(trouble.state).shape));
  badge.className = `tone-${stateOf(trouble.state).tone}`;
  return { node: make("li", {}, mark, make("p", { class: "what" }, subject, badge, since, why), doing), subject, badge, since, why, doing };
}

function updateTrouble(row, trouble) {
  if (trouble.rest) return setText(row.node, `and ${trouble.rest} more, below`);
  setText(row.subject, nameOf(trouble));
  setText(row.badge, trouble.what);
  setText(row.since, trouble.since ? `since ${clock(trouble.since)} (${span(now() - trouble.since)})` : "");
  setAttribute(row.since, "title", trouble.since ? wholeTime(trouble.since) : null);
  setText(row.why, trouble.why ? `– ${trouble.why}` : "");
  setText(row.doing, trouble.doing);
}

function showVitals(recent) {
  const last = (key) => [...recent.upstreams.values()].map((series) => series[key].at(-1)).filter((value) => value !== null && value !== undefined);
  const sum = (key) => (recent.upstreams.size ? last(key).reduce((total, value) => total + value, 0) : null);
  const errors = sum("errors");
  const slowest = last("p99").length ? Math.max(...last("p99")) : null;
  const vitals = [["requests/s", rate(sum("requests"))], ["errors/s", rate(errors), errors > 0], ["slowest p99", latency(slowest)], ["in flight", sum("in_flight") === null ? "–" : `${sum("in_flight")}`]];
  keep(byId("vitals"), vitals, ([name]) => name, ([name]) => {
    const value = make("dd");
    return { node: make("div", {}, make("dt", { text: name }), value), value };
  }, (one, [, value, isBad]) => {
    setText(one.value, value);
    one.value.classList.toggle("is-bad", Boolean(isBad));
  });
}

/** Says it to those who listen: once, when it has settled. `mark` changes when there is news. */
function tell(text, mark) {
  if (listening.mark === mark) return;
  listening.mark = mark;
  clearTimeout(listening.timer);
  listening.timer = setTimeout(() => announce(text), SETTLED);
}
