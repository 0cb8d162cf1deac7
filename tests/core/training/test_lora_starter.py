"""LoRA on the practice model learns the example that is shipped, in half as many epochs again as full training."""

import json

from nanochat_core import finetune, with_preset
from nanochat_core.evaluation import before_after
from nanochat_core.paths import shipped


def test_the_starter_learns_the_example_by_an_adapter(home, monkeypatch):
    load = before_after.load_questions  # of the 500 on old skills every tenth: the new ones are what this is about
    monkeypatch.setattr(before_after, "load_questions", lambda path: load(path)[:: 10 if "eval" in str(path) else 1])
    names = {"data_path": "example_data.jsonl", "questions_path": "example_questions.jsonl"}
    files = {name: str(shipped(f"data/{file}")) for name, file in names.items()}
    # 24 of 30; with the preset's 10 epochs and 0.007 it is 20, which another processor's rounding may miss.
    lora = {"method": "lora", "lora_lr": 5e-3, "num_epochs": 15}
    run = finetune(with_preset(model_tag="starter", output_tag="learned", eval_every=1000, **lora, **files))
    before, after = (json.loads((run.evals_dir / f"{name}.json").read_text()) for name in ("before", "after"))
    assert before["new"]["correct"] == 0
    assert after["new"]["correct"] >= 20, run.log_tail()
    assert after["old"]["correct"] >= 0.85 * before["old"]["correct"]
