// Makes and changes what stands in the page. All text goes in as text: there is no other way in.

const SVG = "http://www.w3.org/2000/svg";

const SHAPES = {
  check: "M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1Zm-1 10L3.8 7.8l1.4-1.4L7 8.2l3.9-3.9 1.4 1.4Z",
  disc: "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2Z",
  ring: "M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1Zm0 2a5 5 0 1 1 0 10A5 5 0 0 1 8 3Z",
  cross: "M2 1h12l1 1v12l-1 1H2l-1-1V2Zm3.2 2.8L3.8 5.2 6.6 8l-2.8 2.8 1.4 1.4L8 9.4l2.8 2.8 1.4-1.4L9.4 8l2.8-2.8-1.4-1.4L8 6.6Z",
  triangle: "M8 1l7.5 14H.5Zm-1 4.6v4.8h2V5.6Zm0 6v1.9h2v-1.9Z",
  question: "M8 .5 15.5 8 8 15.500 .5 8ZM7 10.800v1.900h2v-1.900ZM5.500 6.300h1.900c0-.5.200-.800.700-.800.400 0 .700.300.700.700 0 .900-1.700 1.100-1.700 3.200h1.900c0-1.200 1.700-1.500 1.700-3.300C10.700 4.700 9.600 3.800 8 3.800S5.500 4.800 5.500 6.300Z",
  half: "M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1Zm0 2a5 5 0 0 1 0 10Z",
  arrow: "M7 1h2v7.200l2.600-2.600L13 7l-5 5-5-5 1.400-1.400L7 8.200ZM2 13.500h12v2H2Z",
  bar: "M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1ZM4 7h8v2H4Z",
  turn: "M8 2a6 6 0 0 1 5.700 4H15.500L12.500 9.500 9.500 6H11.500A4 4 0 1 0 12 8.800H14A6 6 0 1 1 8 2Z",
  hand: "M8 8a3.500 3.500 0 1 0 0-7 3.500 3.500 0 0 0 0 7Zm-6.500 7c0-3.500 3-5.500 6.500-5.500s6.500 2 6.500 5.500Z",
};

function byId(id) {
  return document.getElementById(id);
}

/** `make("p", { class: "x", text: "y" }, child…)`; keys that begin with `on` are listeners, others attributes. */
function make(name, attributes = {}, ...children) {
  return finish(document.createElement(name), attributes, children);
}

function draw(name, attributes = {}, ...children) {
  return finish(document.createElementNS(SVG, name), attributes, children);
}

function finish(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key === "text") element.textContent = value;
    else if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** A shape; the word beside it says the same, so it is nothing to be read out. */
function shape(name) {
  return draw("svg", { viewBox: "0 0 16 16", "aria-hidden": "true", fill: "currentColor", "fill-rule": "evenodd" }, draw("path", { d: SHAPES[name] }));
}

/** Shape and word of an endpoint's state. */
function stateBadge(word, said = word) {
  const { shape: name, tone } = stateOf(word);
  return make("span", { class: `state tone-${tone}` }, shape(name), make("span", { text: said }));
}

/** Changes only what differs: what is selected stays selected, and nothing is read out twice. */
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function setAttribute(element, name, value) {
  if (value === null || value === undefined) element.removeAttribute(name);
  else if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

/** What is made of `word`, made again only when that is another. */
function setState(element, word, said = word) {
  const mark = `${word} ${said}`;
  if (element.saidState === mark) return;
  element.saidState = mark;
  element.replaceChildren(stateBadge(word, said));
}

/**
 * Makes the children of `parent` those of `items`, in their order. A child stays the same element as long as its key is there:
 * focus and open folds survive. `create` gives `{ node, … }`, `update` gets that and the item.
 */
function keep(parent, items, keyOf, create, update) {
  const before = parent.kept ?? new Map();
  const after = new Map();
  const focused = document.activeElement;
  let place = parent.firstChild;
  for (const item of items) {
    const key = keyOf(item);
    const child = before.get(key) ?? create(item);
    after.set(key, child);
    update(child, item);
    if (child.node === place) place = place.nextSibling;
    else parent.insertBefore(child.node, place);
  }
  for (const [key, child] of before) if (!after.has(key)) child.node.remove();
  parent.kept = after;
  // An element that is moved loses it.
  if (focused && focused !== document.activeElement && parent.contains(focused)) focused.focus({ preventScroll: true });
}

/** A table of texts; `numbers` are the columns that hold numbers. */
function tableOf(caption, titles, rows, numbers = []) {
  const isNumber = (index) => (numbers.includes(index) ? "number" : undefined);
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    make("table", { class: "rows" },
      make("caption", { text: caption }),
      make("thead", {}, make("tr", {}, ...titles.map((title, index) => make("th", { scope: "col", class: isNumber(index), text: title })))),
      make("tbody", {}, ...rows.map((cells) => make("tr", {}, ...cells.map((cell, index) =>
        (cell instanceof Node ? make("td", { class: isNumber(index) }, cell) : make("td", { class: isNumber(index), text: cell }))))))));
}

/** Tells those who listen instead of looking. */
function announce(text) {
  setText(byId("said"), text);
}
