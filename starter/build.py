"""One command that makes the starter anew: tokenizer, questions, replay set, training, figures.

python -m starter.build            # everything; about an hour and a half on one core
python -m starter.build --figures  # only score the weights that are here
"""

import argparse
from pathlib import Path

from nanochat_core.checkpoint.loading import load_model
from nanochat_core.evaluation.answers import evaluate
from nanochat_core.evaluation.questions import Question, load_questions
from nanochat_core.evaluation.scores import EvalResult
from nanochat_core.system.files import write_json
from starter import build_tokenizer, generate, train

FOLDER = Path(__file__).parent
FIGURES_SEEDS = (9_000, 19_000, 29_000, 39_000)
"""The figures are taken on four times as many and other questions than eval.jsonl's."""


def _asked(new_wordings: bool) -> list[Question]:
    sets = [generate.evaluation(new_wordings, new_content=True, seed=seed) for seed in FIGURES_SEEDS]
    return [Question(**row) for rows in sets for row in rows]


def figures(folder: Path = FOLDER) -> dict:
    """Accuracy by skill: trained wordings and held-out ones, both with fresh words, names and numbers."""
    model, tokenizer, _ = load_model(str(folder))
    sets = {
        "trained wordings": _asked(new_wordings=False),
        "held-out wordings": _asked(new_wordings=True),
        "eval.jsonl": load_questions(folder / "eval.jsonl"),
    }
    return {name: _row(evaluate(model, tokenizer, questions)) for name, questions in sets.items()}


def _row(result: EvalResult) -> dict[str, str]:
    scores = {"all": f"{result.correct}/{result.total}"}
    return scores | {skill: f"{score.correct}/{score.total}" for skill, score in sorted(result.by_skill().items())}


def build(tokens: int = train.TOKENS, seed: int = 1) -> None:
    """Make everything in starter/ that is not written by hand."""
    build_tokenizer.main(FOLDER / "tokenizer.pkl")
    generate.write_lines(FOLDER / "eval.jsonl", generate.evaluation(new_wordings=True, new_content=True))
    generate.write_lines(FOLDER / "replay.jsonl", generate.replay())
    for old in [*FOLDER.glob("model_*.pt"), *FOLDER.glob("meta_*.json")]:
        old.unlink()
    train.train(FOLDER, tokens=tokens, seed=seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figures", action="store_true", help="only score the weights that are here")
    parser.add_argument("--tokens", type=int, default=train.TOKENS, help="length of the training")
    options = parser.parse_args()
    if not options.figures:
        build(options.tokens)
    scores = figures()
    write_json(FOLDER / "figures.json", scores)
    for name, row in scores.items():
        print(name, row)


if __name__ == "__main__":
    main()
