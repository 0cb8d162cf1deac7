"""The one list of finetuning settings: command line, form, config.json and the README's table all come from it."""

import ast
import dataclasses
import inspect
import itertools
import json
import math
import textwrap
from dataclasses import dataclass
from functools import cache
from typing import Any, get_args

from nanochat_core.paths import SOURCE_FOLDERS, default_model, find_file, shipped, starter_dir
from nanochat_core.system.folder_names import check_tag

_MOST = {
    "num_epochs": 1_000_000,
    "num_iterations": 1_000_000_000,
    "device_batch_size": 1 << 16,
    "target_examples_per_step": 1 << 24,
    "matrix_lr": 1_000_000_000,
    "embedding_lr": 1_000_000_000,
    "unembedding_lr": 1_000_000_000,
    "weight_decay": 1_000_000,
    "lora_rank": 4096,
    "lora_alpha": 1 << 20,
    "lora_lr": 1_000_000_000,
    "eval_every": 1_000_000_000,
    "early_stop": 1_000_000_000,
    "eval_steps": 1_000_000_000,
    "save_every": 1_000_000_000,
    "max_seq_len": 1 << 20,
    "seed": 2**63 - 1,
    "replay_ratio": 1000,
}
"""Above every sensible value, and below what would overflow a counter or fill the memory before a word is said."""

PATH_SETTINGS = ("data_path", "replay_path", "questions_path")
"""Settings that say where a file lies."""

LORA_TARGETS = {
    "c_q": ("attn.c_q",),
    "c_k": ("attn.c_k",),
    "c_v": ("attn.c_v",),
    "c_proj": ("attn.c_proj", "mlp.c_proj"),
    "c_fc": ("mlp.c_fc",),
    "attn": ("attn.c_q", "attn.c_k", "attn.c_v", "attn.c_proj"),
    "mlp": ("mlp.c_fc", "mlp.c_proj"),
}
"""What a person may write in `lora_targets`, and the matrices of a block that it means."""


ONLY_WITH = {
    "full": ("init_lr_frac", "matrix_lr", "embedding_lr", "unembedding_lr"),
    "lora": ("lora_lr", "lora_rank", "lora_alpha", "lora_targets"),
}
"""Settings that one method has and the other has not."""

MEMORY_MODES = ("plain", "checkpointed", "layerwise", "offloaded", "offloaded_all")
"""In the order of their speed, and of how much memory of the device they take; all with the same result."""


