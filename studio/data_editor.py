"""The editor of one conversation: a bubble for each turn, drawn anew after every change but typing."""

from collections.abc import Callable
from functools import partial
from typing import Any

import gradio as gr

from nanochat_core.conversation_rules import ROLES
from studio import conversation_edit as edit
from studio import data_handlers as handlers
from studio import data_problems, data_view
from studio.data_session import Session
from studio.html import empty

TURNS = 40
"""Turns that are drawn; the rest of a longer conversation is edited as JSON."""

Edge = Callable[[Callable[..., Any]], Callable[..., Any]]
QUIET = {"api_visibility": "private", "show_progress": "hidden"}


class Editor:
    """Draws into the place where it is made. `typed` gets the session's id, the row and the measure's controls."""

    def __init__(self, at: gr.State, edge: Edge, typed: Callable[..., Any], inputs: list, outputs: list):
        self.at, self.edge, self.typed, self.inputs, self.outputs = at, edge, typed, inputs, outputs

    def draw(self, at: handlers.At) -> None:
        """The shown conversation with all its controls."""
        session = handlers.data_session.get(at["session"])
        if session is None:
            gr.HTML(empty("No dataset is open", "Pick one above, drop a file, or make a new one."))
            return
        if not session.has(at["row"]):
            gr.HTML(empty("No conversation is picked", "Pick one in the list, or add a conversation."))
            self._button("Add a conversation", "data-add-first", handlers.add_conversation)
            return
        row = at["row"]
        gr.HTML(data_view.heading(session, row), elem_id="data-heading", padding=False)
        outputs = [*self.outputs, self._problems(session, row)]
        value = edit.editable(session.rows.data[row])
        if value is None:
            self._raw(session, row)
        else:
            self._turns(session, row, edit.messages_of(value), outputs)
            with gr.Accordion("Edit as JSON", open=False, elem_id="data-json-fold"):
                self._raw(session, row)
        with gr.Row(elem_classes="data-tools"):
            self._button("Duplicate conversation", "data-duplicate-conversation", handlers.duplicate_conversation)
            self._button("Add conversation", "data-add-conversation", handlers.add_conversation)
            self._button("Delete conversation", "data-delete-conversation", handlers.delete_conversation, "danger")

    def _problems(self, session: Session, row: int) -> gr.HTML:
        """The problems and their fixes; the list of them follows what is typed."""
        faults = data_problems.problems_of(session.rows, row)
        listed = gr.HTML(data_view.row_problems(session, row), elem_id="data-row-problems", padding=False)
        kinds = [kind for kind in dict.fromkeys(fault.kind for fault in faults) if data_problems.fix_label(kind)]
        with gr.Row(elem_classes="data-tools", visible=bool(kinds)):
            for kind in kinds:
                fix = partial(handlers.fix_one, kind=kind)
                label = f"{data_problems.fix_label(kind)} ({data_problems.kind_words(kind)})"
                self._button(label, f"data-fix-{kind.replace('_', '-')}", fix)
        return listed

    def _raw(self, session: Session, row: int) -> None:
        text = session.rows.data[row].decode("utf-8", "replace")
        info = "One line of JSON; line breaks outside of texts become blanks. Nothing changes before Apply."
        box = gr.Textbox(
            text,
            label="The line as it is in the file",
            info=info,
            lines=4,
            max_lines=16,
            interactive=True,
            elem_id="data-raw",
        )
        button = gr.Button("Apply", size="sm", variant="primary", elem_id="data-raw-apply")
        button.click(self.edge(handlers.apply_text), [self.at, box], self.at, **QUIET)

    def _turns(self, session: Session, row: int, messages: list[dict[str, Any]], outputs: list) -> None:
        for turn, message in enumerate(messages[:TURNS]):
            self._turn(turn, message, len(messages), partial(self._text, outputs, session.id, row, turn))
        if len(messages) > TURNS:
            gr.HTML(data_view.note(f"{len(messages) - TURNS} more turns: edit them as JSON below."))
        with gr.Row(elem_classes="data-tools"):
            if not messages or messages[0]["role"] != "system":
                self._button(
                    "+ System prompt", "data-add-system", self._change("adding a system prompt", edit.add_system)
                )
            self._button("+ Turn", "data-add-turn", self._change("adding a turn", edit.add_turn))

    def _turn(self, turn: int, message: dict[str, Any], turns: int, text: Callable[..., None]) -> None:
        role = message["role"]
        side = role if role in ROLES else "other"
        with gr.Column(elem_classes=["turn", f"turn-{side}"], elem_id=f"data-turn-{turn}", min_width=200):
            with gr.Row(elem_classes="turn-head"):
                self._role(turn, role)
                self._tools(turn, role, turns)
            if isinstance(message["content"], str):
                label = "System prompt" if role == "system" else f"Turn {turn + 1}, {role}"
                text(None, message["content"], label, f"data-turn-{turn}-text")
            else:
                for number, part in enumerate(message["content"]):
                    self._part(turn, number, part, text)

    def _role(self, turn: int, role: str) -> None:
        known = [*ROLES] if role in ROLES else [*ROLES, role]
        box = gr.Dropdown(
            known,
            value=role,
            label=f"Role of turn {turn + 1}",
            show_label=False,
            container=False,
            interactive=True,
            filterable=False,
            min_width=110,
            scale=0,
            elem_id=f"data-turn-{turn}-role",
        )

        def set_role(at: handlers.At, chosen: str) -> handlers.At:
            return handlers.change(at, "changing a role", edit.set_role, turn, chosen)

        box.input(self.edge(set_role), [self.at, box], self.at, **QUIET)

    def _tools(self, turn: int, role: str, turns: int) -> None:
        """Small buttons; their names are words for a screen reader, drawn as signs by the style sheet."""
        name = f"data-turn-{turn}"
        up = self._change("moving a turn", edit.move_turn, turn, -1)
        down = self._change("moving a turn", edit.move_turn, turn, 1)
        self._sign("Move up", f"{name}-up", up, turn > 0)
        self._sign("Move down", f"{name}-down", down, turn < turns - 1)
        self._sign("Insert turn below", f"{name}-insert", self._change("adding a turn", edit.insert_turn, turn))
        if role == "assistant":
            calculation = self._change("adding a calculation", edit.add_calculation, turn)
            self._sign("Add calculation", f"{name}-calculation", calculation)
        self._sign("Delete turn", f"{name}-delete", self._change("deleting a turn", edit.delete_turn, turn))

    def _part(self, turn: int, number: int, part: dict[str, Any], text: Callable[..., None]) -> None:
        kind = part.get("type")
        name = f"data-turn-{turn}-part-{number}"
        label = edit.PART_LABELS.get(kind, f"Part of the unknown type {kind}")
        with gr.Row(elem_classes=["part", f"part-{kind if kind in edit.PART_LABELS else 'other'}"]):
            text(number, part["text"], label, name)
            delete = self._change("deleting a part", edit.delete_part, turn, number)
            self._sign("Delete part", f"{name}-delete", delete)

    def _text(
        self,
        outputs: list,
        session_id: str,
        row: int,
        turn: int,
        part: int | None,
        text: str,
        label: str,
        elem_id: str,
    ) -> None:
        box = gr.Textbox(
            text,
            label=label,
            lines=1,
            max_lines=14,
            interactive=True,
            elem_id=elem_id,
            elem_classes="turn-text" if part is None else None,
            scale=1,
        )
        store = partial(self.typed, session_id, row, turn, part)
        wires = {"inputs": [box, *self.inputs], "outputs": outputs, "queue": False, **QUIET}
        # One request at a time while typing, and the field's last state in any case.
        box.change(store, trigger_mode="always_last", **wires)
        # On leaving it at once: a click elsewhere draws the editor anew, and what was still waiting would be lost.
        box.blur(store, trigger_mode="multiple", **wires)

    def _change(self, what: str, function: Callable[..., bytes], *arguments: Any) -> Callable[..., Any]:
        return lambda at: handlers.change(at, what, function, *arguments)

    def _button(self, label: str, elem_id: str, act: Callable[..., Any], look: str = "") -> None:
        button = gr.Button(label, size="sm", elem_id=elem_id, elem_classes=look or None, min_width=90, scale=0)
        button.click(self.edge(act), self.at, self.at, **QUIET)

    def _sign(self, label: str, elem_id: str, act: Callable[..., Any], is_possible: bool = True) -> None:
        classes = ["sign", f"sign-{label.split()[0].lower()}-{label.split()[1].lower()}"]
        button = gr.Button(
            label, size="sm", elem_id=elem_id, elem_classes=classes, min_width=24, scale=0, interactive=is_possible
        )
        button.click(self.edge(act), self.at, self.at, **QUIET)
