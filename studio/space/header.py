"""What a Space's page says that the app elsewhere does not: who you are, what you may do, and what the studio is."""

from collections.abc import Callable
from typing import Any

import gradio as gr

from studio.parts import html
from studio.space.access import FURTHER_OWNERS, NOBODY, Person, Space, for_visitors, present
from studio.space.home import SpaceHome

_ABOUT = {
    "data": (
        "Data",
        "Conversations are written, imported and fixed here, each as bubbles beside its trained tokens.",
        (
            "A dataset is a text file with one conversation a line: what a user says, and what the model should reply.",
            "Only the assistant's words are learned; a mask over the tokens says which, and the page shows it.",
            "Every fault is named with its line and its remedy before anything is trained.",
        ),
    ),
    "train": (
        "Train",
        "A model is taught the conversations here, on a GPU here or a rented one, and watched while it learns.",
        (
            "Choose a base model and a dataset: the number of steps and tokens is shown before the start.",
            "The loss is drawn live. Training loss tells what is memorised, validation loss what holds for new texts.",
            "A run can be stopped at any step and resumed later with the very losses it would have had.",
        ),
    ),
    "evaluate": (
        "Evaluate",
        "Here it is seen whether a model got better, what that cost, and which rows of the data did it.",
        (
            "The same questions, asked of two models: what one of them alone answers was learnt, or lost.",
            "A wrong reply is traced to the rows that taught it, word for word, and they are a click away.",
            "A report puts a run on one page: scores, cost, curves, data, and how to repeat it.",
        ),
    ),
}

_HIDDEN = "<style>.for-owner { display: none !important }</style>"


def walkthrough(tab: str) -> str:
    """What stands in a tab in place of its controls, for visitors."""
    title, lead, points = _ABOUT[tab]
    listed = "".join(f"<li>{html.escape(point)}</li>" for point in points)
    return (
        html.note(f"Only the owner of this Space can use {title}. Duplicate this Space to teach your own model.")
        + f'<div class="walkthrough">{html.lead(lead)}<ol>{listed}</ol>'
        + html.lead("In Chat you can talk to the practice model, a nanochat of 5 million parameters.")
        + "</div>"
    )


def who(person: Person, space: Space, home: SpaceHome) -> str:
    """The line under the title."""
    if person.is_owner:
        line = html.note(f"Signed in as {person.name}: this Space is yours, and every tab works.", "good")
        return line + (html.note(home.warning, "warn", "Not kept:") if home.warning else "")
    if not space.has_login:
        said = (
            "You may chat with the practice model. Nobody can sign in here: its README lacks hf_oauth: true, "
            "which the owner can add."
        )
    elif person.name:
        said = (
            f"Signed in as {person.name}, who may chat with the practice model. Training and editing are the owner's; "
            f"the owner can name others in the variable {FURTHER_OWNERS}. Or duplicate this Space."
        )
    else:
        said = (
            "You may chat with the practice model. Training and editing are the owner's: sign in if you are, "
            "or duplicate this Space to teach your own model."
        )
    return _HIDDEN + html.note(said)


class SpaceHeader:
    """The line and the sign-in button, and the columns that only the owner, or only visitors, see."""

    def __init__(self, space: Space, home: SpaceHome):
        self.space, self.home = space, home
        self.for_owner: list[gr.Column] = []
        self.for_visitors: list[gr.Column] = []
        with gr.Row(elem_id="space_header"):
            self.line = gr.HTML(who(NOBODY, space, home), elem_id="space_who", padding=False)
            if space.has_login:  # without an icon, which would be a file, and files are the owner's
                gr.LoginButton(icon=None, size="sm", elem_id="space_login", scale=0, min_width=210)

    def build_tab(self, tab: str, build: Callable[[], None]) -> None:
        """A tab of the owner's: its controls for the owner, a walkthrough for the others."""
        with gr.Column(elem_id=f"{tab}_about") as column:
            gr.HTML(walkthrough(tab), padding=False)
        self.for_visitors.append(column)
        with gr.Column(visible=False, elem_id=f"{tab}_owners") as column:
            build()
        self.for_owner.append(column)

    def wire(self, page: gr.Blocks) -> None:
        """Fit the page to who opens it."""
        outputs = [self.line, *self.for_owner, *self.for_visitors]
        page.load(self.fit, None, outputs, api_visibility="private", show_progress="hidden")

    @for_visitors
    def fit(self) -> list[Any]:
        """(line, the owner's columns, the visitors' columns) for who acts."""
        person = present()
        owners = [gr.Column(visible=person.is_owner) for _ in self.for_owner]
        return [
            who(person, self.space, self.home),
            *owners,
            *(gr.Column(visible=not person.is_owner) for _ in self.for_visitors),
        ]
