// The editor of one conversation. Runs inside gr.HTML's js_on_load: element, props, trigger, server and watch are given.
// What is typed is sent to the app at once and held here until the app has said that it has it; drawing again never
// takes a text away, nor does a reload of the page, which gradio does by itself when an app that was gone is there again.
// Every text of the data becomes a text node or a field's value, never markup.

const KEPT = "nanochat-studio-typed";
const editor = (window.dataEditor ??= { waiting: kept(), fields: new Map(), sending: null });
let drawn = "";
let shown = {};

function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

function html(id, markup) {
  const made = make("div", { id });
  made.innerHTML = markup; // escaped by the app
  return made;
}

// What is typed

function kept() {
  addEventListener("pagehide", () => {
    if (editor.waiting.size) sessionStorage.setItem(KEPT, JSON.stringify([...editor.waiting]));
  });
  try {
    const before = JSON.parse(sessionStorage.getItem(KEPT) ?? "[]");
    sessionStorage.removeItem(KEPT);
    return new Map(before.map(([name, one]) => [name, { ...one, isLate: true }])); // not of the fields that are shown now
  } catch {
    return new Map(); // a browser that keeps nothing for a page inside another site's
  }
}

function typed(field) {
  const known = editor.fields.get(field.dataset.name);
  if (!known) return;
  editor.waiting.set(field.dataset.name, { ...known, text: field.value });
  editor.flush().catch(() => {}); // said in the note; it is tried again
}

// Resolves when the app has everything; rejects when it does not answer.
editor.flush = () => (editor.sending ??= send().finally(() => (editor.sending = null)));

async function send() {
  let failures = 0;
  let sent = false;
  let isLate = false;
  while (editor.waiting.size) {
    const [{ session, row }] = editor.waiting.values();
    const batch = [...editor.waiting].filter(([, one]) => one.session === session && one.row === row);
    const texts = batch.map(([name, { turn, part, before, text }]) => {
      return { name, turn, part, before: editor.fields.get(name)?.before ?? before, text };
    });
    const answer = await editor.store(JSON.stringify({ session, row, texts })).catch(() => null);
    if (!answer || !answer.kept) {
      say("The app does not answer. What you type stays here and is sent as soon as it does.");
      await new Promise((wake) => setTimeout(wake, 1000));
      if (++failures === 5) setTimeout(() => editor.flush().catch(() => {}), 2000);
      if (failures >= 5) throw new Error("The app does not answer.");
      continue;
    }
    sent = true;
    isLate ||= batch.some(([, one]) => one.isLate);
    for (const [name, one] of batch) {
      const known = editor.fields.get(name);
      if (known) Object.assign(known, { before: one.text, version: answer.version ?? 0 });
      if (editor.waiting.get(name)?.text === one.text || answer.gone.includes(name)) editor.waiting.delete(name);
    }
    const lost = batch.filter(([name]) => answer.gone.includes(name)).map(([, one]) => one.text);
    say(lost.length ? `${answer.problem || "The turn that you typed in is gone."} It said: ${lost.join(" / ")}` : "");
    const place = element.querySelector("#data-row-problems");
    if (place && answer.problems !== undefined && shown.row === row) place.innerHTML = answer.problems;
  }
  if (sent && (failures || isLate) && shown.session) trigger("act", { act: "found-again", session: shown.session, row: shown.row });
  else if (sent) trigger("typed");
}

function say(words) {
  const place = element.querySelector("#data-editor-note");
  if (!place) return;
  place.textContent = words;
  place.hidden = !words;
}

// What is clicked

async function act(what) {
  try {
    await editor.flush();
  } catch {
    return;
  }
  trigger("act", { session: shown.session, row: shown.row, ...what });
}

function button(label, id, what, look = "", disabled = false) {
  const made = make("button", { type: "button", id, class: `data-button ${look}`, disabled }, label);
  made.addEventListener("click", () => act(typeof what === "function" ? what() : what));
  return made;
}

function sign(label, id, what, kind, disabled = false) {
  const made = button("", id, what, `sign sign-${kind}`, disabled);
  made.setAttribute("aria-label", label);
  made.title = label;
  return made;
}

// Drawing

// What was typed into this field by another name, before the page was loaded again.
function left(turn, text) {
  const isHere = (one) => one.session === shown.session && one.row === shown.row && one.turn === turn.turn && one.part === text.part;
  return [...editor.waiting.values()].find((one) => isHere(one) && one.before === text.text);
}

function field(turn, text) {
  const known = editor.fields.get(text.name);
  const before = { session: shown.session, row: shown.row, turn: turn.turn, part: text.part, before: text.text };
  const isNewer = known && known.version > shown.version; // drawn from what the app knew before the last keys
  editor.fields.set(text.name, isNewer ? { ...before, before: known.before, version: known.version } : { ...before, version: shown.version });
  const area = make("textarea", { rows: 1, "aria-label": text.label, "data-name": text.name, spellcheck: "true" });
  area.value = (editor.waiting.get(text.name) ?? left(turn, text))?.text ?? (isNewer ? known.before : text.text);
  area.addEventListener("input", () => typed(area));
  return area;
}

function role(turn) {
  const options = turn.roles.map((name) => make("option", { value: name, selected: name === turn.role }, name));
  const made = make("select", { id: `data-turn-${turn.turn}-role`, "aria-label": `Role of turn ${turn.turn + 1}` }, ...options);
  made.addEventListener("change", () => act({ act: "role", name: turn.name, role: made.value }));
  return made;
}

