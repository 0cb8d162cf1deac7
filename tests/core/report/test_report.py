"""Reports: what they say of a run and of two, that they fetch nothing, and that no text of a model steers the page."""

import itertools
import json
import re
from html.parser import HTMLParser

import pytest
from markdown_it import MarkdownIt

from nanochat_core.cli.main import main
from nanochat_core.config import FinetuneConfig
from nanochat_core.evaluation.questions import Question
from nanochat_core.evaluation.results import keep, result_path
from nanochat_core.evaluation.scores import grade
from nanochat_core.report.document import public_results, report_of
from nanochat_core.report.facts import ended, unfinished
from nanochat_core.report.html import to_html
from nanochat_core.report.markdown import blocks_to_markdown, to_markdown
from nanochat_core.runs.base import base_step
from nanochat_core.runs.launcher import create_run
from nanochat_core.runs.run import Run
from tests.support.tiny import write_conversations

HOSTILE = "<script>alert(1)</script> [x](http://evil) ![i](http://evil) `a` | b\n# head"


def _asked(right: int, total: int = 12):
    """A result of `total` questions, the first `right` of which are answered; one of the replies is hostile."""
    questions = [Question([{"role": "user", "content": f"q{n} {HOSTILE}"}], ["yes"]) for n in range(total)]
    return vars(grade(questions, ["yes" if n < right else HOSTILE for n in range(total)]))


def _plain(result):
    return {**result, "answers": [vars(answer) for answer in result["answers"]], "tasks": {}}


@pytest.fixture
def make_run(home):
    data = write_conversations(home / "secret_data.jsonl", 20)

    def make(tag, right, **settings):
        run = create_run(FinetuneConfig(str(data), model_tag="starter", output_tag=tag, **settings))
        for step in range(0, 41, 10):
            loss = {"val_loss": 9.0 - step / 10, "val_bpb": 2.0, "kl_from_base": step / 40}
            run.append_metrics({"step": step, "time": 100.0 + step, **loss})
            run.append_metrics(
                {"step": step + 1, "time": 101.0 + step, "train_loss": 5.0, "tokens": 50 * step, "memory_bytes": 2e9}
            )
        run.evals_dir.mkdir()
        for name, count in (("before", 1), ("after", right)):
            snapshot = {"replies": [["Sample?", f"{name} {HOSTILE}"]], "new": _plain(_asked(count)), "old": None}
            (run.evals_dir / f"{name}.json").write_text(json.dumps(snapshot))
        run.write_status(state="finished", step=40, steps=40, energy_joules=7200.0, energy_of="of the whole GPU")
        return run

    return make


class _Page(HTMLParser):
    """Collects what a page would fetch or run, and its text."""

    def __init__(self):
        super().__init__()
        self.tags, self.links, self.text = [], [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "action", "data", "srcset")]

    def handle_data(self, data):
        self.text += data


def _page(html):
    page = _Page()
    page.feed(html)
    return page


def test_a_report_says_what_was_gained_what_it_cost_and_how_to_repeat_it(make_run, home):
    run = make_run("mine", 9)
    page = _page(to_html(report_of("mine")))
    for said in (
        "8 learnt, 0 lost: better, and hardly by chance (p = 0.0078).",
        "1 of 12 (8%)",
        "9 of 12 (75%)",
        "Distance from the original: 1.000 nats per token",
        "2 Wh, of the whole GPU",
        "2,000",
        run.record()["data"]["sha256"],
        "secret_data.jsonl",
        "python -m nanochat_core finetune",
        "--output_tag mine",
        "secret_data.jsonl: accepted (20 faultless conversations)",
        "before <script>",
        "after <script>",
    ):
        assert said in page.text, said
    assert "svg" in page.tags


def test_the_page_fetches_nothing_and_runs_nothing(make_run):
    make_run("mine", 9)
    html = to_html(report_of("mine"))
    page = _page(html)
    assert page.links == []
    assert "script" not in page.tags
    assert "url(" not in html
    assert "@import" not in html
    assert "default-src 'none'" in html


def test_in_markdown_no_text_of_a_model_is_more_than_text(make_run):
    make_run("mine", 9)
    text = to_markdown(report_of("mine"))
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(text)
    inner = [token for block in tokens for token in (block.children or [block])]
    assert not {token.type for token in inner} & {"link_open", "image", "html_inline", "html_block"}
    titles = [after.content for token, after in itertools.pairwise(tokens) if token.type == "heading_open"]
    assert titles == [
        "Run mine",
        *("Did it get better", "What it cost", "Curves", "Data", "Settings", "Samples", "How to repeat it"),
    ]
    assert sum(token.type == "table_open" for token in tokens) == 8
    assert "8 learnt, 0 lost" in text
    assert re.search(r"\| 40 \|.*5\.0000 \|", text)


