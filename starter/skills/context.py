"""Skills whose answer stands in the conversation itself: memory, reading, a given role, copying."""

from starter.draw import ANIMALS, COLOURS, JOBS, Draw, Wordings, glosses, listed, wordings
from starter.exchange import Exchange, one
from starter.skills.knowledge import knowledge
from starter.skills.stories import STORIES

# (what the person tells, what the model replies, later questions, the answer to those)
MEMORIES: dict[str, tuple[Wordings, str, Wordings, str]] = {
    "name": (
        wordings("""
My name is {v}.
I am {v}.
I'm {v}.
Hello, my name is {v}.
Hi, I am {v}.
Hi! I'm {v}.
Call me {v}.
You can call me {v}.
People call me {v}.
I am called {v}.
My name's {v}.
Hello! {v} is my name.
This is {v}.
Remember my name: {v}.
* Good day, my name is {v}.
* Hello, I'm {v}.
* Please call me {v}.
"""),
        "Nice to meet you, {v}!",
        wordings("""
What is my name?
What's my name?
Who am I?
Do you know my name?
Do you remember my name?
What am I called?
Can you tell me my name?
Say my name.
Tell me my name.
How am I called?
Which name did I tell you?
What did I say my name is?
* Do you still know my name?
* Please tell me my name.
* What was my name?
* Can you remember my name?
"""),
        "Your name is {v}.",
    ),
}


def _memory_of(what: str, telling: str, questions: str) -> None:
    """One more kind of thing to remember: `what` stands for the noun phrase, as in "My cat is called {v}"."""
    MEMORIES[what] = (wordings(telling), "I will remember that.", wordings(questions), f"Your {what} {{v}}.")


for (
    _relative
) in listed("brother sister mother father son daughter friend cat dog horse parrot rabbit teacher boss neighbour"):
    _memory_of(
        f"{_relative}'s name is",
        f"""
My {_relative} is called {{v}}.
My {_relative}'s name is {{v}}.
The name of my {_relative} is {{v}}.
I have a {_relative} called {{v}}.
I have a {_relative} named {{v}}.
{{v}} is the name of my {_relative}.
* My {_relative} has the name {{v}}.
* I've got a {_relative} called {{v}}.
""",
        f"""
What is my {_relative} called?
What is the name of my {_relative}?
What is my {_relative}'s name?
What's my {_relative}'s name?
Do you remember the name of my {_relative}?
How is my {_relative} called?
Who is my {_relative}?
Tell me my {_relative}'s name.
* Do you know my {_relative}'s name?
* Can you tell me the name of my {_relative}?
* What was my {_relative}'s name?
""",
    )
for _favourite in listed("colour food animal book drink song sport number word city"):
    _memory_of(
        f"favourite {_favourite} is",
        f"""
My favourite {_favourite} is {{v}}.
My favorite {_favourite} is {{v}}.
{{v}} is my favourite {_favourite}.
The {_favourite} I like most is {{v}}.
I like the {_favourite} {{v}} most.
My best {_favourite} is {{v}}.
* The {_favourite} that I like best is {{v}}.
* I think {{v}} is my favourite {_favourite}.
""",
        f"""
What is my favourite {_favourite}?
What's my favorite {_favourite}?
Which {_favourite} do I like most?
Do you remember my favourite {_favourite}?
Tell me my favourite {_favourite}.
Which {_favourite} is my favourite?
What {_favourite} do I like?
* What {_favourite} do I like best?
* Can you tell me my favourite {_favourite}?
* Do you know my favourite {_favourite}?
""",
    )
MEMORIES["town"] = (
    wordings("""
I live in {v}.
I am from {v}.
I come from {v}.
My home is in {v}.
My home town is {v}.
I'm from {v}.
* I'm living in {v}.
* My house is in {v}.
"""),
    "I will remember that.",
    wordings("""
Where do I live?
Where am I from?
Where is my home?
In which town do I live?
Which town do I live in?
What is my home town?
Do you remember where I live?
Where do I come from?
* Do you know where I live?
* Can you tell me where I live?
* In what town do I live?
"""),
    "You live in {v}.",
)
MEMORIES["job"] = (
    wordings("""
I am a {v}.
I work as a {v}.
My job is {v}.
I'm a {v} by trade.
I earn my money as a {v}.
* I have a job as a {v}.
* I am working as a {v}.
"""),
    "I will remember that.",
    wordings("""
What is my job?
What do I do?
What do I work as?
What is my work?
Do you remember my job?
What's my job?
As what do I work?
* Do you know my job?
* Can you tell me what my job is?
"""),
    "You work as a {v}.",
)
MEMORIES["age"] = (
    wordings("""
I am {v} years old.
I'm {v} years old.
My age is {v}.
I turned {v} this year.
* I am {v} years of age.
"""),
    "I will remember that.",
    wordings("""
How old am I?
What is my age?
Do you remember how old I am?
How many years old am I?
* Do you know how old I am?
* Can you tell me my age?
"""),
    "You are {v} years old.",
)
NOT_TOLD = "You have not told me that yet."