@dataclass(frozen=True)
class FinetuneConfig:
    """Settings of one finetuning run. Frozen; a value that cannot work is refused with its remedy."""

    data_path: str
    """Conversations to train on: a JSONL file, one conversation a line (see data/README.md)."""
    source: str = "sft"
    """Stage of the downloaded base model: base, mid, sft or rl."""
    model_tag: str = "d32"
    """Base model: the tag of a downloaded one (d32), or starter for the shipped practice model."""
    model_step: int | None = None
    """Checkpoint step of the base model; None takes the newest."""
    from_finetuned: str | None = None
    """Start from this finished run instead of a downloaded model; overrides source and model_tag."""
    method: str = "full"
    """full trains every weight; lora trains small matrices beside those of a frozen base: less memory and disk."""
    lora_rank: int = 16
    """LoRA: rank of the small matrices; higher ones can learn more."""
    lora_alpha: int = 32
    """LoRA: their product is added times lora_alpha / lora_rank."""
    lora_targets: str = "attn,mlp"
    """LoRA: which matrices of every block get them: attn, mlp, or c_q, c_k, c_v, c_proj, c_fc, with commas between."""
    lora_lr: float = 5e-4
    """LoRA: learning rate of AdamW at the first step; it falls linearly to zero at the last."""
    num_epochs: int = 1
    """How many times each training conversation is seen."""
    num_iterations: int = -1
    """Number of optimizer steps; -1 derives it from num_epochs."""
    device_batch_size: int = 4
    """Conversations in one forward pass on one device; lower it when memory runs out, the result stays the same."""
    memory: str = "auto"
    """On the device: plain (all), checkpointed, layerwise, offloaded, offloaded_all (least); auto: what fits."""
    fixed_sums: bool = False
    """Add gradients up in one order whatever the number of processes (1 to 8): the same bits, a little slower."""
    target_examples_per_step: int = 16
    """Conversations behind one optimizer step, over all devices and micro-batches."""
    matrix_lr: float = 0.01
    """Learning rate of Muon, for the matrices inside the blocks."""
    embedding_lr: float = 0.1
    """Learning rate of AdamW for the token embeddings, scaled by (n_embd/768)^-0.5."""
    unembedding_lr: float = 0.002
    """Learning rate of AdamW for the output head, scaled by (n_embd/768)^-0.5."""
    weight_decay: float = 0.0
    """Weight decay of AdamW (Muon's matrices have none)."""
    init_lr_frac: float = 0.1
    """Every learning rate of full training starts at this fraction and falls linearly to zero at the last step."""
    eval_every: int = 50
    """Optimizer steps between two validations, beside one before and one after all; -1: a tenth of the run, or 50."""
    eval_steps: int = 20
    """Size of a validation in optimizer steps' worth of conversations; a smaller validation split is used whole."""
    val_split: float = 0.1
    """Fraction of the file that is kept for validation and never trained on."""
    split: str = "spread"
    """Which conversations those are: spread over the whole file by the seed, or its tail (as runs of before had it)."""
    output_tag: str = "finetuned"
    """Name of the run: everything it makes lies in models/finetuned/<output_tag>/."""
    save_every: int = -1
    """Steps between checkpoints; -1 keeps the best and the last."""
    device_type: str = "auto"
    """cuda, mps, cpu, or auto for the best one present."""
    dtype: str = "bfloat16"
    """Precision of the computation: bfloat16 (float32 where the device is slower with it) or float32."""
    max_seq_len: int = 2048
    """Longest conversation in tokens; the rest of a longer one is cut off, and said."""
    seed: int = 42
    """Seed of the order of the conversations, and of which of them validate."""
    replay_path: str | None = None
    """General conversations mixed in so that old skills stay: a JSONL file in the same format."""
    replay_ratio: float = 0.0
    """Replayed conversations for each conversation of your own, in every epoch; 0 is off."""
    learn_from_corrections: bool = False
    """Where a rejected answer stands beside an answer, learn to prefer the latter (DPO), besides learning to say it."""
    questions_path: str | None = None
    """Questions with expected answers, asked before and after the training (JSONL: question, expected)."""
    best_by: str = "loss"
    """What makes a checkpoint the best: loss of the validation, or questions of questions_path, asked at each one."""
    early_stop: int = 0
    """End the run after so many validations in a row without a better checkpoint; 0 trains to the last step."""
    resume: bool = False
    """Resume the stopped or interrupted run of this output_tag, exactly where its last checkpoint is."""

    def __post_init__(self) -> None:
        self._check_types()
        check_tag(self.output_tag)
        self._check_upper_bounds()
        _require(bool(self.data_path), "data_path is empty", "give the JSONL file to train on")
        _require(self.source in SOURCE_FOLDERS, f"source is '{self.source}'", f"use one of {', '.join(SOURCE_FOLDERS)}")
        _require(self.device_type in ("auto", "cuda", "mps", "cpu"), f"device_type is '{self.device_type}'", "use auto")
        _require(self.dtype in ("bfloat16", "float32"), f"dtype is '{self.dtype}'", "use bfloat16 or float32")
        _require(self.method in ("full", "lora"), f"method is '{self.method}'", "use full or lora")
        known = ", ".join(LORA_TARGETS)
        _require(bool(self.lora_modules), f"lora_targets is '{self.lora_targets}'", f"name some of {known}")
        for name in ("num_epochs", "device_batch_size", "target_examples_per_step", "eval_steps"):
            _require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}", "it must be at least 1")
        modes = ", ".join(MEMORY_MODES)
        _require(self.memory in ("auto", *MEMORY_MODES), f"memory is '{self.memory}'", f"use auto or one of {modes}")
        for name in ("lora_rank", "lora_alpha"):
            _require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}", "it must be at least 1")
        for name in ("num_iterations", "eval_every", "save_every"):
            value = getattr(self, name)
            _require(value >= 1 or value == -1, f"{name} is {value}", "it must be at least 1, or -1")
        for name in ("matrix_lr", "embedding_lr", "unembedding_lr", "lora_lr", "weight_decay", "replay_ratio"):
            value = getattr(self, name)
            _require(math.isfinite(value) and value >= 0, f"{name} is {value}", "it must be a number of 0 or more")
        _require(0 < self.init_lr_frac <= 1, f"init_lr_frac is {self.init_lr_frac}", "it must be above 0 and at most 1")
        _require(0 < self.val_split < 1, f"val_split is {self.val_split}", "it must lie between 0 and 1, such as 0.1")
        _require(self.split in ("spread", "tail"), f"split is '{self.split}'", "use spread or tail")
        self._check_best()
        _require(self.max_seq_len >= 8, f"max_seq_len is {self.max_seq_len}", "it must be at least 8 tokens")
        _require(self.seed >= 0, f"seed is {self.seed}", "it must be 0 or more")
        _require(
            self.replay_ratio == 0 or self.replay_path is not None,
            f"replay_ratio is {self.replay_ratio} without a replay_path",
            "give replay_path, the JSONL file of general conversations, or set replay_ratio to 0",
        )

    def _check_best(self) -> None:
        _require(self.best_by in ("loss", "questions"), f"best_by is '{self.best_by}'", "use loss or questions")
        _require(
            self.best_by == "loss" or self.questions_path is not None,
            "best_by is 'questions' without a questions_path",
            "give questions_path, the JSONL file of questions, or set best_by to loss",
        )
        _require(self.early_stop >= 0, f"early_stop is {self.early_stop}", "it must be 0 or more validations")

    def _check_upper_bounds(self) -> None:
        for name, most in _MOST.items():
            value = getattr(self, name)
            _require(not value > most, f"{name} is {value!r:.40}", f"it must be at most {most:,}")  # NaN is told below

    def _check_types(self) -> None:
        """A config.json edited by hand may hold "4" for 4; an int is welcome where a float is meant."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            known: dict[Any, tuple[type, ...]] = {bool: (bool,), int: (int,), float: (int, float), str: (str,)}
            accepted = known.get(field.type)
            if accepted is None:  # the optional ones
                accepted = (type(None), int if field.type == int | None else str)
            is_right = isinstance(value, accepted) and (bool in accepted or not isinstance(value, bool))
            _require(is_right, f"{field.name} is {value!r}", f"its type must be {_type_name(field.type)}")

    @property
    def base_name(self) -> str:
        """NAME of the base model: `starter`, `pretrained/<tag>` or `finetuned/<run>`."""
        if self.from_finetuned is not None:
            return f"finetuned/{self.from_finetuned}"
        return "starter" if self.model_tag == "starter" else f"pretrained/{self.model_tag}"

    @property
    def lora_modules(self) -> tuple[str, ...]:
        """The matrices of a block that lora_targets means, such as attn.c_q; empty when it names what there is not."""
        names = [name.strip() for name in self.lora_targets.split(",")]
        if not all(name in LORA_TARGETS for name in names):
            return ()
        return tuple(dict.fromkeys(module for name in names for module in LORA_TARGETS[name]))

    @property
    def base_source(self) -> str | None:
        """The stage of a downloaded base model; None for the others, which have only one."""
        return self.source if self.base_name.startswith("pretrained/") else None

    def with_absolute_paths(self) -> "FinetuneConfig":
        """The same settings, valid from any working folder."""
        values = {name: getattr(self, name) for name in PATH_SETTINGS}
        paths: dict[str, Any] = {name: str(find_file(path).resolve()) for name, path in values.items() if path}
        return dataclasses.replace(self, **paths)

    def to_dict(self) -> dict[str, Any]:
        """Plain values by name, for config.json."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "FinetuneConfig":
        """The reverse of `to_dict`. An unknown name is a ValueError: a misspelt setting must not be ignored."""
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ValueError(f"There is no setting {', '.join(unknown)}: remove it or correct its spelling.")
        _require("data_path" in values, "data_path is missing", "give the JSONL file to train on")
        return cls(**values)