function tools(turn) {
  const id = `data-turn-${turn.turn}`;
  const on = (act) => ({ act, name: turn.name });
  return [
    sign("Move up", `${id}-up`, on("up"), "up", turn.is_first),
    sign("Move down", `${id}-down`, on("down"), "down", turn.is_last),
    sign("Insert turn below", `${id}-insert`, on("insert"), "insert"),
    turn.role === "assistant" ? sign("Add calculation", `${id}-calculation`, on("calculation"), "calculation") : null,
    sign("Delete turn", `${id}-delete`, on("delete-turn"), "delete"),
  ];
}

function bubble(turn) {
  const id = `data-turn-${turn.turn}`;
  const texts = turn.texts.map((text) => {
    if (text.part === null) return make("div", { id: `${id}-text`, class: "turn-text" }, field(turn, text));
    const name = `${id}-part-${text.part}`;
    const label = make("label", { id: name }, make("span", {}, text.label), field(turn, text));
    const remove = sign("Delete part", `${name}-delete`, { act: "delete-part", name: text.name }, "delete");
    return make("div", { class: `part part-${text.kind}` }, label, remove);
  });
  const head = make("div", { class: "turn-head" }, role(turn), ...tools(turn));
  return make("div", { class: `turn turn-${turn.side}`, id }, head, ...texts);
}

function pages(suffix) {
  if (shown.pages < 2) return null;
  const go = (label, id, page, disabled) => button(label, id + suffix, { act: "page", page }, "", disabled);
  return make(
    "div",
    { class: "data-tools data-turn-pages" },
    go("Earlier turns", "data-turns-previous", shown.page - 1, shown.page === 0),
    make("span", { class: "data-heading" }, shown.where),
    go("Later turns", "data-turns-next", shown.page + 1, shown.page === shown.pages - 1),
  );
}

function raw() {
  const area = make("textarea", { rows: 4, id: "data-raw-text", spellcheck: "false" });
  area.value = shown.raw;
  const info = "One line of JSON; line breaks outside of texts become blanks. Nothing changes before Apply.";
  const label = make("label", { id: "data-raw" }, make("span", {}, "The line as it is in the file"), make("small", {}, info), area);
  return [label, button("Apply", "data-raw-apply", () => ({ act: "raw", text: area.value }), "primary")];
}

function conversation() {
  const fixes = shown.fixes.map((fix) => button(fix.label, `data-fix-${fix.kind.replaceAll("_", "-")}`, { act: "fix", kind: fix.kind }));
  const whole = [html("data-heading", shown.heading), html("data-row-problems", shown.problems)];
  if (fixes.length) whole.push(make("div", { class: "data-tools" }, ...fixes));
  if (shown.turns === null) whole.push(...raw());
  else {
    const system = shown.has_system || shown.page > 0 ? null : button("+ System prompt", "data-add-system", { act: "add-system" });
    whole.push(pages(""), ...shown.turns.map(bubble), pages("-below"));
    whole.push(make("div", { class: "data-tools" }, system, button("+ Turn", "data-add-turn", { act: "add-turn" })));
    whole.push(make("details", { id: "data-json-fold" }, make("summary", {}, "Edit as JSON"), ...raw()));
  }
  const acts = ["Duplicate conversation", "Add conversation", "Delete conversation"].map((label) => {
    const name = label.toLowerCase().replace(" ", "-");
    return button(label, `data-${name}`, { act: name }, name.startsWith("delete") ? "danger" : "");
  });
  return [...whole, make("div", { class: "data-tools" }, ...acts)];
}

function nothing() {
  const { title, text } = shown.empty;
  const words = make("div", { class: "empty" }, make("strong", {}, title), make("span", {}, text));
  return [words, shown.add ? button("Add a conversation", "data-add-first", { act: "add-conversation" }) : null];
}

function draw() {
  if (!props.value) return;
  const next = JSON.parse(props.value);
  const same = JSON.stringify({ ...next, version: 0 });
  if (same === drawn && element.querySelector("#data-editor-note")) return;
  const isSameRow = next.session === shown.session && next.row === shown.row;
  const focused = element.contains(document.activeElement) ? document.activeElement : null;
  const at = focused?.dataset?.name && { name: focused.dataset.name, from: focused.selectionStart, to: focused.selectionEnd };
  const focusedId = focused?.id;
  const isOpen = isSameRow && element.querySelector("#data-json-fold")?.open;
  [shown, drawn] = [next, same];
  if (!isSameRow) editor.fields.clear();
  const note = make("div", { id: "data-editor-note", class: "note bad", role: "alert", hidden: true });
  const parts = (shown.empty ? nothing() : conversation()).filter((part) => part !== null);
  element.replaceChildren(note, ...parts);
  if (isOpen) element.querySelector("#data-json-fold")?.setAttribute("open", "");
  const field = at && element.querySelector(`textarea[data-name="${CSS.escape(at.name)}"]`);
  if (field) {
    field.focus({ preventScroll: true });
    field.setSelectionRange(at.from, at.to);
  } else if (focusedId) document.getElementById(focusedId)?.focus({ preventScroll: true });
  // What was typed before the page was loaded again: sent sooner, it could be drawn over with what the app had then.
  if (shown.session && editor.waiting.size) editor.flush().catch(() => {});
}

editor.store = (told) => server.store(told);
watch("value", draw);
draw();
