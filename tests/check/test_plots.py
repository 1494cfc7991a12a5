"""Pictures: every line and every error can be told apart, nothing hides what is drawn, and a bad path is said first."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import gradcheck
from npora.check import v_curve
from npora.check.oracles.vcurve import FORMULAS, STEPS
from npora.check.verdict import plots
from npora.cli import main
from npora.nn import functional as F

pytest.importorskip("matplotlib", reason="needs the extra `plot`")

rng = np.random.default_rng(0)


def looks(line: Any) -> tuple[Any, ...]:
    return line.get_color(), line.get_marker(), line.get_linestyle()


def drawn_curves(slopes: tuple[int, ...] = ()) -> Any:
    names = [f"{name} {dtype}" for dtype in ("float64", "float32") for name in (*FORMULAS, "complex")]
    errors = {name: [10.0 ** -(k + place) for k in range(len(STEPS))] for place, name in enumerate(names)}
    return plots.curves(STEPS, errors, "title", "label", slopes=slopes)


def test_ten_curves_differ_by_more_than_their_colour() -> None:
    figure = drawn_curves()
    lines = figure.axes[0].lines
    assert len(lines) == 10 and len({looks(line) for line in lines}) == 10
    for one, other in itertools.combinations(lines, 2):
        assert looks(one)[1:] != looks(other)[1:], "told apart by colour alone"


def test_the_legend_stands_beside_the_axes() -> None:
    for figure in (drawn_curves(), drawn_curves((1, 2, 3))):
        figure.draw_without_rendering()
        box = figure.axes[0].get_window_extent()
        (legend,) = figure.legends
        assert figure.axes[0].get_legend() is None and not box.overlaps(legend.get_window_extent())


def test_reference_slopes_differ_and_are_named_where_they_are() -> None:
    axes = drawn_curves((1, 2, 3)).axes[0]
    references = axes.lines[10:]
    assert len({line.get_linestyle() for line in references}) == 3
    assert [text.get_text() for text in axes.texts] == ["h¹", "h²", "h³"]
    low, high = axes.get_ylim()
    assert all(low <= text.xy[1] <= high for text in axes.texts)


def test_curves_of_zeros_are_drawn_too() -> None:
    figure = plots.curves(STEPS, {"one-sided": [0.0] * len(STEPS)}, "title", "label", slopes=(1, 2))
    assert figure.axes[0].texts[0].get_text() == "zero at every step"
    curve = v_curve(F.tanh, rng.standard_normal((2, 3)))
    assert len(plots.curves(curve.steps, curve.errors, "title", "label").axes[0].lines) == 10


def image(ratio: Any) -> Any:
    (axes, _) = plots.heat_maps([("x", np.asarray(ratio))]).axes
    return axes, axes.images[0]


def test_errors_of_every_size_are_told_apart() -> None:
    ratio = 10.0 ** np.array([[11.2, 11.9, 12.3], [11.5, 10.8, 12.0]])
    _, shown = image(ratio)
    colours = shown.cmap(shown.norm(shown.get_array()))
    assert len({tuple(colour) for row in colours for colour in row}) == 6
    _, mixed = image([[1e-3, 0.0, 0.9], [1.2, 1e12, np.inf]])
    colours = mixed.cmap(mixed.norm(mixed.get_array()))
    blue, red = colours[0], colours[1, :2]
    assert (blue[:, 2] > blue[:, 0]).all() and (red[:, 0] > red[:, 2]).all()
    assert tuple(colours[1, 2]) == (0, 0, 0, 1), "what is not finite is black"
    image(np.full((2, 3), np.inf))
    image(np.zeros((2, 3)))


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 1), (1, 4), (3, 2, 4)])
def test_axes_count_elements_in_whole_numbers(shape: tuple[int, ...]) -> None:
    axes, shown = image(np.full(shape, 0.5))
    assert shown.get_array().size == np.prod(shape, dtype=int)
    ticks = [*axes.get_xticks(), *axes.get_yticks()]
    assert all(float(tick).is_integer() for tick in ticks)
    assert len(axes.get_yticks()) == 0 or len(shape) > 1


def test_the_worst_of_many_maps_are_drawn_and_the_rest_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "MOST", 5)
    maps = [(f"p{k}", np.array([float(k)])) for k in range(plots.MOST + 7)]
    figure = plots.heat_maps(maps)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert len(titles) == plots.MOST and titles[0] == f"p{plots.MOST + 6}"
    assert f"the {plots.MOST} worst of {plots.MOST + 7}" in figure.get_suptitle()


def test_a_map_says_of_what_it_is() -> None:
    figure = gradcheck(lambda x: (x * x, lambda dy: dy * x), rng.standard_normal(40), max_elements=9).plot()
    assert figure.axes[0].get_title() == "x\n9 of [40]: FAIL"


@pytest.mark.parametrize("command", ["gradcheck", "vcurve", "taylor"])
def test_a_picture_that_cannot_be_written_is_said_before_the_work(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module, work in (("gradcheck", "gradcheck"), ("vcurve", "v_curve"), ("taylor", "taylor_test")):
        monkeypatch.setattr(f"npora.commands.{module}.{work}", lambda *_, **__: pytest.fail("the work began"))
    monkeypatch.chdir(tmp_path)
    for path, said in (("x.bmpp", "ends in one of"), ("x", "ends in one of"), ("no/x.png", "No such file"), (".", "")):
        assert main([command, "tanh", "--plot", path]) in (2, 3)
        assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_picture_is_written_in_place_of_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(b"old")
    assert main(["gradcheck", "tanh", "--break", "sign", "--plot", str(path)]) == 1
    assert path.read_bytes().startswith(b"\x89PNG")