def test_two_runs_are_told_by_what_differs(make_run):
    make_run("one", 3)
    make_run("two", 10, num_epochs=4)
    page = _page(to_html(report_of("two", "one")))
    assert "7 learnt, 0 lost: better, and hardly by chance (p = 0.016)." in page.text
    assert "num_epochs" in page.text
    assert "matrix_lr" not in page.text.split("Settings")[1].split("Samples")[0]
    assert "one, validation" in page.text
    assert "Run one is 1.000 nats from its own." in page.text
    assert page.text.count("secret_data.jsonl: accepted") == 1  # of both
    assert "two, distance from the base" in page.text
    with pytest.raises(ValueError, match="compared with itself"):
        report_of("one", "one")


def test_of_a_run_that_did_not_train_to_its_end_that_is_said_first(make_run, home):
    run = make_run("mine", 9)
    assert not unfinished(run)
    run.write_status(state="failed", step=7, steps=40, error="The memory was too small.")
    run.metrics_file.write_text('{"step": 0, "val_loss": 9.0, "kl_from_base": 0.0}\n')
    for snapshot in run.evals_dir.iterdir():
        snapshot.unlink()
    text = to_markdown(report_of("mine"))
    said = "Run mine failed at step 7 of 40, and it has saved no model. The memory was too small."
    assert text.index(said) < text.index("Did it get better")
    assert "Distance from the original" not in text  # that of step 0 is the base's own
    assert "Nothing was asked of both models." in text
    assert "nanochat eval" not in text  # there is no model that could be asked
    (run.path / "model_000005.pt").touch()
    (run.path / "meta_000005.json").write_text("{}")
    run.write_status(state="stopped", step=7)
    text = to_markdown(report_of("mine"))
    assert "Run mine was stopped at step 7 of 40, and its model is that of step 5." in text
    assert "nanochat eval" in text


def test_samples_that_end_with_the_same_question_each_have_their_own_reply_of_before(make_run):
    run = make_run("mine", 9)
    for name in ("before", "after"):
        replies = [["Go on.", f"{name} one"], ["Go on.", f"{name} two"], [f"{name} alone?", "x"]]
        (run.evals_dir / f"{name}.json").write_text(json.dumps({"replies": replies}))
    text = to_markdown(report_of("mine"))
    assert "| Go on. | before one | after one |" in text
    assert "| Go on. | before two | after two |" in text
    assert "alone" not in text


def test_a_table_of_two_runs_has_all_steps_of_both_and_no_value_of_another_step(make_run):
    make_run("one", 3)
    short = make_run("two", 10)
    lines = [{"step": step, "val_loss": 8.0 - step, "train_loss": 5.5, "kl_from_base": step / 4} for step in (0, 2)]
    short.metrics_file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    text = to_markdown(report_of("two", "one"))
    table = [line for line in text.splitlines() if re.match(r"\| (step|\d+) \|", line)]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    head = {name: place for place, name in enumerate(cells[0])}
    by_step = {row[0]: row for row in cells[1:]}
    assert list(by_step) == ["0", "2", "10", "20", "30", "40"]
    assert by_step["2"][head["two, validation"]] == "6.0000"
    assert by_step["2"][head["one, validation"]] == by_step["2"][head["one, distance from the base"]] == ""
    assert by_step["40"][head["one, validation"]] == "5.0000"
    assert by_step["40"][head["two, training"]] == ""


def test_a_run_whose_base_is_gone_is_reported_all_the_same(make_run, home):
    run = make_run("mine", 9)
    record = json.loads(run.config_file.read_text())
    record["settings"]["from_finetuned"], record["settings"]["model_tag"] = "gone", None
    run.config_file.write_text(json.dumps(record))
    assert main(["report", "--run", "mine", str(home / "out.md")]) == 0
    told = (home / "out.md").read_text()
    assert "Its review:" in told
    assert "gone" in told.split("How to repeat it")[1]


def test_results_of_later_evaluations_are_in_it(make_run):
    make_run("mine", 9)
    began = base_step(Run.open("mine"))
    for name, step, right in (("finetuned/mine", 40, 11), ("starter", began, 2), ("starter", began + 1, 11)):
        result = {**_plain(_asked(right)), "model": name, "made": f"2026 {step}", "file": "/a/more.jsonl"}
        result |= {"file_sha256": "f", "step": step, "complete": True}
        keep(result_path(name, "questions", str(step) * 12, {}), result)
    page = _page(to_html(report_of("mine")))
    assert f"more.jsonl, step 40 beside step {began}: 9 learnt, 0 lost" in page.text  # not the base's newer step


