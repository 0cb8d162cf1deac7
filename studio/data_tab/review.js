// One finding to decide. Runs inside gr.HTML's js_on_load: element, props, trigger and watch are given. The frame around it
// stays, so that the keyboard's focus does; its keys count while the focus is in it, and never while something is typed.

const frame = document.createElement("section");
frame.tabIndex = 0;
frame.setAttribute("aria-label", "Finding to decide; keys: k keep, e edit, d delete, m merge, s later, u take back, 1 to 9 choose a row");
element.replaceChildren(frame);

// From then on "merge" means the row that a person chose, and not the one that the card proposes.
function pick() {
  const merge = frame.querySelector("button[data-act=merge][data-row]");
  if (!merge) return;
  delete merge.dataset.row;
  merge.firstChild.data = "Merge into this ";
}

function press(button) {
  if (!button || button.disabled) return;
  act(button.dataset.act, button.dataset.row === undefined ? undefined : Number(button.dataset.row));
}

function chosen() {
  return Number(frame.querySelector("input[name=review-row]:checked")?.value ?? -1);
}

async function act(name, row) {
  const { session, key } = frame.querySelector(".review").dataset;
  await window.dataEditor?.flush().catch(() => {});
  trigger("act", { act: name, session, key, row: row ?? chosen() });
  if (name === "edit") document.querySelector("#data-editor")?.scrollIntoView({ block: "center" });
}

frame.addEventListener("click", (event) => {
  if (event.target.closest(".review-row")) pick();
  press(event.target.closest("button[data-act]"));
});

frame.addEventListener("keydown", (event) => {
  // A key that is held down would decide rows that nobody has read.
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (/^[1-9]$/.test(event.key)) {
    const row = frame.querySelector(`#data-review-row-${event.key}`);
    if (row) {
      row.checked = true;
      pick();
    }
    return;
  }
  const button = frame.querySelector(`button[data-shortcut="${CSS.escape(event.key)}"]`);
  if (!button || button.disabled) return;
  event.preventDefault();
  press(button);
});

function draw() {
  if (!props.value) return;
  const hadFocus = frame.contains(document.activeElement);
  frame.innerHTML = JSON.parse(props.value); // escaped by the app
  if (hadFocus) frame.focus({ preventScroll: true });
}

watch("value", draw);
draw();
