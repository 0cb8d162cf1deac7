"""A whole training of twenty steps, and the same with other settings."""

from nanochat_core import FinetuneConfig
from tests.support.tiny import install_tiny_model, write_conversations


def short_training(home) -> FinetuneConfig:
    """Twenty steps on the tiny model, four an epoch, in fp32."""
    install_tiny_model(home)
    data = write_conversations(home / "data.jsonl", 35)
    return FinetuneConfig(
        str(data),
        model_tag="tiny",
        num_epochs=5,
        target_examples_per_step=8,
        init_lr_frac=1.0,
        eval_every=6,
        save_every=5,
        dtype="float32",
        output_tag="straight",
        split="tail",  # the losses of before
    )


def changed(config: FinetuneConfig, **changes) -> FinetuneConfig:
    """The same with other settings."""
    return FinetuneConfig.from_dict({**config.to_dict(), **changes})
