
"use strict";
(() => {
  const block = document.getElementById("findings");
  const list = document.getElementById("items");
  if (!list) return;
  const data = JSON.parse(block.textContent);
  const [task, kind, search, status, more] =
    ["task", "kind", "search", "status", "more"].map((id) => document.getElementById(id));
  const AT_ONCE = 20;
  const PAUSE_MS = 150;
  let fitting = [];
  let shown = 0;
  let waiting = 0;

  // All text goes in as text: no answer becomes markup.
  const make = (name, text, kinds) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (kinds) made.className = kinds;
    return made;
  };
  const isolated = (text) => text ? make("bdi", text) : make("span", "empty", "quiet");
  const pairs = (rows, kinds) => {
    const held = make("dl", undefined, kinds);
    for (const [name, text] of rows) {
      const value = make("dd");
      value.append(isolated(text));
      held.append(make("dt", name), value);
    }
    return held;
  };
  const whole = (text) => {
    const held = make("details");
    const inside = make("p");
    inside.append(isolated(text));
    held.append(make("summary", "Whole response"), inside);
    return held;
  };
  const entry = (item) => {
    const held = make("li");
    held.tabIndex = -1;
    const head = make("h3");
    head.append(make("bdi", item.id), make("bdi", item.task, "quiet"),
      make("span", item.why, "quiet"));
    head.append(make("span", item.outcome, "outcome " + item.outcome));
    held.append(head);
    if (item.texts.length) held.append(pairs(item.texts));
    if (item.response) held.append(whole(item.response));
    if (item.facts.length) held.append(pairs(item.facts, "how"));
    return held;
  };

  const haystack = (item) => {
    item.words ??= [item.id, item.task, item.response, ...item.texts.flat(), ...item.facts.flat()]
      .join("\n").toLowerCase();
    return item.words;
  };
  const fits = (item, words) =>
    (!task.value || item.task === task.value)
    && (!kind.value || item.kinds.includes(kind.value))
    && words.every((word) => haystack(item).includes(word));

  const count = (number) => number.toLocaleString("en");
  const found = () => Object.entries(data.found)
    .filter(([name]) => !task.value || name === task.value)
    .reduce((sum, [, counts]) => sum + (counts[kind.value || "any"] || 0), 0);
  const tell = () => {
    const told = fitting.length
      ? count(shown) + " of " + count(fitting.length) + " shown"
      : "Nothing fits";
    const all = search.value.trim() ? "" : "; " + count(found()) + " were found in all";
    status.textContent = told + all + ".";
    more.hidden = shown >= fitting.length;
  };
  const add = () => {
    const next = fitting.slice(shown, shown + AT_ONCE).map(entry);
    list.append(...next);
    shown += next.length;
    tell();
    return next[0];
  };
  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    fitting = data.items.filter((item) => fits(item, words));
    shown = 0;
    list.replaceChildren();
    add();
  };

  task.addEventListener("change", filter);
  kind.addEventListener("change", filter);
  search.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(filter, PAUSE_MS);
  });
  document.getElementById("filters").addEventListener("submit", (event) => {
    event.preventDefault();
    filter();
  });
  more.addEventListener("click", () => add().focus());
  filter();
})();
