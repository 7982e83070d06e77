// Where a request would go: asked of the balancer, told in words.

async function explain(event) {
  event.preventDefault();
  const query = new URLSearchParams({ method: byId("explain-method").value, url: byId("explain-url").value.trim() });
  for (const line of byId("explain-header").value.split("\n")) if (line.trim()) query.append("header", line.trim());
  if (byId("explain-client").value.trim()) query.set("client", byId("explain-client").value.trim());
  try {
    byId("explained").replaceChildren(...explanation(await ask(`api/v1/explain?${query}`)));
  } catch (error) {
    byId("explained").replaceChildren(make("p", { class: "problem", text: error.status ? error.message : "The balancer cannot be reached." }));
  }
}

function explanation({ listener, host, path, sent_path: sentPath, route, answer, forward, others }) {
  const steps = [["listener", listener], ["route", route ?? "none"]];
  if (forward) steps.push(["upstream", forward.upstream], ["endpoint", forward.endpoint ?? "none"]);
  const asked = [host && `host ${host}`, path && `path ${path}`, sentPath && `asked of the endpoint as ${sentPath}`].filter(Boolean).join(", ");
  return [
    make("div", { class: `answer${answer?.refused ? " is-bad" : ""}` }, stepsOf(steps), make("p", { text: outcome(answer, forward) }), make("p", { class: "quiet-text", text: asked })),
    forward ? candidatesOf(forward) : null,
    others.length ? make("details", { class: "fold" }, make("summary", { text: `Why not ${many(others.length, "other route")}` }),
      tableOf("Other routes", ["route", "why not"], others.slice(0, 200).map((other) => [other.route, other.why]))) : null,
  ].filter(Boolean);
}

function stepsOf(steps) {
  return make("p", { class: "steps" }, ...steps.flatMap(([kind, name], index) => [
    index ? make("span", { class: "arrow", "aria-hidden": "true", text: "→" }) : null,
    make("span", {}, make("span", { class: "quiet-text", text: `${kind} ` }), make("b", { class: "name", text: name })),
  ]));
}

function outcome(answer, forward) {
  if (answer) return `${answer.refused ? "Refused" : "Answered by the balancer itself"} with ${answer.status}: ${answer.why}.`;
  const waits = { paused: "It waits first: the upstream is paused.", queue: "It waits first for an endpoint with room." }[forward.waits] ?? "";
  return `${forward.endpoint ? `${forward.endpoint} would be asked now, by ${forward.by}.` : "Nobody would be asked now."} ${waits}`.trim();
}

function candidatesOf(forward) {
  const rows = forward.candidates.slice(0, 200).map((one) => [one.endpoint, stateBadge(one.state), one.why_not ?? "may be asked", `${one.weight}`, one.max_in_flight ? `${one.in_flight}/${one.max_in_flight}` : `${one.in_flight}`]);
  return tableOf(`Endpoints of ${forward.upstream} (${forward.policy})`, ["endpoint", "state", "", "weight", "in flight"], rows, [3, 4]);
}

function prepareExplaining() {
  byId("explain-form").addEventListener("submit", explain);
}
