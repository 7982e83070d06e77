// How things are said: states, times, rates. Knows nothing of the page.

/** What the balancer's words for an endpoint's state mean to people: a shape, a colour, and whether something is wrong. */
const STATES = {
  up: { shape: "check", tone: "good" },
  unchecked: { shape: "disc", tone: "good" },
  unknown: { shape: "ring", tone: "calm" },
  down: { shape: "cross", tone: "bad", isTrouble: true },
  ejected: { shape: "triangle", tone: "bad", isTrouble: true },
  held: { shape: "bar", tone: "bad", isTrouble: true },
  unresolved: { shape: "question", tone: "bad", isTrouble: true },
  degraded: { shape: "half", tone: "warn", isTrouble: true },
  draining: { shape: "arrow", tone: "warn" },
  disabled: { shape: "bar", tone: "calm" },
  standby: { shape: "ring", tone: "calm" },
};
const OTHER_STATE = { shape: "ring", tone: "calm" };

/** Of any word, also one that a later balancer says. */
function stateOf(word) {
  return Object.hasOwn(STATES, word) ? STATES[word] : OTHER_STATE;
}

/** The worst first; what runs well last. */
const WORST_FIRST = ["down", "unresolved", "ejected", "held", "degraded", "draining", "unknown", "disabled", "standby", "unchecked", "up"];

function rankOf(word) {
  const rank = WORST_FIRST.indexOf(word);
  return rank < 0 ? 0 : rank;
}

/** A reason without what only programs need. */
function reasonOf(text) {
  return (text ?? "").replace(/ \(os error \d+\)/g, "").replace(/^connect failed: /, "").replace(/^(Connection)\b/, "connection");
}

/** `12 s`, `4 min`, `3 h 12 min`, `5 d 3 h`. */
function span(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  const days = Math.floor(hours / 24);
  return hours % 24 ? `${days} d ${hours % 24} h` : `${days} d`;
}

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const CLOCK_SECONDS = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const DAY_CLOCK = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const WHOLE_TIME = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });

/** The time of day; with the day where that is another one. `seconds` is Unix time. */
function clock(seconds) {
  const time = new Date(seconds * 1000);
  const isToday = time.toDateString() === new Date().toDateString();
  return (isToday ? CLOCK : DAY_CLOCK).format(time);
}

function clockWithSeconds(seconds) {
  return CLOCK_SECONDS.format(new Date(seconds * 1000));
}

function wholeTime(seconds) {
  return WHOLE_TIME.format(new Date(seconds * 1000));
}

/** Of something a second. */
function rate(value) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0";
  if (value < 0.05) return "<0.1";
  if (value < 9.95) return value.toFixed(1);
  if (value < 9999.5) return Math.round(value).toString();
  return `${(value / 1000).toFixed(value < 99950 ? 1 : 0)}k`;
}

/** A latency, from seconds. */
function latency(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const milliseconds = seconds * 1000;
  if (milliseconds < 0.95) return "<1 ms";
  if (milliseconds < 9.95) return `${milliseconds.toFixed(1)} ms`;
  if (milliseconds < 999.5) return `${Math.round(milliseconds)} ms`;
  return `${seconds.toFixed(seconds < 9.95 ? 1 : 0)} s`;
}

function many(number, one, several = `${one}s`) {
  return number === 1 ? `1 ${one}` : `${number} ${several}`;
}
