"""A report into a file, in the form that the file's ending names."""

from pathlib import Path

from nanochat_core.report import facts
from nanochat_core.report.document import SaidOfData, report_of
from nanochat_core.report.html import to_html
from nanochat_core.report.markdown import to_markdown
from nanochat_core.system.files import check_new, write_atomically

_FORMS = {".html": to_html, ".htm": to_html, ".md": to_markdown}


def write_report(tag: str, compare: str | None, out: Path, said_of_data: SaidOfData = facts.said_of_data) -> Path:
    """Write the report of run `tag`, beside its base or run `compare`, to `out`; returns it.

    said_of_data: what is found in a run's data, in sentences. ValueError for an ending that is no form, when `out`
    exists already (somebody may have written into it), and when there is no such run.
    """
    form = _FORMS.get(out.suffix.lower())
    if form is None:
        raise ValueError(f"{out} ends with '{out.suffix}'. A report is .html or .md: name it so.")
    check_new(out)
    text = form(report_of(tag, compare, said_of_data))
    write_atomically(out, text.encode("utf-8"))
    return out