def test_of_a_run_s_results_those_of_its_end_count(make_run):
    run = make_run("mine", 9)
    for step, made in ((30, "2026-02"), (40, "2026-01")):
        (run.path / f"model_0000{step}.pt").touch()
        (run.path / f"meta_0000{step}.json").write_text("{}")
        kept = {"step": step, "made": made, "file_sha256": "f", "complete": True}
        keep(result_path("finetuned/mine", "questions", str(step) * 12, {}), kept)
    assert ended(run).results("questions", lambda result: result["file_sha256"])["f"]["step"] == 40


def test_results_that_are_of_one_kind_are_paired_though_newer_ones_are_not(make_run):
    run = make_run("mine", 9)
    (run.path / "model_000040.pt").touch()
    (run.path / "meta_000040.json").write_text("{}")
    started = base_step(run)
    asked = [("finetuned/mine", 40, 11, 64, 10), ("starter", started, 2, 64, 10)]
    asked += [("finetuned/mine", 40, 12, 256, 30), ("starter", started, 12, 32, 20)]
    for number, (name, step, right, tokens, read) in enumerate(asked):
        kept = {"model": name, "made": f"2026 {number}", "file_sha256": "f", "step": step, "complete": True}
        answered = _plain(_asked(right)) | kept | {"file": "/a/q.jsonl", "asked": {"max_tokens": tokens}}
        keep(result_path(name, "questions", str(step) * 12, {"n": number}), answered)
        columns = {
            "nats": [right] * 9,
            "tokens": [5] * 9,
            "right": [1] * 9,
            "nats_of_bytes": [5] * 9,
            "bytes": [read] * 9,
        }
        figures = {"loss": right / 5, "bits_per_byte": 1.0, "token_accuracy": 0.2, "conversations": columns}
        keep(result_path(name, "data", str(step) * 12, {"n": number}), kept | {"file": "/a/d.jsonl"} | figures)
    text = to_markdown(report_of("mine")).replace("\\", "")
    assert f"q.jsonl, step 40 beside step {started}: 9 learnt, 0 lost" in text
    assert f"d.jsonl, step 40 beside step {started}: Loss 1.8000 higher" in text


def test_data_that_has_changed_or_gone_is_said_so(make_run, home):
    make_run("mine", 9)
    (home / "secret_data.jsonl").write_text("{}")
    assert "The file has changed since the training" in to_html(report_of("mine"))
    (home / "secret_data.jsonl").unlink()
    assert "no longer where it was" in to_html(report_of("mine"))


def test_a_questions_file_that_is_gone_is_said_so_and_costs_no_report(make_run, home):
    questions = home / "q.jsonl"
    questions.write_text('{"question": "q", "expected": ["a"]}\n')
    make_run("mine", 9, questions_path=str(questions))
    questions.unlink()
    assert main(["report", "--run", "mine", str(home / "out.md")]) == 0
    said = (home / "out.md").read_text()
    assert "q.jsonl cannot be read" in said.replace("\\", "")
    assert "Its review:" in said


def test_what_is_public_has_not_a_word_of_the_data(make_run, home):
    run = make_run("mine", 9)
    text = "\n".join(blocks_to_markdown(public_results(run)))
    assert "8 learnt, 0 lost" in text
    assert "1\\.000 nats" in text or "1.000 nats" in text
    for word in ("q1", "alert", "Sample", "secret", str(home)):
        assert word not in text


def test_the_command_writes_both_forms_and_tells_mistakes(make_run, home, capsys):
    make_run("mine", 9)
    for name in ("out.html", "out.md"):
        assert main(["report", "--run", "mine", str(home / name)]) == 0
    assert (home / "out.html").read_text().startswith("<!doctype html>")
    assert (home / "out.md").read_text().startswith("# Run mine")
    for arguments, said in (
        (["--run", "mine", "out.pdf"], ".html or .md"),
        (["--run", "mine", str(home / "out.md")], "exists already"),
        (["--run", "gone", "out.md"], "There is no run 'gone'"),
        (["--run", "mine", "--compare", "gone", "out.md"], "There is no run 'gone'"),
    ):
        assert main(["report", *arguments]) == 2
        assert said in capsys.readouterr().err
