"""From an image to the numbers that a model reads, as a checkpoint's `preprocessor_config.json` says."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from npora.files import read_json, write_json
from npora.files.kinds import called, is_of_kind
from npora.files.refusal import naming, shortened
from npora.nn.module import Array
from npora.nn.readable import Readable

CONFIG = "preprocessor_config.json"
# Fields that decide nothing, or nothing where they are as here; another value is refused.
_IDLE = ("image_processor_type", "feature_extractor_type", "processor_class", "_processor_class", "crop_size")
_USUAL: Mapping[str, Any] = {"data_format": "channels_first", "default_to_square": True}


@dataclass(kw_only=True)
class ImageProcessor(Readable):
    """What becomes of an image, with transformers' names and a ViT's defaults: it is resized by Pillow to `size` where
    do_resize; each number is multiplied by rescale_factor where do_rescale; and where do_normalize image_mean is
    subtracted, and the rest divided by image_std, channel by channel.

    size : {"height": …, "width": …}, or a number for both
    resample : Pillow's number of the filter; 2 is bilinear
    image_mean, image_std : a number for each channel, or one for all

    Raises
    ------
    ValueError: a value of another kind, sides below 1, an image_std of 0.
    """

    do_resize: bool = True
    size: int | dict[str, int] = None  # type: ignore[assignment]  # a mapping once constructed
    resample: int = 2
    do_rescale: bool = True
    rescale_factor: float = 1 / 255
    do_normalize: bool = True
    image_mean: float | list[float] = 0.5
    image_std: float | list[float] = 0.5
    do_convert_rgb: bool | None = None

    def __post_init__(self) -> None:
        self.size = {"height": 224, "width": 224} if self.size is None else self.size
        for f in fields(self):
            value = getattr(self, f.name)
            if not is_of_kind(value, str(f.type)):
                raise ValueError(f"{f.name} must be {called(str(f.type))}; got {shortened(value)}")
        if isinstance(self.size, int):
            self.size = {"height": self.size, "width": self.size}
        if set(self.size) != {"height", "width"} or min(self.size.values()) < 1:
            raise ValueError(f"size must be a height and a width, in pixels; got {shortened(self.size)}")
        if not np.all(self.image_std):
            raise ValueError(f"image_std divides, and must not be 0; got {shortened(self.image_std)}")

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str]) -> ImageProcessor:
        """That of a checkpoint's directory. Raises FileNotFoundError; ValueError for a field that npora does not know,
        unless it is None or False, and as the class."""
        path = os.path.join(folder, CONFIG)
        values = read_json(path)
        known = {f.name for f in fields(cls)}
        for name, value in values.items():
            if name in known or name in _IDLE or value in (None, False) or _USUAL.get(name) == value:
                continue
            raise ValueError(
                f"{path}: {name}={shortened(value)} is not supported; known are {', '.join(sorted(known))}"
            )
        with naming(path):
            return cls(**{name: value for name, value in values.items() if name in known})

    def save_pretrained(self, directory: str | os.PathLike[str]) -> None:
        write_json(os.path.join(directory, CONFIG), {"image_processor_type": "ViTImageProcessor", **asdict(self)})

    @property
    def sides(self) -> tuple[int, int]:
        """(height, width)"""
        assert isinstance(self.size, dict)
        return self.size["height"], self.size["width"]

    def __call__(self, images: Sequence[Array], channels: int = 3) -> Array:
        """float32 [batch, channels, height, width] of images uint8 [height, width] or [height, width, channels].

        Raises
        ------
        ValueError: an image of another kind or other channels; one of another size, where do_resize is False.
        ImportError: one of another size, and Pillow is not installed.
        """
        made = np.stack([self._sized(image, channels) for image in images]).transpose(0, 3, 1, 2).astype(np.float32)
        if self.do_rescale:
            made *= np.float32(self.rescale_factor)
        if self.do_normalize:
            mean, std = (_each(value, channels) for value in (self.image_mean, self.image_std))
            made = (made - mean) / std
        return np.ascontiguousarray(made)

    def _sized(self, image: Array, channels: int) -> Array:
        """uint8 [height, width, channels]"""
        check_image(image)
        image = image[..., None] if image.ndim == 2 else image
        if image.shape[2] == 1 and channels == 3:
            image = image.repeat(3, axis=2)  # grey
        if image.shape[2] != channels:
            raise ValueError(f"an image has {image.shape[2]} channels, and this model reads {channels}")
        if image.shape[:2] == self.sides:
            return image
        if not self.do_resize:
            raise ValueError(f"an image is {image.shape[0]} × {image.shape[1]}, and nothing resizes it to {self.sides}")
        height, width = self.sides
        resized = [
            np.asarray(pillow().fromarray(image[..., c]).resize((width, height), self.resample))
            for c in range(channels)
        ]
        return np.stack(resized, axis=-1)


def check_image(image: Array) -> None:
    """Raise ValueError for an array that is no image."""
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or not image.size:
        raise ValueError(
            "an image must be whole numbers 0 … 255 (uint8) [height, width] or [height, width, channels]; got "
            f"{image.dtype} of shape {image.shape}"
        )


def pillow() -> Any:
    """Pillow's module Image. Raises ImportError, which says what to install."""
    try:
        from PIL import Image
    except ImportError:
        raise ImportError('reading and resizing images needs Pillow: pip install "npora[image]"') from None
    return Image


def _each(value: float | list[float], channels: int) -> Array:
    """float32 [channels, 1, 1]. Raises ValueError for numbers of other channels."""
    numbers = np.asarray([value] * channels if isinstance(value, int | float) else value, dtype=np.float32)
    if numbers.shape != (channels,):
        raise ValueError(
            f"image_mean and image_std have {numbers.size} numbers, and this model reads {channels} channels"
        )
    return numbers[:, None, None]
