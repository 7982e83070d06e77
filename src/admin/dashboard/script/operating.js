// Drain and resume: only where the balancer says that it may be written to, and asked for twice. The token is kept in this page's
// memory and nowhere else: it is gone with the page.

const operating = { token: "", wanted: null };

function updateActs(row, upstream, endpoint) {
  const isWritable = Boolean(known.status.admin?.writable);
  if (!isWritable) {
    row.act = null;
    return row.acts.replaceChildren();
  }
  if (!row.act) {
    row.act = make("button", { type: "button", class: "act", onclick: () => confirmAct(row.target) });
    row.acts.replaceChildren(row.act);
  }
  const action = endpoint.mode === "active" ? "drain" : "resume";
  row.target = { upstream: upstream.name, endpoint: endpoint.name, action };
  setText(row.act, action === "drain" ? "Drain" : "Resume");
  setAttribute(row.act, "aria-label", `${action === "drain" ? "Drain" : "Resume"} ${upstream.name}/${endpoint.name}`);
}

function confirmAct(target) {
  operating.wanted = target;
  const name = `${target.upstream}/${target.endpoint}`;
  setText(byId("confirm-title"), target.action === "drain" ? `Drain ${name}?` : `Resume ${name}?`);
  setText(byId("confirm-text"), consequence(target));
  setText(byId("confirm-yes"), target.action === "drain" ? "Drain" : "Resume");
  askForToken(operating.token === "");
  setText(byId("confirm-problem"), "");
  byId("confirm").showModal();
  (operating.token === "" ? byId("confirm-token") : byId("confirm-no")).focus();
}

function askForToken(isAsked) {
  byId("confirm-token-label").hidden = !isAsked;
  byId("confirm-token").required = isAsked;
  byId("confirm-token").value = "";
}

/** What is left after it. */
function consequence({ upstream: name, endpoint: endpointName, action }) {
  const upstream = known.status.upstreams.find((one) => one.name === name);
  const endpoint = upstream?.endpoints.find((one) => one.name === endpointName);
  if (!endpoint) return "It is not there any more.";
  if (action === "resume") return "It gets requests again; one that was disabled, after its next check.";
  const others = upstream.endpoints.filter((one) => one !== endpoint && one.eligible).length;
  const running = endpoint.in_flight ? `Its ${many(endpoint.in_flight, "request")} in flight finish.` : "Nothing is in flight there.";
  if (!others) return `It is the only endpoint of ${name} that is picked: after that, requests for ${name} are refused with 503. ${running}`;
  const { could_lose: spare } = upstream.headroom;
  const room = !endpoint.eligible ? "" : spare > 0 ? ` They carry the load, and could lose ${spare - 1} more.` : " By what they have carried so far, the load may be too much for them.";
  return `It gets no new requests. ${running} After that ${others} of ${upstream.endpoints.length} endpoints of ${name} ${others === 1 ? "is" : "are"} picked.${room}`;
}

async function act(event) {
  event.preventDefault();
  const { upstream, endpoint, action } = operating.wanted;
  if (!byId("confirm-token-label").hidden) operating.token = byId("confirm-token").value.trim();
  byId("confirm-yes").disabled = true;
  try {
    const path = [upstream, endpoint, action].map(encodeURIComponent).join("/");
    const { endpoint: after } = await ask(`api/v1/endpoints/${path}`, { method: "POST", headers: { authorization: `Bearer ${operating.token}` } });
    byId("confirm").close();
    announce(`${upstream}/${endpoint} is ${after.state} now.`);
    look();
  } catch (error) {
    if (error.status === 401) {
      operating.token = "";
      askForToken(true);
      byId("confirm-token").focus();
    }
    setText(byId("confirm-problem"), error.status ? `Refused: ${error.message}` : "The balancer cannot be reached.");
  }
  byId("confirm-yes").disabled = false;
}

function prepareOperating() {
  byId("confirm-form").addEventListener("submit", act);
  byId("confirm-no").addEventListener("click", () => byId("confirm").close());
}
