"""The chart: what is drawn, what is left out, and that nothing in it can be run."""

import itertools
import math
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nanochat_core.runs.curves import smooth
from nanochat_core.show.axis import below, ceiling
from nanochat_core.show.palette import Series
from nanochat_core.show.svg import MOST_POINTS, line_chart, thin, ticks

FALLING = [(float(step), 3.0 / step) for step in range(1, 51)]


def svg_of(html: str) -> ET.Element:
    return ET.fromstring(html[html.index("<svg") : html.index("</svg>") + 6])


def test_nothing_to_draw_is_nothing():
    assert line_chart([], "step", "loss") == ""
    assert line_chart([Series("a", [])], "step", "loss") == ""
    assert line_chart([Series("a", [(1.0, math.nan), (2.0, math.inf)])], "step", "loss") == ""


def test_a_line_falls_on_the_page_when_the_loss_falls():
    slowly = [(x, 3.0 - x / 50) for x, _ in FALLING]
    points = svg_of(line_chart([Series("train", slowly)], "step", "loss")).find("polyline").get("points").split()
    places = [tuple(map(float, point.split(","))) for point in points]
    assert len(places) == len(slowly)
    assert places == sorted(places)  # to the right
    assert all(a[1] <= b[1] for a, b in itertools.pairwise(places))  # down: y grows downwards


def test_every_place_lies_inside_the_picture():
    root = svg_of(line_chart([Series("train", FALLING), Series("val", [(25.0, 9.0)], 1)], "step", "loss"))
    _, _, width, height = map(float, root.get("viewBox").split())
    for point in root.find("polyline").get("points").split():
        x, y = map(float, point.split(","))
        assert 0 <= x <= width
        assert 0 <= y <= height


def test_the_first_points_do_not_flatten_the_rest():
    losses = [8.9, 3.8, 1.5, 0.64, 0.4, 0.36, 0.34, 0.34, 0.33, 0.33, 0.34]
    validation = Series("validation", [(14.0 * number, loss) for number, loss in enumerate(losses)])
    assert ceiling([validation]) == 1.5
    chart = svg_of(line_chart([validation], "step", "loss", width=600, height=300))
    places = [tuple(map(float, point.split(","))) for point in chart.find("polyline").get("points").split()]
    bottom = 300 - 42
    assert places[0][1] < 30  # it comes in from above
    assert "8.9 at 0" in "".join(text.text for text in chart.findall("text"))
    assert (bottom - places[1][1]) / (bottom - 10) > 0.2  # step 42, of 0.64, stands clear of the bottom
    values = [slice.find("title").text for slice in chart.findall("rect")]
    assert "validation: 8.9000" in values[0]  # under the pointer nothing is cut off


@pytest.mark.parametrize(
    "losses", [[3.0, 2.5, 2.2, 2.0, 1.9, 1.8, 1.7, 1.6], [9.0, 1.0, 0.9], [1.0, 1.0, 1.0, 1.0, 9.0, 1.0]]
)
def test_what_is_no_steep_start_is_shown_whole(losses):
    assert ceiling([Series("a", [(float(step), loss) for step, loss in enumerate(losses)])]) is None


@given(st.lists(st.floats(0, 100), min_size=1, max_size=60), st.floats(0, 100))
def test_a_cut_line_stays_below_and_loses_only_its_beginning(losses, top):
    points = [(float(step), loss) for step, loss in enumerate(losses)]
    kept = list(below(Series("a", points), top).points)
    if losses[0] <= top:
        assert kept == points
    elif kept:
        assert kept[0][1] <= top * (1 + 1e-9) + 1e-9
        assert kept[1:] == points[len(points) - len(kept) + 1 :]


def test_the_best_point_is_the_lowest():
    points = [(0.0, 3.0), (10.0, 1.25), (20.0, 2.0)]
    chart = line_chart([Series("val", points, best="best 1.2500 at step 10")], "step", "loss")
    assert "val (best 1.2500 at step 10)</span>" in chart
    line, best = svg_of(chart).find("polyline"), svg_of(chart).find("circle")
    assert line.get("points").split()[1] == f"{best.get('cx')},{best.get('cy')}"


def test_the_pointer_finds_the_values_of_every_line():
    series = [Series("train", [(0.0, 4.0), (1.0, 2.0)]), Series("val", [(0.0, 5.0)], 1)]
    titles = re.findall(r"<title>(.*?)</title>", line_chart(series, "step", "loss", width=600), re.DOTALL)
    assert titles == ["step 0\ntrain: 4.0000\nval: 5.0000", "step 1\ntrain: 2.0000\nval: 5.0000 (at 0)"]


def test_a_logarithmic_scale_leaves_out_what_it_cannot_show():
    chart = line_chart([Series("a", [(0.0, 0.0), (1.0, 10.0), (2.0, 0.001)])], "step", "loss", log=True)
    assert len(svg_of(chart).find("polyline").get("points").split()) == 2
    assert "log scale" in chart


def test_names_are_shown_as_text():
    chart = line_chart([Series("<img src=x onerror=alert(1)>", FALLING)], "<b>", '"&')
    assert "<img" not in chart
    assert "<b>" not in chart
    svg_of(chart)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=3000))
def test_thinning_keeps_ends_and_extremes(values):
    points = [(float(i), value) for i, value in enumerate(values)]
    kept = thin(points)
    assert len(kept) <= MOST_POINTS + 2
    assert (kept[0], kept[-1]) == (points[0], points[-1])
    assert max(y for _, y in kept) == max(values)
    assert min(y for _, y in kept) == min(values)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=50), st.floats(0, 0.99))
def test_smoothing_stays_within_what_it_smooths(values, weight):
    smoothed = smooth([(float(i), value) for i, value in enumerate(values)], weight)
    assert smoothed[0][1] == pytest.approx(values[0])
    assert all(min(values) - 1e-9 <= y <= max(values) + 1e-9 for _, y in smoothed)


@given(st.floats(-1e5, 1e5), st.floats(1e-4, 1e6))
def test_ticks_are_few_and_inside(low, span):
    found = ticks(low, low + span)
    assert len(found) <= 7
    assert all(low - span * 0.01 <= value <= low + span * 1.01 for value in found)


@given(st.lists(st.tuples(st.floats(0, 1e9), st.floats(-1e3, 1e3)), min_size=1, max_size=300), st.booleans())
@example([(0.0, 5e-324)], True)
@example([(0.0, 0.0), (1.0, 1e-322)], False)
def test_any_points_make_a_whole_picture(points, log):
    chart = line_chart([Series("a", sorted(points), best="best")], "tokens", "loss", log)
    if chart:
        svg_of(chart)
