"""Models that read images: what a body is given in the place of tokens, and the task of naming what is shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from npora.models.body import Body, Rng, told
from npora.models.options import refuse_of_calling
from npora.models.tasks import ForSequenceClassification
from npora.models.tokens import Tokens
from npora.nn import Padding
from npora.nn.module import Array


@dataclass(frozen=True, eq=False)
class Patches(Tokens):
    """A batch of images as what a body reads: a row for each patch, and those that the family puts before them.

    pixels : [batch, channels, height, width]; ids are zeros
    """

    pixels: Array | None = None

    @classmethod
    def of_images(cls, pixels: Array, rows: int, hidden: list[Array] | None = None) -> Patches:
        """Images that become so many rows each."""
        padding = Padding(np.ones((len(pixels), rows), dtype=bool))
        return cls(np.zeros(padding.packing.rows, int), padding.packing, padding, hidden=hidden, pixels=pixels)


class ImageBody(Body):
    """A body that reads pixel_values [batch, channels, height, width] alone. A family writes `rows_of_an_image`."""

    inputs: ClassVar[tuple[str, ...]] = ("pixel_values",)

    def forward(  # type: ignore[override]  # an image in the place of tokens
        self,
        pixel_values: npt.ArrayLike | None = None,
        *,
        rng: Rng = None,
        output_hidden_states: bool = False,
        **others: Any,
    ) -> tuple[Any, Callable[..., Any]]:
        """last_hidden_state [b,t,m]; backward takes its gradient. Raises TypeError for another keyword."""
        refuse_of_calling(type(self).__name__, others, self.inputs)
        tokens = self.patches(pixel_values, output_hidden_states)
        return told(*self.of_tokens(tokens, rng), tokens)

    def patches(self, pixel_values: npt.ArrayLike | None, output_hidden_states: bool = False) -> Patches:
        """The images as what `rows` reads. Raises ValueError where they are of another form."""
        if pixel_values is None:
            raise ValueError("a model of images reads pixel_values [batch, channels, height, width]: give them")
        pixels = np.asarray(pixel_values)
        return Patches.of_images(pixels, self.rows_of_an_image(pixels), [] if output_hidden_states else None)

    def rows_of_an_image(self, pixels: Array) -> int:
        """How many rows an image becomes. Raises ValueError for images that are none of this model's."""
        raise NotImplementedError(f"{type(self).__name__} does not say how many rows an image becomes")


class ForImageClassification(ForSequenceClassification):
    """A class for each image.

    forward(pixel_values [batch, channels, height, width], labels) returns loss and logits [b,v], and backward is as in
    ForSequenceClassification.
    """

    task_name = "ImageClassification"

    def forward(  # type: ignore[override]  # an image in the place of tokens
        self,
        pixel_values: npt.ArrayLike | None = None,
        *,
        labels: npt.ArrayLike | None = None,
        rng: Rng = None,
        output_hidden_states: bool = False,
        **others: Any,
    ) -> tuple[Any, Callable[..., Any]]:
        refuse_of_calling(type(self).__name__, others, self.inputs)
        tokens = self.body.patches(pixel_values, output_hidden_states)
        return told(*self.task(tokens, labels, rng), tokens)
