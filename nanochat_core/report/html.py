"""A report as one HTML file: no script, nothing fetched, readable on light and dark screens and on paper."""

from html import escape

from nanochat_core.report.blocks import Block, Chart, Code, Document, Heading, Table, Text
from nanochat_core.show.palette import COLOURS
from nanochat_core.show.svg import loss_chart

_DARK = ("#818cf8", "#fbbf24", "#34d399", "#f472b6", "#38bdf8", "#a78bfa", "#a3e635", "#f87171")

_STYLE = """
:root { color-scheme: light dark; --text: #1f2430; --soft: #667085; --line: #d6dae2; --ground: #fff; --shade: #f5f6f9;
  --good: #0f7b4f; --bad: #b42318; COLOURS }
@media (prefers-color-scheme: dark) { :root { --text: #e6e8ee; --soft: #9aa3b5; --line: #3a4152; --ground: #12151c;
  --shade: #1b1f29; --good: #4cc38a; --bad: #f97066; DARK } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 32px 20px 64px; max-width: 60rem; background: var(--ground); color: var(--text);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 2px; } h2 { font-size: 1.15rem; margin: 2.2em 0 .5em; padding-bottom: 4px;
  border-bottom: 1px solid var(--line); }
p { margin: .45em 0; } .made { color: var(--soft); margin: 0; }
.verdict { border-left: 4px solid var(--line); padding: 2px 0 2px 12px; }
.verdict.good { border-color: var(--good); } .verdict.bad { border-color: var(--bad); }
.scroll { overflow-x: auto; margin: .8em 0; }
table { border-collapse: collapse; width: 100%; font-size: .93rem; }
th, td { text-align: left; vertical-align: top; padding: 5px 14px 5px 0; border-bottom: 1px solid var(--line);
  white-space: pre-wrap; overflow-wrap: anywhere; } th { color: var(--soft); font-weight: 600; }
td:first-child { min-width: 9em; }
summary { cursor: pointer; padding: 4px 0; } pre { background: var(--shade); padding: 12px 14px; border-radius: 6px;
  white-space: pre-wrap; overflow-wrap: anywhere; font-size: .88rem; }
.chart svg { width: 100%; height: auto; display: block; } .chart svg.narrow { display: none; }
.chart text { font: 11px system-ui, sans-serif; fill: var(--soft); }
.chart .axis, .chart .grid { stroke: var(--line); stroke-width: 1; fill: none; } .chart .grid { stroke-width: .6; }
.chart .line { fill: none; stroke-width: 1.8; stroke-linejoin: round; } .chart .faint { opacity: .32; stroke-width: 1; }
.chart .dashed { stroke-dasharray: 5 3; } .chart .best { stroke: var(--ground); stroke-width: 1.5; }
.chart .slice { fill: transparent; } .chart .slice:hover { fill: var(--text); opacity: .07; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 16px; font-size: 12px; color: var(--soft); }
.legend i { display: inline-block; width: 16px; border-top: 2px solid; margin-right: 6px; vertical-align: middle; }
.legend i.faint { opacity: .4; } .legend i.dashed { border-top-style: dashed; }
@media (max-width: 700px) { .chart svg.wide { display: none; } .chart svg.narrow { display: block; }
  .chart text { font-size: 19px; } }
@media print { body { max-width: none; padding: 0; } .scroll { overflow: visible; } h2 { break-after: avoid; }
  tr, .chart { break-inside: avoid; } }
"""


def to_html(document: Document) -> str:
    """The file's text."""
    body = "\n".join(_block(block) for block in document.blocks)
    title = escape(document.title)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<style>{_style()}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n"
        f'<p class="made">Report of {escape(document.made)}, by nanochat studio</p>\n'
        f"{body}\n</main>\n</body>\n</html>\n"
    )


def _style() -> str:
    light, dark = (
        " ".join(f"--chart-{number}: {colour};" for number, colour in enumerate(colours))
        for colours in (COLOURS, _DARK)
    )
    uses = "".join(
        f".c{number} {{ stroke: var(--chart-{number}); border-color: var(--chart-{number}) !important; }}\n"
        f".f{number} {{ fill: var(--chart-{number}); }}\n"
        for number in range(len(COLOURS))
    )
    return _STYLE.replace("COLOURS", light).replace("DARK", dark) + uses


def _block(block: Block) -> str:
    if isinstance(block, Heading):
        return f"<h2>{escape(block.text)}</h2>"
    if isinstance(block, Text):
        is_verdict = f' class="verdict {block.kind}"' if block.kind else ""
        return f"<p{is_verdict}>{escape(block.text)}</p>"
    if isinstance(block, Code):
        return f"<pre><code>{escape(block.text)}</code></pre>"
    if isinstance(block, Chart):
        return loss_chart(block.series) or "<p>Nothing was measured yet.</p>"
    return _table(block)


def _table(table: Table) -> str:
    cells = "".join(f'<th scope="col">{escape(name)}</th>' for name in table.head)
    head = f"<thead><tr>{cells}</tr></thead>" if any(table.head) else ""
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    shown = f'<div class="scroll"><table>{head}<tbody>{body}</tbody></table></div>'
    return f"<details><summary>{escape(table.folded)}</summary>{shown}</details>" if table.folded else shown
