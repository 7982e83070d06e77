// What is wrong, in sentences: made of the status and the last minute of traffic. Pure; draws nothing.

/** Worse than this share of 5xx in the last minute is told, from this many a second. */
const ERROR_SHARE = 0.05;
const ERROR_RATE = 0.1;
const LAST_MINUTE = 12; // points
const CERTIFICATE_SOON = 14 * 86_400;
const TOLD = 6;

/**
 * `{ level, headline, carry, troubles, short }`: level is `well`, `note` or `trouble`; each trouble has a level, `upstream` and
 * `endpoint` where it is of one, `what` it is, `since` when, `why`, and what the balancer is `doing` about it.
 */
function judge(status, recent) {
  const endpoints = status.upstreams.flatMap((upstream) => upstream.endpoints.map((endpoint) => ({ upstream, endpoint })));
  const troubled = endpoints.filter(({ endpoint }) => stateOf(endpoint.state).isTrouble);
  const left = endpoints.filter(({ endpoint }) => ["draining", "disabled"].includes(endpoint.state));
  const checked = endpoints.filter(({ endpoint }) => endpoint.state === "unknown");
  const waiting = endpoints.filter(({ endpoint }) => endpoint.state === "standby");
  const troubles = [
    ...status.upstreams.filter(isOut).map(outage),
    ...troubled.sort((one, other) => rankOf(one.endpoint.state) - rankOf(other.endpoint.state)).map(endpointTrouble),
    ...status.upstreams.flatMap(pressure),
    ...failing(recent),
    ...reloadTrouble(status),
    ...certificateTroubles(status),
    ...left.map(endpointTrouble),
  ];
  const level = troubles.some((one) => one.level === "trouble") ? "trouble" : troubles.length ? "note" : "well";
  const headline = headlineOf(status, { endpoints, troubled, left, checked, waiting, troubles });
  const carry = troubled.length || left.length ? carryOf(status) : calmOf(status, checked);
  return { level, headline, carry, troubles, short: shortOf(headline, troubles, carry) };
}

function isOut(upstream) {
  return upstream.available === 0 && upstream.endpoints.length > 0 && upstream.endpoints.some(({ state }) => state !== "unknown");
}

function headlineOf(status, { endpoints, troubled, left, checked, waiting, troubles }) {
  const all = endpoints.length;
  const out = status.upstreams.filter(isOut);
  if (out.length) return out.length === 1 ? `Nobody answers for ${out[0].name}` : `Nobody answers for ${out.length} upstreams`;
  if (troubled.length) return `${troubled.length} of ${many(all, "endpoint")} in trouble`;
  const failing = troubles.find(({ isFailing }) => isFailing);
  if (failing) return `All endpoints serve, but ${failing.upstream ?? failing.route} answers with errors`;
  if (!all) return status.routes.length ? "The balancer answers by itself" : "Nothing is configured yet";
  const serve = `${all - left.length - checked.length - waiting.length} of ${many(all, "endpoint")} serve`;
  if (left.length) return `${serve}, ${left.length} taken out`;
  if (checked.length) return `${serve}, ${checked.length} being checked`;
  if (waiting.length) return `${serve}, ${waiting.length} on standby`;
  return all === 1 ? "The endpoint serves" : `All ${all} endpoints serve`;
}

/** What the rest carries, of the upstreams that have lost somebody. */
function carryOf(status) {
  const hurt = status.upstreams.filter((upstream) => isOut(upstream) || upstream.endpoints.some(({ state, mode }) => stateOf(state).isTrouble || mode !== "active"));
  if (hurt.length === 1) {
    const [{ name, available, headroom }] = hurt;
    if (!available) return `Requests for ${name} are refused with 503 until one of its endpoints is back.`;
    const rest = available === 1 ? `1 endpoint of ${name} carries` : `${available} endpoints of ${name} carry`;
    return headroom.could_lose ? `${rest} the load, could lose ${headroom.could_lose} more.` : `${rest} the load, and none more may be lost.`;
  }
  if (hurt.length <= 3 && hurt.every(({ available, headroom }) => available && headroom.could_lose)) {
    return `The rest carries the load, could lose ${hurt.map(({ name, headroom }) => `${headroom.could_lose} more of ${name}`).join(", ")}.`;
  }
  const out = hurt.filter(({ available }) => !available);
  const tight = hurt.filter(({ available, headroom }) => available && !headroom.could_lose);
  const parts = [];
  if (out.length) parts.push(`Requests for ${listOf(out)} are refused with 503`);
  if (tight.length) parts.push(`${listOf(tight)} could lose none more`);
  if (!parts.length) return `In ${hurt.length} upstreams; each has endpoints left that carry its load.`;
  return `${parts.join("; ")}.`;
}

function listOf(upstreams) {
  const names = upstreams.slice(0, 3).map(({ name }) => name).join(", ");
  return upstreams.length > 3 ? `${names} and ${upstreams.length - 3} more` : names;
}

