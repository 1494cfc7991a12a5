"""Curves as drawings inside a page: an SVG with logarithmic axes, told in words to who cannot see it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from html import escape

Points = Sequence[tuple[float, float]]
_WIDTH, _HEIGHT = 640, 330
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 8, 10, 44  # of the frame, in units of the drawing
_SMALL = (132, 36)


def v_chart(steps: Sequence[float], errors: Mapping[str, Sequence[float]], name: str) -> str:
    """Error against step size, and a table of each formula's best step; of `errors` the names end in the dtype."""
    curves = {key: _finite(zip(steps, values, strict=True)) for key, values in errors.items()}
    low = math.floor(min(math.log10(y) for points in curves.values() for _, y in points))
    high = math.ceil(min(2.0, max(math.log10(y) for points in curves.values() for _, y in points)))
    left, right = math.log10(min(steps)), math.log10(max(steps))

    def place(h: float, error: float) -> tuple[float, float]:
        across = (math.log10(h) - left) / (right - left)
        down = (high - min(math.log10(error), high)) / (high - low)
        return _LEFT + across * (_WIDTH - _LEFT - _RIGHT), _TOP + down * (_HEIGHT - _TOP - _BOTTOM)

    formulas = list(dict.fromkeys(key.rpartition(" ")[0] for key in curves))
    drawn = [
        f'<path class="s{formulas.index(key.rpartition(" ")[0])}{" single" if key.endswith("32") else ""}" '
        f'd="{_path(place(*point) for point in points)}"/>' for key, points in curves.items()
    ]  # fmt: skip
    ticks = [
        *_ticks(left, right, lambda h: place(h, 10.0**low), "h"),
        *_ticks(low, high, lambda y: place(steps[-1], y)),
    ]
    frame = f'<path class="frame" d="M{_LEFT} {_TOP}V{_HEIGHT - _BOTTOM}H{_WIDTH - _RIGHT}"/>'
    said = f"Error against step size h for the derivatives of {name}; the table below has the tip of each curve"
    return (
        '<div class="both">'
        f'<svg class="curve" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(said)}">{frame}'
        f'{"".join(ticks)}<text class="axis" x="{(_WIDTH + _LEFT) / 2}" y="{_HEIGHT - 6}">step h</text>{"".join(drawn)}'
        f"</svg>{_tips(formulas, curves, name)}</div>"
    )


def small(right: Sequence[float], wrong: Sequence[float]) -> str:
    """The loss of a run beside that of the right one, on the right one's scale: from its least, or a millionth of its
    highest, to ten times its highest."""
    high = math.log10(10 * max(right))
    low = math.log10(max(min(right), 1e-6 * max(right)))
    width, height = _SMALL

    def place(step: int, loss: float) -> tuple[float, float]:
        down = (high - math.log10(loss)) / (high - low) if loss > 0 else 1.0
        return 1 + step * (width - 2) / (len(right) - 1), 2 + min(max(down, 0.0), 1.0) * (height - 4)

    lines = "".join(
        f'<path class="{kind}" d="{_path(place(k, loss) for k, loss in enumerate(run) if math.isfinite(loss))}"/>'
        for kind, run in (("right", right), ("wrong", wrong))
    )
    said = f"loss from {brief(right[0])} to {brief(wrong[-1])}; of the right gradient to {brief(right[-1])}"
    return f'<svg class="small" viewBox="0 0 {width} {height}" role="img" aria-label="{said}">{lines}</svg>'


def brief(value: float) -> str:
    return f"{value:.2g}" if math.isfinite(value) else "no number"


def _finite(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(h, error) for h, error in points if math.isfinite(error) and error > 0]


def _path(points: Iterable[tuple[float, float]]) -> str:
    """None of no points."""
    drawn = "L".join(f"{x:.0f} {y:.0f}" for x, y in points)
    return f"M{drawn}" if drawn else ""


def _ticks(low: float, high: float, place: Callable[[float], tuple[float, float]], axis: str = "") -> Iterator[str]:
    """A label at every fourth power of ten, below or at the left."""
    for power in range(round(low), round(high) + 1):
        if power % 4 == 0:
            x, y = place(10.0**power)
            x, y, kind = (x, _HEIGHT - _BOTTOM + 18, "tick") if axis else (_LEFT - 6, y + 4, "tick left")
            yield f'<text class="{kind}" x="{x:.0f}" y="{y:.0f}">{_power(power)}</text>'


def _power(power: int) -> str:
    return f'10<tspan class="power" dy="-5">{str(power).replace("-", "−")}</tspan>'


def _tips(formulas: Sequence[str], curves: Mapping[str, Points], name: str) -> str:
    rows = []
    for k, formula in enumerate(formulas):
        cells = []
        for dtype in ("float64", "float32"):
            points = curves.get(f"{formula} {dtype}", ())
            best = min(points, key=lambda point: point[1], default=None)
            cells.append(f"<td>{best[1]:.0e} at h = {best[0]:.0e}</td>" if best else "<td>exact, or none</td>")
        swatch = f'<svg class="swatch" viewBox="0 0 20 8" aria-hidden="true"><path class="s{k}" d="M0 4H20"/></svg>'
        rows.append(f'<tr><th scope="row">{swatch} {escape(formula)}</th>{"".join(cells)}</tr>')
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="Best steps for {escape(name)}"><table>'
        "<caption>The least error of each formula; float32 is the dashed line</caption>"
        '<thead><tr><th scope="col">formula</th><th scope="col">float64</th><th scope="col">float32</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
