"""What the examples of a model are prepared with: its tokenizer, or what makes numbers of its images."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from npora.commands.messages import say
from npora.data import AutoTokenizer, ImageProcessor, Tokenizer, check_vocabulary
from npora.data.image_processor import CONFIG
from npora.files import resolve


def load_tokenizer(name: str, model: Any) -> Tokenizer:
    """The tokenizer of a model. Raises ValueError where it has ids that the model lacks."""
    tokenizer = AutoTokenizer.from_pretrained(name)
    check_vocabulary(tokenizer, model.config.vocab_size)
    return tokenizer


def load_images(name: str, model: Any) -> Callable[[Sequence[Any]], Any]:
    """What makes pixel_values of a model's images: its ImageProcessor, or a ViT's usual one where it has none. Raises
    ValueError where that makes another size of them than the model reads."""
    folder, (height, width) = resolve(name), model.config.image
    if os.path.isfile(os.path.join(folder, CONFIG)):
        processor = ImageProcessor.from_pretrained(folder)
    else:
        processor = ImageProcessor(size={"height": height, "width": width})
        say(f"{name} has no {CONFIG}: images are taken from 0 … 255 to -1 … 1, and resized to {height} × {width}")
    if processor.sides != (height, width):
        raise ValueError(f"{name}: {CONFIG} makes images {processor.sides}, and the model reads {(height, width)}")
    return partial(processor, channels=model.config.num_channels)
