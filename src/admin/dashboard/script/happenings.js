// What happened, newest first: at most 200 are kept, and some of them shown.

const SHOWN_EVENTS = 30;
const happenings = { isAll: false };

function showHappenings() {
  const shown = happenings.isAll ? known.events : known.events.slice(0, SHOWN_EVENTS);
  byId("events-none").hidden = known.events.length > 0;
  byId("events").hidden = !known.events.length;
  keep(byId("events"), shown, ({ key }) => key, makeHappening, () => {});
  byId("events-more").hidden = shown.length === known.events.length;
  setText(byId("events-more"), `Show all ${known.events.length}`);
}

function makeHappening({ kind, data, time }) {
  const { shape: name, tone, said, more } = told(kind, data);
  const seconds = time / 1000;
  return { node: make("li", {},
    make("time", { datetime: new Date(time).toISOString(), title: wholeTime(seconds), text: clockWithSeconds(seconds) }),
    make("span", { class: `tone-${tone}` }, shape(name)),
    make("span", {}, make("span", { text: said }), more ? make("span", { class: "more-of-it", text: ` ${more}` }) : null)) };
}

/** An event in words. Kinds that this page does not know are shown as they are. */
function told(kind, data) {
  switch (kind) {
    case "endpoint":
      return toldEndpoint(data);
    case "reload":
      return toldReload(data);
    case "operator":
      return { shape: "hand", tone: data.result === "refused" ? "warn" : "calm", said: `${data.by ?? "operator"}: ${data.action}${data.target ? ` ${data.target}` : ""}`, more: data.result === "refused" ? "refused" : "" };
    case "upgrade":
      return data.result === "done"
        ? { shape: "turn", tone: "good", said: `upgraded to ${data.version}`, more: `generation ${data.generation}` }
        : { shape: "turn", tone: "bad", said: "upgrade failed, this process goes on", more: "the log says why" };
    case "pause":
      return { shape: "bar", tone: data.paused ? "warn" : "good", said: `${data.upstream} ${data.paused ? "is paused" : "goes on"}`, more: "" };
    case "flip":
      return toldFlip(data);
    case "restart":
      return { shape: "turn", tone: "calm", said: `another process answers: ${data.version}`, more: `generation ${data.generation}` };
    default:
      return { shape: "ring", tone: "calm", said: kind, more: JSON.stringify(data) };
  }
}

function toldEndpoint({ upstream, endpoint, before, state, reason, weight }) {
  const { shape: name, tone } = stateOf(state);
  const was = before && before !== state ? `, was ${before}` : before === null ? ", is new" : weight === undefined ? "" : `, weight ${weight}`;
  return { shape: name, tone, said: `${upstream}/${endpoint} ${state}${was}`, more: reason ? `– ${reasonOf(reason)}` : "" };
}

function toldFlip({ upstream, from, to, phase, percent, verdict }) {
  const tones = { kept: "good", "flipped-back": "bad", stranded: "bad", warming: "calm", watching: "calm" };
  const share = phase === "watching" ? `, ${percent} % of requests` : "";
  return { shape: "turn", tone: tones[phase] ?? "warn", said: `${upstream}: flip from set ${from} to ${to} ${phase}${share}`, more: verdict ?? "" };
}

function toldReload(data) {
  if (data.result === "rejected") {
    return { shape: "triangle", tone: "bad", said: `reload refused (${data.by}), generation ${data.generation} stays`, more: data.problems ?? (data.problem_count ? many(data.problem_count, "problem") : "") };
  }
  const counts = ["kept", "added", "draining"].filter((key) => data[key]).map((key) => `${data[key]} ${key}`).join(", ");
  const isBack = data.by === "auto-rollback";
  return { shape: "turn", tone: isBack ? "warn" : "good", said: `${isBack ? "rolled back by itself" : `reloaded (${data.by})`}: generation ${data.generation} in use`, more: [counts && `endpoints: ${counts}`, data.why].filter(Boolean).join("; ") };
}

function prepareHappenings() {
  byId("events-more").addEventListener("click", () => {
    happenings.isAll = true;
    showHappenings();
  });
}
