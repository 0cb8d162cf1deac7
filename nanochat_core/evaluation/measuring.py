"""What saved models are worth: questions answered, figures on conversations, benchmark tasks; nothing measured twice.

Several models come one after the other, each loaded only when something of it is not known yet.
"""

import hashlib
import importlib.metadata
import importlib.util
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from nanochat_core.checkpoint.checksums import digest
from nanochat_core.checkpoint.loading import load_model
from nanochat_core.checkpoint.reading import read_meta
from nanochat_core.compute.devices import choose_device
from nanochat_core.compute.ranks import Ranks
from nanochat_core.data.conversations import load_conversations
from nanochat_core.evaluation.answers import ask
from nanochat_core.evaluation.figures import figures
from nanochat_core.evaluation.meter import Meter, Watch, unwatched
from nanochat_core.evaluation.questions import Question, load_questions
from nanochat_core.evaluation.results import REPLY_TOKENS, judged, keep, kept, known_replies, result_path
from nanochat_core.evaluation.scores import grade
from nanochat_core.model.gpt import GPT
from nanochat_core.paths import SOURCE_FOLDERS, ModelFiles, adapter_base, find_file, find_model
from nanochat_core.system.files import now, sha256_of
from nanochat_core.tokenizer.rendering import render
from nanochat_core.tokenizer.tokenizer import Tokenizer

BATCH = 8
"""Conversations in one forward pass."""


_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """What is to be measured."""

    questions: str | None = None
    """A file of questions."""
    data: str | None = None
    """A file of conversations."""
    tasks: tuple[str, ...] = ()
    """Names of tasks of lm-eval."""
    include_path: str | None = None
    """A folder with tasks of one's own, in lm-eval's YAML."""
    limit: int | None = None
    """Samples of each task; None: all."""
    max_tokens: int = REPLY_TOKENS
    """Longest reply."""
    max_seq_len: int | None = None
    """Longest conversation in tokens; None: the context of the model, of several the shortest."""

    def check(self) -> list[Question]:
        """The questions. ValueError, in a sentence, for files that cannot be used, before a model is loaded."""
        if not (self.questions or self.data or self.tasks):
            raise ValueError(
                "There is nothing to evaluate: give a file of questions (--questions data/example_questions.jsonl), "
                "one of conversations (--data_path data/example_data.jsonl), or tasks of lm-eval (--tasks arc_easy)."
            )
        if self.tasks and importlib.util.find_spec("lm_eval") is None:
            raise ValueError(
                "Tasks need lm-eval, which is not installed. Install it with: pip install 'nanochat-studio[lm-eval]' "
                "(in a checkout: .venv/bin/python -m pip install '.[lm-eval]')."
            )
        if self.include_path and not Path(self.include_path).is_dir():
            raise ValueError(f"include_path is {self.include_path}, which is no folder. Give the one with the tasks.")
        if self.data and not find_file(self.data).is_file():
            raise ValueError(f"The data file {self.data} cannot be read: there is none. Check its name.")
        return load_questions(self.questions) if self.questions else []


@dataclass(frozen=True)
class Measured:
    """The results of one model, as `results` describes them; None for what was not asked."""

    model: str
    """Its NAME."""
    step: int
    questions: dict[str, Any] | None = None
    data: dict[str, Any] | None = None
    tasks: dict[str, Any] | None = None


def measure(
    names: list[tuple[str, int | None]],
    wanted: Wanted,
    device_type: str = "auto",
    watch: Watch = unwatched,
    ranks: Ranks | None = None,
) -> list[Measured]:
    """Measure each of the models (NAME, step; None: the newest). What was measured before is not measured again.

    watch: told a few times per second how far it is; it may raise to stop. ranks: the processes that share the work.
    ValueError in a sentence for every model and file that cannot be used, before a model is loaded where that is
    possible.
    """
    ranks = ranks or Ranks(0, 1, choose_device(device_type))
    questions = wanted.check()
    models = [find_model(name, step) for name, step in names]
    if wanted.data and wanted.max_seq_len is None:
        wanted = replace(wanted, max_seq_len=min(_context(files) for files in models))
    parts = len(models) * sum(map(bool, (wanted.questions, wanted.data, wanted.tasks)))
    meter = Meter(watch if ranks.is_first else unwatched, parts)
    return [_OneModel(files, wanted, ranks, meter).measure(questions) for files in models]


