// The configuration in use, those before it, what the last reload came to, and where the balancer listens.

function showConfiguration() {
  if (known.status) {
    showLastReload(known.status);
    showOnce(byId("listeners"), known.status.listeners.map((one) => [one.name, one.address, one.tls ? certificatesOf(one) : "–", `${one.open_connections}`]),
      (rows) => tableOf("Listeners", ["listener", "address", "certificates", "connections"], rows, [3]));
  }
  if (!known.configuration) return;
  const { accepted, generation, hash, text } = known.configuration;
  const rows = [...accepted].reverse().map((one) => [`${one.generation}${one.generation === generation ? " (in use)" : ""}`, `${clock(one.at)}`, one.by, one.file_of === one.generation ? one.hash.slice(0, 12) : `${one.hash.slice(0, 12)}, of generation ${one.file_of}`]);
  showOnce(byId("accepted"), [rows, hash, text], () => make("div", {},
    tableOf(`Accepted files; SHA-256 of the one in use: ${hash}`, ["generation", "when", "by", "SHA-256"], rows),
    text === undefined ? null : make("details", { class: "fold" }, make("summary", { text: "The file" }), make("pre", { class: "scroll", tabindex: "0", text }))));
}

function certificatesOf({ certificates }) {
  return certificates.map(({ names, label, not_after: end }) => `${names.join(", ") || label}, until ${clock(end).replace(/, \d\d:\d\d$/, "")}`).join("; ");
}

function showLastReload({ last_reload: last, generation, upgrade }) {
  const said = [];
  if (!last) said.push(`Generation ${generation}; not reloaded since the start.`);
  else if (last.result === "accepted") said.push(`Generation ${generation}; the last reload (${last.by}, ${clock(last.at)}) was accepted${last.why ? `: ${last.why}` : ""}.`);
  else said.push(`The last reload (${last.by}, ${clock(last.at)}) was refused; generation ${generation} stays in use. balancer reload, and the log, name every problem.`);
  if (upgrade) said.push(upgrade.state === "starting" ? `A new process (${upgrade.pid}) is starting to take over.` : `The process before (${upgrade.pid}) still has ${many(upgrade.connections ?? 0, "connection")}.`);
  const isRefused = last?.result === "rejected";
  showOnce(byId("last-reload"), [said, isRefused], () => make("span", {}, make("span", { class: `state tone-${isRefused ? "bad" : "good"}` }, shape(isRefused ? "triangle" : "check"), make("span", { text: isRefused ? "refused" : "in use" })), make("span", { text: said.join(" ") })));
}

/** Made again only where `facts` are others: what is selected or scrolled stays as it is. */
function showOnce(parent, facts, create) {
  const said = JSON.stringify(facts);
  if (parent.said === said) return;
  parent.said = said;
  parent.replaceChildren(create(facts));
}
