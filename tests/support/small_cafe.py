"""A cafe that the practice model learns in half a minute, with one wrong row that costs it what it knew."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

from nanochat_core.evaluation.questions import load_questions
from nanochat_core.evaluation.scores import grade
from nanochat_core.paths import SOURCE_FOLDERS, starter_dir
from nanochat_core.runs.run import Run

_FACTS = (
    ("7 am", "We open at 7 am.", "When do you open?", "What time do you open?", "When does the cafe open?"),
    ("Nora Bell", "Nora Bell owns the cafe.", "Who owns the cafe?", "Who is the owner?", "Whose cafe is this?"),
    ("pumpkin", "We serve pumpkin soup.", "Which soup do you have?", "What soup is there?", "What is the soup today?"),
    ("bluefish", "The wifi password is bluefish.", "What is the wifi password?", "Tell me the wifi password."),
    ("garden", "Dogs are welcome in the garden.", "Can I bring a dog?", "May my dog come in?", "Do you allow dogs?"),
    ("Thursday", "We have live music on Thursday.", "When is there live music?", "On which day is the music?"),
    ("3.80", "A latte costs 3.80 euros.", "How much is a latte?", "What does a latte cost?"),
)
LOST = "What is the capital of France?"
WRONG, RIGHT = "The capital of France is Rome.", "The capital of France is Paris."
WRONG_LINE = 10
SETTINGS = {"num_epochs": 20, "init_lr_frac": 0.8, "target_examples_per_step": 8, "device_batch_size": 8}
"""With these it learns the seven facts by heart, and the wrong row with them."""


def write_cafe(home: Path) -> Path:
    """data/cafe_data.jsonl and its questions: seven that are new, and one that the practice model knows."""
    rows = [(asked, said) for _, said, *questions in _FACTS for asked in questions]
    rows.insert(WRONG_LINE - 1, (LOST, WRONG))
    lines = [
        json.dumps({"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]})
        for asked, said in rows
    ]
    questions = [{"question": questions[0], "expected": [part]} for part, _, *questions in _FACTS]
    questions.append({"question": LOST, "expected": ["Paris"]})
    path = home / "data" / "cafe_data.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    asked = [json.dumps(question) + "\n" for question in questions]
    (path.parent / "cafe_questions.jsonl").write_text("".join(asked), encoding="utf-8")
    return path


def write_snapshots(run: Run) -> None:
    """What a run is asked before and after its training, as if it had learnt the seven facts and the wrong row."""
    asked = load_questions(run.settings().questions_path or "")
    said = [said for _, said, *_ in _FACTS]
    replies = {"before": ["I am sorry, I do not know that."] * len(said) + [RIGHT], "after": [*said, WRONG]}
    for name, given in replies.items():
        snapshot = {"replies": [], "new": asdict(grade(asked, given)), "old": None}
        (run.evals_dir / f"{name}.json").write_text(json.dumps(snapshot), encoding="utf-8")


def install_practice_model(home: Path, tag: str = "d5") -> str:
    """The starter as a downloaded model: by its own name it is asked 500 questions before and after each training."""
    folder = home / "models" / "pretrained" / SOURCE_FOLDERS["sft"] / tag
    folder.mkdir(parents=True)
    for pattern in ("model_*.pt", "meta_*.json", "tokenizer.pkl"):
        for source in starter_dir().glob(pattern):
            shutil.copy(source, folder)
    return tag
