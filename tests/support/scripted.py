"""Models whose replies a script decides, and prompts and conversations for them."""

from nanochat_core.engine.engine import Engine
from tests.support.tiny import tiny_model, tiny_tokenizer

TOKENIZER = tiny_tokenizer()
NAMES = ("assistant_end", "python_start", "python_end", "output_start", "output_end")
ASSISTANT_END, PYTHON, PYTHON_END, OUTPUT, OUTPUT_END = (TOKENIZER.special(f"<|{name}|>") for name in NAMES)
HI = [{"role": "user", "content": "Hi"}]


class Scripted:
    """The real model, run in full; after some histories the script makes one token certain."""

    def __init__(self, model, script):
        self.model, self.script = model, script
        self.tokens_run = 0

    def __getattr__(self, name):
        return getattr(self.model, name)

    def __call__(self, ids, *, lengths=None, cache=None):
        logits = self.model(ids, lengths=lengths, cache=cache).clone()
        self.tokens_run += ids.numel()
        for row in range(len(ids)):
            history = ids[row].tolist() if cache is None else cache.ids[row, : cache.lengths[row]].tolist()
            token = self.script(history)
            if token is not None:
                logits[row, -1, token] = 1000.0
        return logits


def reply_so_far(history):
    """(length of the prompt, tokens after its last <|assistant_start|>)."""
    start = len(history) - history[::-1].index(TOKENIZER.special("<|assistant_start|>"))
    return start, history[start:]


def says(*tokens, then=ASSISTANT_END):
    """A script: the reply is these tokens, whatever the tool puts between them."""

    def script(history):
        _, said = reply_so_far(history)
        own, inside = [], False
        for token in said:
            inside = inside or token == OUTPUT
            if not inside:
                own.append(token)
            inside = inside and token != OUTPUT_END
        return tokens[len(own)] if len(own) < len(tokens) else then

    return script


def says_at_each_place(*tokens):
    """A script: the reply has these tokens at these places; where the tool forces one, the script is not asked."""

    def script(history):
        _, said = reply_so_far(history)
        return tokens[len(said)] if len(said) < len(tokens) else ASSISTANT_END

    return script


def calls_the_tool(history):
    """A script: some words, a call that depends on the prompt, what the model likes, and the end after a while."""
    length, said = reply_so_far(history)
    begin = 2 + length % 5
    expression = [PYTHON, *TOKENIZER.encode(f"{length}*(3+4)" if length % 3 else f"{length}**2"), PYTHON_END]
    if len(said) < begin:
        return TOKENIZER.encode("ok")[0]
    if len(said) < begin + len(expression):
        return expression[len(said) - begin]
    return ASSISTANT_END if len(said) >= 20 + length % 13 else None


def scripted_engine(script, **changes):
    """A tiny model that follows the script, and the tokenizer."""
    return Engine(Scripted(tiny_model(**changes), script), TOKENIZER)


def prompts(count):
    """Prompts of 5 to 138 tokens."""
    words = ["the", "water", "of", "many", "people", "may", "find", "oil", "now"]
    questions = [" ".join((words * 6)[: 1 + 20 * i % 53]) for i in range(count)]
    return [TOKENIZER.render_prompt([{"role": "user", "content": question}]) for question in questions]


def chat(turns, system=None):
    """A conversation of so many answered questions and one that is not."""
    messages = [{"role": "system", "content": system}] if system else []
    for number in range(turns):
        messages += [{"role": "user", "content": f"{number} is the number"}, {"role": "assistant", "content": "ok"}]
    return [*messages, {"role": "user", "content": "and now?"}]
