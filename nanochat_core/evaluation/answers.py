"""Asking a model questions with known answers: greedy replies in batches, then judged by each question's rules."""

from collections.abc import Callable, Sequence

from nanochat_core.engine.engine import Engine
from nanochat_core.engine.reply import Reply, Text
from nanochat_core.evaluation.questions import Question
from nanochat_core.evaluation.scores import EvalResult, grade
from nanochat_core.model.gpt import GPT
from nanochat_core.tokenizer.tokenizer import Tokenizer

SILENCE = "..."
"""What stands in a talk of several turns for a reply without a word, since a turn cannot be empty."""

Heard = Callable[[int, str], None]
"""Told each question's place and its reply, when there is one."""


def evaluate(model: GPT, tokenizer: Tokenizer, questions: Sequence[Question], max_tokens: int = 64) -> EvalResult:
    """Ask every question and compare the greedy replies of at most `max_tokens` tokens, tool calls included.

    Raises ValueError for a question that is longer than the model's context.
    """
    return grade(questions, ask(model, tokenizer, questions, max_tokens))


def ask(  # noqa: PLR0913  all but the first three are options
    model: GPT,
    tokenizer: Tokenizer,
    questions: Sequence[Question],
    max_tokens: int = 64,
    heard: Heard = lambda place, reply: None,
    beat: Callable[[], None] = lambda: None,
    numbers: Sequence[int] = (),
) -> list[str]:
    """The last reply to each question, in order. Those of like length are asked together.

    heard: is told each reply when it is there. beat: is called after each token of a batch; what it raises ends the
    asking. numbers: what the questions are called, where they are some of a file. ValueError for a question that is
    longer than the model's context.
    """
    called = numbers or range(1, len(questions) + 1)
    engine = Engine(model, tokenizer)
    talks = [list(question.messages) for question in questions]
    replies = [""] * len(questions)
    waiting, turn = list(range(len(questions))), 0
    while waiting:
        prompts = [_prompt(engine, talks[place], called[place]) for place in waiting]

        def finished(row: int, ids: list[int], waiting: list[int] = waiting, turn: int = turn) -> None:
            place = waiting[row]
            replies[place] = visible_text(ids, tokenizer)
            if turn == len(questions[place].turns):
                heard(place, replies[place])

        engine.generate_batch(prompts, max_tokens, temperature=0.0, finished=finished, beat=beat)
        waiting = [place for place in waiting if turn < len(questions[place].turns)]
        for place in waiting:
            said = {"role": "assistant", "content": replies[place] if replies[place].strip() else SILENCE}
            talks[place] += [said, {"role": "user", "content": questions[place].turns[turn]}]
        turn += 1
    return replies


def _prompt(engine: Engine, talk: list[dict[str, object]], number: int) -> list[int]:
    try:
        ids = engine.tokenizer.render_prompt(talk)
    except ValueError as error:
        raise ValueError(f"Question {number} cannot be asked. {error}") from error
    if len(ids) >= engine.context:
        raise ValueError(
            f"Question {number} has {len(ids):,} tokens; the model reads at most {engine.context:,}, its reply "
            "included. Shorten the question."
        )
    return ids


def visible_text(ids: Sequence[int], tokenizer: Tokenizer) -> str:
    """What a person sees of a generated reply: no tool calls, no tool outputs."""
    reply = Reply(tokenizer)
    events = [event for token in ids for event in reply.add(token)] + reply.finish()
    return "".join(event.text for event in events if isinstance(event, Text))
