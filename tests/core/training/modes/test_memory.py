"""The memory of a process falls from mode to mode as the plan says."""

from dataclasses import replace

import pytest

from benchmarks.memory_modes import measured_peak, training_of
from benchmarks.workload import SHAPES
from nanochat_core.memory.parts import needs

pytestmark = pytest.mark.processes

SHAPE = replace(SHAPES["d4"], n_layer=10, n_embd=384, n_head=3, n_kv_head=3, vocab_size=16384)
"""30 million parameters: small, and yet more than a library's work space."""


def test_what_a_mode_saves_is_what_the_plan_says():
    """Differences, because every process has some work space of its libraries, about the same in all modes."""
    planned = {need.memory: need.card_bytes for need in needs(training_of(SHAPE, "bfloat16"))}
    peaks = {mode: measured_peak(SHAPE, "bfloat16", mode)[0] for mode in ("plain", "layerwise", "offloaded")}
    for more, less in (("plain", "layerwise"), ("layerwise", "offloaded")):
        saved = planned[more] - planned[less]
        assert peaks[more] - peaks[less] == pytest.approx(saved, rel=0.1), (more, less)
