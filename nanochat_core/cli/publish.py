"""`publish`: put a model on the hub, once or checkpoint by checkpoint while it trains."""

from dataclasses import dataclass

import tyro

from nanochat_core.cli.terminal import parse, say
from nanochat_core.publish.following import publish_following
from nanochat_core.publish.publishing import publish


@dataclass(frozen=True)
class PublishCommand:
    """Put a model on the Hugging Face Hub, in a private repository unless you say --public.

    Log in first, with `hf auth login`. The training data stays here unless you say --with-data.
    """

    repo: tyro.conf.Positional[str]
    """The repository, such as your-name/my-model; it is made when there is none."""
    model: str
    """NAME of the model: finetuned/<run>, pretrained/<tag>, starter, or a folder."""
    public: bool = False
    """Everybody may see it."""
    with_data: bool = False
    """Publish the training data too."""
    step: int | None = None
    """Checkpoint step; without it the newest."""
    dtype: str | None = None
    """Of the files for transformers: float32 (the default) or bfloat16, which are half as large."""
    gguf: str | None = None
    """Publish a GGUF file too, for Ollama, LM Studio and llama.cpp: f32, bf16, q8_0, q5_0 or q4_0."""
    follow: bool = False
    """Publish each new checkpoint of a run that is training, until it is over."""
    every: float = 10.0
    """With --follow: minutes between two publications, at least."""


def run(arguments: list[str]) -> int:
    """Publish a model, or each new checkpoint of a run. Returns the exit status."""
    options = parse(PublishCommand, arguments, "publish")
    if not options.follow:
        published = publish(
            options.model,
            options.repo,
            options.public,
            options.with_data,
            options.step,
            dtype=options.dtype,
            gguf=options.gguf,
        )
        say(published.summary())
        return 0
    kind, _, tag = options.model.partition("/")
    if kind != "finetuned" or not tag or options.step is not None:
        raise ValueError(
            "--follow is for a run and its newest checkpoint: give --model finetuned/<run>, and no --step."
        )
    publish_following(
        tag, options.repo, options.public, options.with_data, options.every, options.dtype, gguf=options.gguf
    )
    return 0