function calmOf(status, checked) {
  if (checked.length) return `${many(checked.length, "endpoint")} wait${checked.length === 1 ? "s" : ""} for a first check.`;
  const several = status.upstreams.filter(({ endpoints, authority }) => endpoints.length > 1 && !authority);
  if (!several.length) return "";
  const tight = several.filter(({ headroom }) => !headroom.could_lose);
  return tight.length ? `${listOf(tight)} could lose none.` : several.length === 1 ? `${several[0].name} could lose ${several[0].headroom.could_lose} of ${several[0].headroom.of}.` : "Every upstream with several endpoints could lose one.";
}

function outage(upstream) {
  const since = Math.max(...upstream.endpoints.map((endpoint) => endpoint.since));
  return { level: "trouble", upstream: upstream.name, state: "down", what: "has nobody to ask", since, why: upstream.no_authority ?? "", doing: upstream.paused ? `Requests are held: ${upstream.held} wait.` : "Requests are refused with 503; checks go on." };
}

function endpointTrouble({ upstream, endpoint }) {
  const { state, since } = endpoint;
  const level = stateOf(state).isTrouble ? "trouble" : "note";
  return { level, upstream: upstream.name, endpoint: endpoint.name, state, what: state, since, why: reasonOf(endpoint.reason), doing: doingOf(upstream, endpoint) };
}

/** What the balancer is doing about an endpoint that is not simply up. */
function doingOf(upstream, endpoint) {
  const running = endpoint.in_flight ? `${many(endpoint.in_flight, "request")} still in flight there` : "nothing in flight there";
  switch (endpoint.state) {
    case "down":
      return endpoint.in_flight ? `Gets no requests until a check passes; ${running}.` : "Gets no requests until a check passes.";
    case "ejected":
      return `Set aside${endpoint.ejected ? ` until ${clockWithSeconds(endpoint.ejected.until)}` : ""} for failed requests; others answer.`;
    case "held":
      return "Gets no requests until it runs the version that is expected.";
    case "degraded":
      return "Stays in use: too few others are well.";
    case "unresolved":
      return "Its name has no address; it is looked up again every 30 seconds.";
    case "draining":
      return endpoint.mode === "draining" ? `Taken out by an operator or the file; ${running}.` : `Asks for no new requests; ${running}.`;
    case "disabled":
      return `Taken out by an operator or the file, and not checked; ${running}.`;
    default:
      return "";
  }
}

/** Requests that wait. */
function pressure(upstream) {
  const troubles = [];
  const of = { level: "note", upstream: upstream.name, state: "degraded", since: null, why: "" };
  if (upstream.paused) troubles.push({ ...of, what: "is paused", doing: `${many(upstream.held, "request")} held until the pause ends.` });
  if (upstream.queued) troubles.push({ ...of, what: "is full", doing: `${many(upstream.queued, "request")} wait${upstream.queued === 1 ? "s" : ""} for an endpoint with room.` });
  return troubles;
}

/** Everybody may be up and answer nonsense. */
function failing(recent) {
  const found = [];
  for (const [name, series] of recent.upstreams) {
    const [requests, errors] = ["requests", "errors"].map((key) => meanOf(series[key].slice(-LAST_MINUTE)));
    if (errors >= ERROR_RATE && errors >= requests * ERROR_SHARE) {
      const share = Math.round((100 * errors) / requests);
      found.push({ level: "trouble", isFailing: true, upstream: name, state: "ejected", what: `answers ${share} % with errors`, since: null, why: "", doing: `${rate(errors)} of ${rate(requests)} answers a second were 5xx in the last minute.` });
    }
  }
  return found;
}

function meanOf(values) {
  const numbers = values.filter((value) => value !== null);
  return numbers.length ? numbers.reduce((sum, value) => sum + value, 0) / numbers.length : 0;
}

function reloadTrouble({ last_reload: last, generation }) {
  if (last?.result === "rejected") {
    return [{ level: "note", state: "degraded", subject: "The last reload", what: `was refused (by ${last.by})`, since: last.at, why: last.why ?? "", doing: `Generation ${generation} stays in use; the log names every problem.` }];
  }
  if (last?.by === "auto-rollback") {
    return [{ level: "note", state: "degraded", subject: "The last reload", what: "was rolled back by itself", since: last.at, why: last.why ?? "", doing: `Generation ${generation} is the file before.` }];
  }
  return [];
}

function certificateTroubles(status) {
  return status.listeners.flatMap(({ name, certificates }) => certificates.filter(({ not_after: end }) => end - now() < CERTIFICATE_SOON).map(({ label, not_after: end }) => {
    const rest = end - now();
    const what = rest < 0 ? "has expired" : `expires in ${span(rest)}`;
    return { level: rest < 0 ? "trouble" : "note", state: rest < 0 ? "down" : "degraded", subject: `Certificate ${label}`, what, since: null, why: `of listener ${name}`, doing: "A reload takes a new one over." };
  }));
}

/** One sentence, for those who listen. */
function shortOf(headline, troubles, carry) {
  const [first] = troubles;
  if (!first) return `${headline}.`;
  const who = nameOf(first);
  const since = first.since ? ` since ${clock(first.since)}` : "";
  const why = first.why ? ` (${first.why})` : "";
  return `${headline}: ${who} ${first.what}${since}${why}; ${carry}`;
}

function nameOf({ upstream, endpoint, subject }) {
  return subject ?? (endpoint === undefined ? upstream : `${upstream}/${endpoint}`);
}
