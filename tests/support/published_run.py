"""A run as the trainer leaves it, and the files that publishing makes of it."""

import json

from nanochat_core.config import FinetuneConfig
from nanochat_core.runs.launcher import create_run
from tests.support.tiny import tiny_model, tiny_tokenizer, write_conversations

REPO = "me/mine"
TOKEN = "hf_SeCrEtSeCrEt"
ALWAYS = {"README.md", "nanochat_studio.json", "tokenizer.pkl", "token_bytes.pt"}
OF_RUN = {"metrics.jsonl", "curves.png", "NOTICE"}
EXPORTED = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}


def make_run(home, tag="mine", state="finished", step=40, generation="A"):
    """A run as the trainer leaves it: record, metrics, one checkpoint, scores and replies."""
    data = write_conversations(home / "my secrets.jsonl")
    run = create_run(
        FinetuneConfig(str(data), model_tag="starter", output_tag=tag, questions_path=str(data), matrix_lr=0.0125)
    )
    for number in (0, 20, 40):
        run.append_metrics({"step": number, "val_loss": 3.0 - number / 40, "val_bpb": 1.0})
        run.append_metrics({"step": number + 1, "train_loss": 3.0})
    snapshot = {"replies": [["Which word is number 1?", "Word 1"]], "new": {"correct": 3, "total": 30}, "old": None}
    run.evals_dir.mkdir()
    for name, correct in (("before", 3), ("after", 26)):
        snapshot["new"]["correct"] = correct
        (run.evals_dir / f"{name}.json").write_text(json.dumps(snapshot))
    save(run, step, generation)
    run.write_status(state=state, step=step, steps=40)
    return run


def save(run, step, generation="A"):
    """One more checkpoint of the run."""
    from nanochat_core.checkpoint.writing import save_checkpoint, save_tokenizer

    meta = {"user_config": run.settings().to_dict(), "val_loss": 2.0}
    save_tokenizer(run.path, tiny_tokenizer())
    save_checkpoint(run.path, step, tiny_model(generation, seed=step), meta)


def emptied(hub):
    """The hub without anything in it, at the same address; it wants the TOKEN."""
    url = hub.url
    hub.__init__(REPO)
    hub.url, hub.token = url, TOKEN
    return hub


def publisher(home, terminal):
    """Runs `publish` with its arguments: (exit status, standard output, standard error)."""

    def published(*arguments):
        arguments = arguments or ("--model", "finetuned/mine", REPO)
        return terminal.run("publish", *arguments, HF_TOKEN=TOKEN, NANOCHAT_STUDIO_HOME=str(home))

    return published
