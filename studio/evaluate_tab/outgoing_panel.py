"""The fold of the Evaluate tab that takes the chosen run's model elsewhere: exported to a folder, or published."""

from typing import Any

import gradio as gr

from studio.context import Context
from studio.parts import html
from studio.parts.events import AT_ONCE, LATEST, QUIET, changes, noted
from studio.parts.showcode import show_code
from studio.runs import outgoing


def build(context: Context, run: gr.Dropdown) -> None:
    """Lay it out and wire it for the run that is chosen in `run`."""
    with gr.Accordion("Export or publish the chosen run", open=False, elem_id="out_fold"):
        gr.HTML(
            html.lead(
                "Export writes a folder that transformers, vLLM and others load, or a GGUF file for llama.cpp, Ollama "
                "and LM Studio, and measures what is different there. Publish makes a repository on the Hugging Face "
                "Hub, private unless you say otherwise, with a card. Log in first: `hf auth login`, or HF_TOKEN."
            ),
            padding=False,
        )
        form = gr.Dropdown(
            outgoing.export_forms(None), value=outgoing.TRANSFORMERS, label="Export as", elem_id="out_form"
        )
        with gr.Row(elem_classes="fields"):
            repo = gr.Textbox(label="Repository", placeholder="me/my-bakery", max_lines=1, elem_id="out_repo")
            public = gr.Checkbox(value=False, label="Everybody may see it", elem_id="out_public")
            data = gr.Checkbox(value=False, label="With the training data", elem_id="out_data")
            follow = gr.Checkbox(value=False, label="Each new checkpoint until the run is over", elem_id="out_follow")
            gguf = gr.Checkbox(value=False, label="With a GGUF file, for Ollama and others", elem_id="out_gguf")
        with gr.Row(elem_classes="buttons"):
            export = gr.Button("Export", size="sm", elem_id="out_export", scale=0, min_width=120)
            publish = gr.Button("Publish", size="sm", variant="primary", elem_id="out_publish", scale=0, min_width=120)
        said = gr.HTML(elem_id="out_said", padding=False)
        code = show_code("out_code", label="Show the shell commands", language="shell")
    timer = gr.Timer(1, active=False)
    chosen, watched = [run, repo, public, data, follow, gguf], [said, timer]
    export.click(noted(begin_export, said), [run, form], watched, **QUIET)
    publish.click(noted(begin_publish, said), chosen, watched, **QUIET)
    timer.tick(watch, None, watched, **AT_ONCE)
    context.page.load(watch, None, watched, **QUIET)
    gr.on(changes([*chosen, form]), codes, [*chosen, form], code, **LATEST)
    run.change(forms, run, form, **LATEST)


def forms(tag: str) -> Any:
    """What the chosen run can be exported as."""
    return gr.Dropdown(outgoing.export_forms(tag), value=outgoing.TRANSFORMERS)


def begin_export(tag: str, form: str) -> tuple[str, Any]:
    """Export the run's newest checkpoint."""
    outgoing.start(f"The export of {tag}", outgoing.export_words(tag, form))
    return watch()


def begin_publish(tag: str, repo: str, public: bool, data: bool, follow: bool, gguf: bool) -> tuple[str, Any]:
    """Publish the run's newest checkpoint, or each new one."""
    outgoing.start(f"The publication of {tag}", outgoing.publish_words(tag, repo, public, data, follow, gguf))
    return watch()


def watch() -> tuple[str, Any]:
    """How it is; when it is over, no further look."""
    return outgoing.shown(), gr.Timer(active=outgoing.is_active())


def codes(  # noqa: PLR0913  each is a field of the form
    tag: str, repo: str, public: bool, data: bool, follow: bool, gguf: bool, form: str
) -> str:
    """The commands that do the same; empty while no run is chosen."""
    try:
        publish = outgoing.publish_words(tag, repo or "me/my-model", public, data, follow, gguf)
        words = [outgoing.export_words(tag, form), publish]
    except ValueError:
        return ""
    return "\n".join(map(outgoing.shell, words))