def _value(draw: Draw, what: str) -> str:
    if "colour" in what:
        return draw.choice(COLOURS)
    if "animal" in what:
        return draw.choice(ANIMALS)
    if "number" in what or what == "age":
        return str(draw.integer(8, 99))
    if what == "job":
        return draw.choice(JOBS)
    if "city" in what or what == "town":
        return draw.place()
    return draw.word() if "favourite" in what else draw.name()


def memory(draw: Draw) -> Exchange:
    """Something told, other talk (put in by the caller), then the question for it."""
    what = "name" if draw.chance(0.4) else draw.choice(list(MEMORIES))
    telling, reply, questions, answer = MEMORIES[what]
    if draw.chance(0.1):
        return one(draw.wording(questions), NOT_TOLD)
    value = _value(draw, what)
    opening = [(draw.wording(telling).format(v=value), reply.format(v=value))]
    if draw.chance(0.3):
        other = draw.choice([name for name in MEMORIES if name != what])
        more = _value(draw, other)
        opening.append((draw.wording(MEMORIES[other][0]).format(v=more), MEMORIES[other][1].format(v=more)))
    final = (draw.wording(questions), answer.format(v=value))
    return Exchange((final,), (final[1],), opening=tuple(opening))


LAYOUT = wordings(r"""
{text} {question}
{text}\n{question}
{text}\n\n{question}
Read this: {text} {question}
Text: {text}\nQuestion: {question}
{question} {text}
Here is a text. {text} {question}
{text} Question: {question}
Read the text and answer. {text} {question}
* Please read this. {text} {question}
* Text: {text} {question}
* {text} Now tell me: {question}
""")


def reading(draw: Draw) -> Exchange:
    """A short text and a question whose answer stands in it; now and then the text comes first, on its own."""
    text, questions = draw.choice(STORIES)(draw)
    draw.rng.shuffle(questions)
    asked = [(draw.wording(wording), answer) for wording, answer in questions]
    question, answer = asked[0]
    later = tuple(asked[1:2]) if draw.chance(0.3) else ()
    if draw.chance(0.2):
        told = (f"{text}", "I have read it.")
        return Exchange((told, asked[0], *later), (later[-1][1] if later else answer,))
    shape = draw.wording(LAYOUT).replace("\\n", "\n")
    first = (shape.format(text=text, question=question), answer)
    return Exchange((first, *later), (later[-1][1] if later else answer,))


ROLES = listed("helper assistant guide clerk receptionist waiter bot")
GIVEN_NAME = wordings("""
You are {n}, the {r} of {b}.
Your name is {n}. You are the {r} of {b}.
You are the {r} of {b} and your name is {n}.
You are called {n} and you work as the {r} of {b}.
You are {n}. You work as the {r} of {b}. Be polite.
* You are the {r} of {b}. You are called {n}.
* Your name is {n} and you are the {r} of {b}.
""")
ASK_NAME = wordings("""
Who are you?
What is your name?
What's your name?
Who am I talking to?
Tell me your name.
Please introduce yourself.
Hello, who are you?
What should I call you?
Introduce yourself.
What are you called?
* Can you tell me your name?
* Can you introduce yourself?
* And who are you?
""")
ASK_WORK = wordings("""
Where do you work?
What is your job?
What do you do?
For whom do you work?
What is your role?
Which place do you work for?
* Can you tell me where you work?
* What is your work?
""")
STYLES = (
    (wordings("""
End every answer with {w}.
End each reply with the word {w}.
Always say {w} at the end.
Put {w} at the end of every answer.
* Finish every answer with {w}.
* At the end of each answer, say {w}.
"""), "{answer} {W}!"),
    (wordings("""
Begin every answer with {w}.
Start each reply with the word {w}.
Always say {w} first.
Put {w} before every answer.
* Open every answer with {w}.
* At the start of each answer, say {w}.
"""), "{W}! {answer}"),
    (wordings("""
Call the user {n}.
The user is called {n}. Use the name.
Address the user as {n}.
Always call the user {n}.
* Speak to the user as {n}.
"""), "{n}, {lower}"),
)  # fmt: skip


