"""An image in characters: what a model reads of it, from the darkest number to the brightest."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from npora.nn.module import Array

_WIDTH = 64  # characters, of which each is about twice as tall as wide
_SHADES = " .:-=+*#%@"


def drawn(pixels: Array, has_colours: bool) -> Iterator[str]:
    """The lines of an image [c,h,w]: shades of grey as signs, or two coloured squares one above the other a sign."""
    _, height, width = pixels.shape
    columns = 2 * width if 2 * width <= _WIDTH else min(width, _WIDTH)  # of a small one each number is seen
    rows = max(1, round(height * columns / width / 2))
    low, high = float(pixels.min()), float(pixels.max())
    image = (pixels - low) / (high - low or 1.0)  # [c,h,w], 0 … 1
    if not has_colours:
        shades = np.rint(_smaller(image.mean(axis=0, keepdims=True), rows, columns)[0] * (len(_SHADES) - 1))
        yield from ("".join(_SHADES[int(shade)] for shade in row).rstrip() for row in shades)
        return
    image = image[:3] if len(image) >= 3 else np.broadcast_to(image.mean(axis=0), (3, height, width))
    colours = np.rint(255 * _smaller(image, 2 * rows, columns)).astype(int)
    for upper, lower in zip(colours[:, ::2].transpose(1, 2, 0), colours[:, 1::2].transpose(1, 2, 0), strict=True):
        signs = (
            f"\033[38;2;{r};{g};{b};48;2;{s};{h};{c}m▀"
            for (r, g, b), (s, h, c) in zip(upper.tolist(), lower.tolist(), strict=True)
        )
        yield "".join(signs) + "\033[0m"


def _smaller(image: Array, rows: int, columns: int) -> Array:
    """The means of [c,h,w] over rectangles: [c,rows,columns]."""
    for axis, number in ((1, rows), (2, columns)):
        edges = np.linspace(0, image.shape[axis], number + 1).astype(int)
        sums = np.add.reduceat(image, edges[:-1], axis=axis)
        image = sums / np.maximum(np.diff(edges), 1).reshape([-1 if i == axis else 1 for i in range(3)])
    return image
