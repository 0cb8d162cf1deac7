"""What a training will need, as the probe measured it. By itself, because the app shows it and never imports torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Needs:
    """What one process on one device will need. Times in seconds, memory in bytes."""

    seconds_per_step: float
    tokens_per_s: float
    peak_bytes: int
    """Peak memory of the process on its device, at a step of the longest conversations."""
    device_bytes: int
    """All the memory of that device."""
    device: str
    dtype: str
    parameters: int
    steps: int
    steps_per_epoch: int
    examples_train: int
    examples_validation: int
    tokens_per_epoch: int
    """Tokens through the model in an epoch, replayed ones included."""
    trained_tokens_per_epoch: int
    """Trained tokens of an epoch: those that the loss counts."""
    validations: int
    seconds_per_validation: float
    total_seconds: float
    """All steps and validations take so long, without loading and saving."""
    measured_steps: int
    notes: list[str]
    """What a person should know of the data, as sentences."""