def _context(files: ModelFiles) -> int:
    return int(read_meta(files.meta)["model_config"].get("sequence_len", 2048))


def _sha256(files: ModelFiles) -> str:
    """Of the weights; of an adapter with those of the model that it belongs to."""
    own = digest(files.weights)
    return hashlib.sha256(f"{own}{_sha256(adapter_base(files))}".encode()).hexdigest() if files.is_adapter else own


def _keep(path: Path, result: dict[str, Any]) -> None:
    """Keep a result where that can be done: in a folder that others own it is told and not lost with the work."""
    try:
        keep(path, result)
    except OSError as error:
        _log.warning("The result is not kept, and would be measured again: %s", error)


class _OneModel:
    """The measurements of one checkpoint."""

    def __init__(self, files: ModelFiles, wanted: Wanted, ranks: Ranks, meter: Meter):
        self.files, self.wanted, self.ranks, self.meter = files, wanted, ranks, meter
        self.sha256 = _sha256(files)
        self._loaded: tuple[GPT, Tokenizer] | None = None

    def measure(self, questions: list[Question]) -> Measured:
        asked = self._questions(questions) if self.wanted.questions else None
        read = self._data(self.wanted.data, self.wanted.max_seq_len) if self.wanted.data else None
        done = self._tasks() if self.wanted.tasks else None
        return Measured(self.files.name, self.files.step, asked, read, done)

    def _loaded_once(self) -> tuple[GPT, Tokenizer]:
        if self._loaded is None:
            model, tokenizer, _ = load_model(self.files.name, self.ranks.device, step=self.files.step)
            self._loaded = model, tokenizer
        return self._loaded

    def _questions(self, questions: list[Question]) -> dict[str, Any]:
        how = {"max_tokens": self.wanted.max_tokens, "device": self.ranks.device.type}
        file = find_file(self.wanted.questions or "")
        self.meter.begin(f"{self.files.name}: question", len(questions))
        return self._once("questions", file, how, lambda: self._asked(questions, how, file))

    def _asked(self, questions: list[Question], how: dict[str, Any], file: Path) -> dict[str, Any]:
        """Ask what is not known yet, each rank its share; what was answered before a stop is kept."""
        replies = known_replies(self.files.name, self.sha256, how)
        self.meter.beat(sum(question.key in replies for question in questions))
        new = [number for number, question in enumerate(questions, 1) if question.key not in replies]
        numbers = new[self.ranks.rank :: self.ranks.world]
        mine = [questions[number - 1] for number in numbers]
        heard: dict[str, str] = {}

        def hear(place: int, reply: str) -> None:
            heard[mine[place].key] = reply
            self.meter.beat(self.ranks.world)

        try:
            if new:
                ask(*self._loaded_once(), mine, self.wanted.max_tokens, hear, self.meter.beat, numbers)
        except BaseException:
            answered = [question for question in mine if question.key in heard]
            partial = self._graded(answered, heard) | {"complete": False, "asked": how}
            path = result_path(self.files.name, "questions", self.sha256, how | {"part": now()})
            _keep(path, self._described("questions", file) | partial)
            raise
        for one in self.ranks.gather(heard):
            replies |= one
        return self._graded(questions, replies) | {"asked": how}

    @staticmethod
    def _graded(questions: list[Question], replies: dict[str, str]) -> dict[str, Any]:
        return asdict(grade(questions, [replies[question.key] for question in questions]))

    def _data(self, path: str, longest: int | None) -> dict[str, Any]:
        assert longest is not None
        file = find_file(path)
        how = {"max_seq_len": longest, "device": self.ranks.device.type}
        self.meter.begin(f"{self.files.name}: conversation", 1)
        return self._once("data", file, how, lambda: self._read(file, longest))

    def _read(self, file: Path, longest: int) -> dict[str, Any]:
        model, tokenizer = self._loaded_once()
        conversations = load_conversations(file, tokenizer, longest)
        rendered = render(conversations, tokenizer, longest)
        examples = [one for one in rendered if one.mask[1:].any()]
        if not examples:
            raise ValueError(
                f"{file} has no answer within {longest} tokens. Raise max_seq_len, or choose another file."
            )
        self.meter.restart(len(examples))
        found = figures(
            model,
            examples,
            torch.tensor(tokenizer.token_bytes()),
            self.ranks,
            BATCH,
            lambda done: self.meter.beat(done * self.ranks.world),
        )
        figures_of_all = {name: getattr(found, name) for name in ("loss", "bits_per_byte", "token_accuracy")}
        not_read = {"cut": sum(one.cut for one in examples), "without_answer": len(rendered) - len(examples)}
        return {**figures_of_all, **not_read, "longest": longest, "conversations": found.to_dict()}

    def _tasks(self) -> dict[str, Any]:
        """What lm-eval finds, each rank doing its share. Tasks of one's own are always done anew."""
        wanted = self.wanted
        how = {"tasks": list(wanted.tasks), "limit": wanted.limit, "device": self.ranks.device.type}
        how["lm_eval"] = importlib.metadata.version("lm_eval")
        self.meter.begin(f"{self.files.name}: the tasks {', '.join(wanted.tasks)}", 1)
        path = result_path(self.files.name, "tasks", self.sha256, how)
        before = None if wanted.include_path else kept(path)
        is_known = self._is_known(before)  # asked by all ranks, also by those that have found none
        if before is not None and is_known:
            return before | {"model": self.files.name}
        started = time.monotonic()
        result = self._described("tasks") | {"complete": True, "asked": how, "tasks": self._of_harness()}
        result["seconds"] = time.monotonic() - started
        if self.ranks.is_first:
            _keep(path, result)
        return result

    def _is_known(self, before: dict[str, Any] | None) -> bool:
        """Whether every rank has found the result: what is computed, is computed by all."""
        return self.ranks.sum([float(before is not None)])[0] == self.ranks.world

    def _of_harness(self) -> dict[str, Any]:
        # Here, because the package is an optional extra and takes a second.
        from nanochat_core.evaluation.harness import run_tasks  # noqa: PLC0415

        found = run_tasks(
            *self._loaded_once(),
            self.wanted.tasks,
            include_path=self.wanted.include_path,
            limit=self.wanted.limit,
            is_chat=self.files.folder.parent.name != SOURCE_FOLDERS["base"],
            beat=self.meter.beat,
            ranks=self.ranks,
        )
        return {name: asdict(result) for name, result in found.items()}

    def _once(
        self, kind: str, file: Path, how: dict[str, Any], compute: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        """The result that is kept of this, or what `compute` makes of it, kept from then on. All ranks do the same."""
        asked = {"file": sha256_of(file), **how}
        path = result_path(self.files.name, kind, self.sha256, asked)
        before = kept(path)
        is_known = self._is_known(before)
        if before is not None and is_known:
            anew = judged(before, file) | {"model": self.files.name}  # a run may have been renamed since
            if anew != before and self.ranks.is_first:
                _keep(path, anew)
            return anew
        started = time.monotonic()
        result = self._described(kind, file) | {"complete": True} | compute()
        result["seconds"] = time.monotonic() - started
        if self.ranks.is_first:
            _keep(path, result)
        return result

    def _described(self, kind: str, file: Path | None = None) -> dict[str, Any]:
        of_file = {"file": str(file.resolve()), "file_sha256": sha256_of(file)} if file else {}
        return {
            "kind": kind,
            "model": self.files.name,
            "step": self.files.step,
            "model_sha256": self.sha256,
            **of_file,
            "made": now(),
        }