def starter_preset() -> dict[str, Any]:
    """The settings that suit the shipped practice model, by FinetuneConfig's names."""
    preset: dict[str, Any] = json.loads((starter_dir() / "preset.json").read_text(encoding="utf-8"))
    if preset.get("replay_path"):
        preset["replay_path"] = str(shipped(preset["replay_path"]))
    return preset


def default_max_seq_len() -> int:
    """The longest conversation of a run that names no model: of d32, or of the starter where d32 is not there."""
    try:
        preset = starter_preset() if default_model() == "starter" else {}
    except OSError:  # an installation without the starter: then nothing is counted either
        preset = {}
    return int(preset.get("max_seq_len", FinetuneConfig.max_seq_len))


@dataclass(frozen=True)
class Setting:
    """One setting as a form or a table shows it."""

    name: str
    kind: type
    """int, float, bool or str."""
    is_optional: bool
    """None is a value, too: not given."""
    default: Any
    help: str


@cache
def settings() -> tuple[Setting, ...]:
    """All settings of FinetuneConfig in order; the help is the sentence under each field."""
    helps = _field_docstrings(FinetuneConfig)
    return tuple(
        Setting(
            field.name,
            *_kind(field.type),
            None if field.default is dataclasses.MISSING else field.default,
            helps[field.name],
        )
        for field in dataclasses.fields(FinetuneConfig)
    )


def _kind(annotation: Any) -> tuple[type, bool]:
    """(kind, whether None is a value) of a field of FinetuneConfig."""
    kinds = get_args(annotation) or (annotation,)
    return kinds[0], type(None) in kinds


def settings_table() -> str:
    """The README's table of settings (a test holds the README to it)."""
    rows = ["| setting | default | what it does |", "|---|---|---|"]
    for setting in settings():
        default = "required" if setting.name == "data_path" else f"`{setting.default}`"
        rows.append(f"| `{setting.name}` | {default} | {setting.help} |")
    return "\n".join(rows)


def _field_docstrings(cls: type) -> dict[str, str]:
    """The string literal below each annotated field. Python drops them at run time, so they are read in the source."""
    definition = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(definition, ast.ClassDef)
    return {
        field.target.id: str(text.value.value)
        for field, text in itertools.pairwise(definition.body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
    }


def _type_name(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)


def _require(condition: bool, what: str, remedy: str) -> None:
    if not condition:
        raise ValueError(f"Setting {what}: {remedy}.")