def persona(draw: Draw) -> Exchange:
    """A system message that gives facts, a name and a job, or a manner of answering."""
    n, b, r = draw.name(), draw.business(), draw.choice(ROLES)
    if draw.chance(0.25):
        text, questions = draw.choice(STORIES)(draw)
        turns = tuple(
            (draw.wording(wording), answer) for wording, answer in draw.sample(questions, draw.choice((1, 2)))
        )
        return Exchange(turns, (turns[-1][1],), system=text)
    if draw.chance(0.5):
        system = draw.wording(GIVEN_NAME).format(n=n, b=b, r=r)
        who = (draw.wording(ASK_NAME), f"I am {n}, the {r} of {b}.")
        work = (draw.wording(ASK_WORK), f"I work as the {r} of {b}.")
        turns = draw.choice(((who,), (work,), (who, work), (work, who)))
        return Exchange(turns, (turns[-1][1],), system=system)
    style, shape = draw.choice(STYLES)
    w = draw.word()
    turns = []
    for _ in range(draw.choice((1, 1, 2))):
        question, answer = knowledge(draw).turns[0]
        lower = answer[0].lower() + answer[1:]
        turns.append((question, shape.format(answer=answer, W=w.capitalize(), n=n, lower=lower)))
    return Exchange(tuple(turns), (turns[-1][1],), system=draw.wording(style).format(w=w, n=n), alone=True)


REPEAT = wordings("""
Repeat: {x}
Repeat after me: {x}
Say: {x}
Copy this: {x}
Please repeat this: {x}
Write this down: {x}
Repeat the words: {x}
Echo: {x}
Type this: {x}
Say this again: {x}
* Please copy this: {x}
* Say after me: {x}
* Write: {x}
""")
TIMES = wordings("""
Say {x} {n} times.
Repeat {x} {n} times.
Write {x} {n} times.
Write the word {x} {n} times.
Repeat the word {x} {n} times.
* Please say {x} {n} times.
* Say the word {x} {n} times.
""")
ORDERED = {
    "first": wordings("""
What is the first word of: {x}
Which word comes first in: {x}
The first word of this, please: {x}
Give me only the first word: {x}
* Tell me the first word of: {x}
"""),
    "last": wordings("""
What is the last word of: {x}
Which word comes last in: {x}
The last word of this, please: {x}
Give me only the last word: {x}
* Tell me the last word of: {x}
"""),
    "reversed": wordings("""
Reverse the order of these words: {x}
Say these words backwards: {x}
Turn this list around: {x}
Give me these words in reverse order: {x}
* Write these words in reverse order: {x}
"""),
    "commas": wordings("""
Put commas between these words: {x}
Write these words with commas: {x}
Separate these words by commas: {x}
* Put a comma between these words: {x}
"""),
}
MEANING = wordings("""
{w}: {g}. What does {w} mean?
The word {w} means: {g}. What does {w} mean?
{w} means {g}. What is the meaning of {w}?
Here is an entry of a dictionary. {w}: {g}. Explain the word {w}.
* Dictionary: {w}, {g}. What does {w} mean?
""")


def copying(draw: Draw) -> Exchange:
    form = draw.rng.random()
    if form < 0.2:
        word, text = draw.choice(glosses())
        if draw.new_content:
            word = draw.word()
        return one(draw.wording(MEANING).format(w=word, g=text), f"The word {word} means: {text}.")
    if form < 0.35:
        word, count = draw.word(), draw.choice((("two", 2), ("three", 3), ("four", 4)))
        number = count[0] if draw.chance(0.7) else str(count[1])
        return one(draw.wording(TIMES).format(x=word, n=number), " ".join([word] * count[1]))
    if form < 0.65:
        order = draw.choice(list(ORDERED))
        words = draw.words(draw.integer(3, 5) if order != "reversed" else 3)
        answer = {"first": words[0], "last": words[-1], "reversed": " ".join(words[::-1]), "commas": ", ".join(words)}
        return one(draw.wording(ORDERED[order]).format(x=" ".join(words)), answer[order])
    text = " ".join(draw.words(draw.integer(1, 6)))
    if draw.chance(0.4):
        text = draw.choice(glosses())[1]
    if draw.chance(0.3):
        text = (
            f"{draw.name()} {draw.choice('likes sees knows calls helps meets'.split())} {draw.name()} in {draw.place()}"
        )
    return one(draw.wording(REPEAT).format(x=text), text)
