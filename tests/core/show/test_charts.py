"""The charts draw what was measured: every line's values, the axis that was asked for, the best point."""

import re

import pytest

from nanochat_core import plot_runs
from nanochat_core.config import FinetuneConfig
from nanochat_core.paths import PROJECT_ROOT
from nanochat_core.runs.curves import losses
from nanochat_core.runs.launcher import create_run
from nanochat_core.show.palette import COLOURS
from nanochat_core.show.svg import loss_chart
from tests.support.tiny import write_conversations


@pytest.fixture
def make_run(home):
    data = write_conversations(home / "mine.jsonl", 5)

    def make(tag="mine", validations=((0, 3.0), (2, 1.5), (4, 2.0)), steps=4):
        run = create_run(FinetuneConfig(str(data), output_tag=tag))
        for step, loss in validations:
            if step == 0:
                run.append_metrics({"step": 0, "epoch": 0.0, "val_loss": loss, "time": 60.0})
        for step in range(1, steps + 1):
            line = {"step": step, "epoch": step / 2, "time": 60.0 + 30 * step}
            run.append_metrics({**line, "tokens": 100 * step, "train_loss": 4.0 / step})
            for place, loss in validations:
                if place == step:
                    run.append_metrics({**line, "val_loss": loss})
        return run

    return make


def lines_of(chart):
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in chart.axes[0].lines}


def legend_of(chart):
    return [text.get_text() for text in chart.axes[0].get_legend().get_texts()]


@pytest.mark.parametrize(
    ("x", "train", "validation"),
    [
        ("step", [1, 2, 3, 4], [0, 2, 4]),
        ("epoch", [0.5, 1, 1.5, 2], [0, 1, 2]),
        ("tokens", [100, 200, 300, 400], [0, 200, 400]),
        ("minutes", [0.5, 1, 1.5, 2], [0, 1, 2]),
    ],
)
def test_the_lines_and_their_axis(make_run, x, train, validation):
    chart = make_run().plot(x=x, smoothing=0.5)
    lines = lines_of(chart)
    assert lines["training"] == (train, pytest.approx([4, 2, 4 / 3, 1]))
    assert lines["validation (best 1.5000 at step 2)"] == (validation, [3.0, 1.5, 2.0])
    *_, star = chart.axes[0].lines
    assert (star.get_marker(), list(star.get_xdata()), list(star.get_ydata())) == ("*", [validation[1]], [1.5])
    weights = [0.125, 0.25, 0.5, 1.0]
    smooth = sum(weight * 4 / step for weight, step in zip(weights, range(1, 5))) / sum(weights)
    assert lines["training, smoothed"][1][-1] == pytest.approx(smooth)
    assert chart.axes[0].get_xlabel().lower() == x
    assert "nats" in chart.axes[0].get_ylabel()


def test_without_smoothing_there_is_one_training_line(make_run):
    assert legend_of(make_run().plot(smoothing=0)) == ["training", "validation (best 1.5000 at step 2)"]


def test_several_runs_are_told_apart(make_run):
    first, second = make_run("first"), make_run("second", ((0, 3.0), (4, 1.0)))
    chart = plot_runs(first, second, smoothing=0, log=True)
    assert legend_of(chart) == [
        "first, training",
        "first, validation (best 1.5000 at step 2)",
        "second, training",
        "second, validation (best 1.0000 at step 4)",
    ]
    colours = {line.get_label(): line.get_color() for line in chart.axes[0].lines}
    assert colours["first, training"] != colours["second, training"]
    assert chart.axes[0].get_yscale() == "log"


def test_a_notebook_gets_a_picture_and_a_file_can_be_saved(make_run, tmp_path):
    chart = make_run().plot()
    assert chart._repr_png_().startswith(b"\x89PNG")
    chart.savefig(tmp_path / "loss.svg")
    assert (tmp_path / "loss.svg").stat().st_size > 1000


def test_a_run_that_has_not_begun(make_run):
    chart = make_run(validations=(), steps=0).plot(x="minutes")
    assert [text.get_text() for text in chart.axes[0].texts] == ["No losses yet"]
    assert chart._repr_png_()


def test_lost_values_are_left_out(make_run):
    run = make_run()
    run.append_metrics({"step": 5, "train_loss": float("nan"), "val_loss": None})
    assert len(lines_of(run.plot())["training"][0]) == 4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"x": "weeks"}, "epoch, tokens, minutes"),
        ({"smoothing": 1.0}, "below 1"),
        ({"smoothing": -0.1}, "from 0"),
    ],
)
def test_wrong_options(make_run, options, said):
    with pytest.raises(ValueError, match=said):
        make_run().plot(**options)


def test_no_run_at_all():
    with pytest.raises(ValueError, match="at least one"):
        plot_runs()


@pytest.mark.parametrize("wrong", ["mine", []])
def test_what_is_no_run(wrong):
    with pytest.raises(ValueError, match="Give runs one by one"):
        plot_runs(wrong)


def test_the_page_has_the_colours_of_the_pictures():
    style = (PROJECT_ROOT / "studio" / "style.css").read_text(encoding="utf-8")
    light = [re.search(rf"--chart-{number}: (#\w+)", style)[1] for number in range(len(COLOURS))]
    assert tuple(light) == COLOURS


def test_the_distance_from_the_base_is_beside_the_losses_of_one_run(make_run):
    run = make_run()
    for step, distance in ((0, 0.0), (2, 0.5), (4, 1.25)):
        run.append_metrics({"step": step, "val_loss": 3.0, "kl_from_base": distance})
    losses_, distance = run.plot().axes  # a scale of its own: it flattens no loss
    [line] = distance.lines
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([0, 2, 4], [0.0, 0.5, 1.25])
    assert "distance from the base" not in [line.get_label() for line in losses_.lines]
    assert "distance from the base" in [text.get_text() for text in distance.get_legend().get_texts()]
    assert "distance from the base" in loss_chart(losses(run)).split("</svg>")[-2]
    assert run.metrics()["kl_from_base"].dropna().tolist() == [0.0, 0.5, 1.25]
    several = lines_of(plot_runs(run, make_run("other")))
    assert not [name for name in several if "distance" in name]
    [alone] = losses(run, which="Distance", place=1)
    assert (alone.name, alone.points) == ("mine, distance from the base", [(0, 0.0), (2, 0.5), (4, 1.25)])
