"""The chat template (Jinja) that renders messages to the text whose tokens are those of `render_conversation`.

What a person types stays text by itself, whatever the server's settings: the template puts HIDE between the two
characters with which every special token begins, and the tokenizer removes it again, but only after it has
looked for special tokens. Both marks are pairs of Unicode noncharacters, which no text is allowed to hold; the
template refuses one that does.

llama.cpp's tokenizer removes nothing. There it is the special tokens that have HIDE in their spelling, and what a
person types is left as it is.
"""

HIDE = "\ufdd0\ufdd1"
"""Removed from the text once special tokens have been found."""

CUT = "\ufdd2\ufdd3"
"""Removed, and the texts on its two sides are encoded separately."""

# Dashes on every tag: the result then does not depend on how a server sets Jinja's handling of blanks.
_TEMPLATE = """\
{%- macro plain(text) -%}
  {%- if text is not string -%}
    {{- raise_exception('The content of a message must be a text, or a list of parts with texts.') -}}
  {%- elif 'HIDE' in text or 'CUT' in text -%}
    {{- raise_exception('A message holds two Unicode noncharacters (U+FDD0 to U+FDD3) in a row: remove them.') -}}
  {%- endif -%}
  {{- text | replace('<|', '<HIDE|') -}}
{%- endmacro -%}

{%- macro joined(content) -%}
  {%- if content is string -%}
    {{- content -}}
  {%- elif not content or content is mapping or content is not sequence -%}
    {{- raise_exception('A message must have a text as its content.') -}}
  {%- else -%}
    {%- for part in content -%}
      {%- if part.type != 'text' or part.text is not string -%}
        {{- raise_exception('Messages of the user and the system may hold text only.') -}}
      {%- endif -%}
      {%- if not loop.first -%}
        {{- '\\n' -}}
      {%- endif -%}
      {{- part.text -}}
    {%- endfor -%}
  {%- endif -%}
{%- endmacro -%}

{%- if not messages -%}
  {{- raise_exception('A conversation must have at least one message.') -}}
{%- endif -%}
{%- set state = namespace(system='', turns=0, after_text=false, merged=[], both='') -%}
{%- for message in messages -%}
  {%- set content = message.content if message.role == 'assistant' else joined(message.content) -%}
  {%- set before = state.merged[-1] if state.merged else {'role': none} -%}
  {%- if before.role != message.role -%}
    {%- set state.merged = state.merged + [{'role': message.role, 'content': content}] -%}
  {%- else -%}
    {%- if before.content is string and content is string -%}
      {%- set gap = '\\n\\n' if before.content | trim and content | trim else '' -%}
      {%- set first = before.content if before.content | trim or not content | trim else '' -%}
      {%- set state.both = first ~ gap ~ (content if content | trim else '') -%}
    {%- else -%}
      {%- set first = [{'type': 'text', 'text': before.content}] if before.content is string else before.content -%}
      {%- set second = [{'type': 'text', 'text': content}] if content is string else content -%}
      {%- set gap = [{'type': 'text', 'text': '\\n\\n'}] if first and second else [] -%}
      {%- set state.both = first + gap + second -%}
    {%- endif -%}
    {%- set state.merged = state.merged[:-1] + [{'role': message.role, 'content': state.both}] -%}
  {%- endif -%}
{%- endfor -%}
{{- '<|bos|>' -}}
{%- for message in state.merged -%}
  {%- if message.role == 'system' and loop.first -%}
    {%- if loop.last -%}
      {{- raise_exception('After the system message a message of the user must follow.') -}}
    {%- endif -%}
    {%- set state.system = joined(message.content) ~ '\\n\\n' -%}
  {%- elif message.role != ('user', 'assistant')[state.turns % 2] -%}
    {{- raise_exception('After an optional first system message, user and assistant must alternate, user first.') -}}
  {%- elif message.role == 'user' -%}
    {{- '<|user_start|>' -}}
    {{- plain(state.system ~ joined(message.content)) -}}
    {{- '<|user_end|>' -}}
    {%- set state.system = '' -%}
    {%- set state.turns = state.turns + 1 -%}
  {%- elif not (loop.last and add_generation_prompt) -%}
    {{- '<|assistant_start|>' -}}
    {%- if message.content is string -%}
      {{- plain(message.content) -}}
    {%- elif message.content is undefined or message.content is mapping or message.content is not sequence -%}
      {{- raise_exception('A message must have a text as its content, or a list of parts.') -}}
    {%- else -%}
      {%- set state.after_text = false -%}
      {%- for part in message.content -%}
        {%- if part.type == 'text' -%}
          {%- if state.after_text -%}
            {{- 'CUT' -}}
          {%- endif -%}
          {{- plain(part.text) -}}
        {%- elif part.type == 'python' -%}
          {{- '<|python_start|>' -}}
          {{- plain(part.text) -}}
          {{- '<|python_end|>' -}}
        {%- elif part.type == 'python_output' -%}
          {{- '<|output_start|>' -}}
          {{- plain(part.text) -}}
          {{- '<|output_end|>' -}}
        {%- else -%}
          {{- raise_exception('The parts of a message must have the type text, python or python_output.') -}}
        {%- endif -%}
        {%- set state.after_text = part.type == 'text' -%}
      {%- endfor -%}
    {%- endif -%}
    {{- '<|assistant_end|>' -}}
    {%- set state.turns = state.turns + 1 -%}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- '<|assistant_start|>' -}}
{%- endif -%}
"""


def chat_template() -> str:
    """The template, with the marks in place. With add_generation_prompt a last message of the assistant is left out.

    Messages are those of `render_conversation`; user and system may also be lists of text parts, as servers send them,
    and neighbours of one role are joined, both by the rules of `tokenizer.messages`.
    """
    return _TEMPLATE.replace("HIDE", HIDE).replace("CUT", CUT)


def marked_special(token: str) -> str:
    """The spelling of a special token that no text can have."""
    return token.replace("<|", f"<{HIDE}|")


def marked_template() -> str:
    """The template for a tokenizer whose special tokens are spelled as `marked_special` says.

    Adjoining parts of text are encoded as one there: there is nothing that could part them.
    """
    template = _TEMPLATE.replace("""text | replace('<|', '<HIDE|')""", "text").replace("{{- 'CUT' -}}", "")
    return template.replace("'<|", "'<HIDE|").replace("HIDE", HIDE).replace("CUT", CUT)
