"""The README's figures of memory are the plan's."""

from nanochat_core.memory.readme import CARDS, DEPTHS, memory_table, plain_d32, saving_d32
from nanochat_core.paths import PROJECT_ROOT

README = (PROJECT_ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readme_has_the_plan_s_table():
    assert memory_table() in README, "run memory_table() and put it into README.md"
    assert f"needs {plain_d32()} (planned)" in README
    saving = [saving_d32(memory) for memory in ("layerwise", "offloaded", "offloaded_all")]
    assert "saved, d32 takes {} of the host's memory, with `offloaded` {}, with `offloaded_all` {} (planned)".format(
        *saving
    ) in " ".join(README.split())


def test_every_cell_says_mode_tokens_and_memory_and_that_it_is_planned():
    rows = memory_table().splitlines()[2:]
    cells = [cell.strip() for row in rows for cell in row.strip("|").split("|")[1:]]
    assert len(cells) == len(CARDS) * len(DEPTHS)
    assert all(cell.endswith(", planned") for cell in cells)
    assert sum("tokens, " in cell and "GiB" in cell for cell in cells) >= len(cells) - 1


def test_the_section_begins_with_its_claim():
    section = README.split("## Memory and learning rates")[1]
    assert "**The same result on every card.**" in section
    assert "58 GB" not in README
