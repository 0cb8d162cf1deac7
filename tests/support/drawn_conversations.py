"""Valid conversations of any texts and parts, drawn by hypothesis."""

from hypothesis import strategies as st

from nanochat_core.system.words import SEEN
from tests.support.samples import assistant, conversation, system, user

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SAID = TEXT.filter(SEEN.search)
"""An answer that says something."""
PARTS = st.lists(
    st.fixed_dictionaries({"type": st.sampled_from(["text", "python", "python_output"]), "text": TEXT}),
    min_size=1,
    max_size=3,
).filter(lambda parts: any(SEEN.search(part["text"]) for part in parts))


@st.composite
def conversations(draw):
    """One conversation: perhaps a system message, and one to three questions with their replies."""
    messages = [system(draw(TEXT))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        messages += [user(draw(TEXT)), assistant(draw(SAID | PARTS))]
    return conversation(*messages)
