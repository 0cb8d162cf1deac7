"""What a model writes is shown as Markdown in the chat; none of it becomes HTML and nothing is fetched."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from studio.chat_tab.markdown import as_markdown, code_block

MARKDOWN = MarkdownIt("commonmark", {"html": True, "breaks": True})


def kinds(text: str) -> set[str]:
    return {child.type for token in MARKDOWN.parse(text) for child in [token, *(token.children or [])]}


@pytest.mark.parametrize(
    "text",
    [
        "<img src=x onerror=alert(1)>",
        "<script>alert(1)</script>",
        "a\n\n<div onclick=x>\nb",
        "![picture](http://somewhere/x.png)",
        "![picture][1]\n\n[1]: http://somewhere/x.png",
        "\\<b> \\\\<b> \\![a](b)",
        "`a` <b>`",
        "\\`<b>`",
        "``<b>`",
        "```<b>```",
        "~~~\n```\n~~~\n<b>",
        "````\n```\n<b>\n````\n<i>",
        "```a`b\n<b>",
        "1. ```\n<b>",
        "1. ```\n   ```\n<b>",
        "  ```\n```\n<b>",
        "`a\nb` <b> `",
        "a\r<b>\x0b<i>\u2028<s>",
        "&lt;b&gt; &amp;",
        "<http://somewhere> <!-- x --> <?php x ?> <![CDATA[x]]>",
    ],
)
def test_nothing_is_html_and_nothing_is_fetched(text):
    assert not kinds(as_markdown(text)) & {"html_inline", "html_block", "image"}


@settings(max_examples=400, deadline=None)
@given(st.text(alphabet="`~<>&;![]()\\\"'=/ \n*_-#1.ab:", max_size=60))
@example("`\\`<a>`")
def test_whatever_is_written(text):
    assert not kinds(as_markdown(text)) & {"html_inline", "html_block", "image"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a < b & c &lt; d", "<p>a &lt; b &amp; c &amp;lt; d</p>"),
        ("`<b>` and **bold**", "<p><code>&lt;b&gt;</code> and <strong>bold</strong></p>"),
        ("```html\n<b>&\n```", '<pre><code class="language-html">&lt;b&gt;&amp;\n</code></pre>'),
        ("```mermaid\ngraph", "<pre><code>graph\n</code></pre>"),
        ("![a](b)", "<p>![a](b)</p>"),
        ("- one\n- two", "<ul>\n<li>one</li>\n<li>two</li>\n</ul>"),
    ],
)
def test_text_is_shown_as_it_is(text, shown):
    assert MARKDOWN.render(as_markdown(text)).strip() == shown


@given(st.text(alphabet="`a\n<", max_size=20))
def test_a_block_of_code_holds_any_text(text):
    [token] = [token for token in MARKDOWN.parse(code_block(text)) if token.type == "fence"]
    assert token.content == text + "\n"
