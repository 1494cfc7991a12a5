"""from_pretrained: a model from a Hugging Face directory."""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt

from npora.files import load_file
from npora.models.bert import BertForSequenceClassification
from npora.models.checkpoint import load_checkpoint
from npora.models.config import BertConfig, read_config
from npora.nn import init


class AutoModelForSequenceClassification:
    """Chooses the model by `config.json`."""

    @classmethod
    def from_pretrained(
        cls,
        directory: str | os.PathLike[str],
        num_labels: int | None = None,
        dtype: npt.DTypeLike = np.float32,
        seed: int = 42,
    ) -> BertForSequenceClassification:
        """Read `config.json` and `model.safetensors`.

        num_labels : the size of the head; what the config says (else 2) unless given
        dtype : float32 or float64. In float32 the weights stay read-only memory maps until something trains them
        seed : draws a head that the checkpoint lacks

        Raises
        ------
        FileNotFoundError, ValueError: a file that is missing or broken, a model type that npora does not know, tensors
        that are missing or of another shape.
        """
        if np.dtype(dtype) not in (np.float32, np.float64):
            raise ValueError(f"dtype must be float32 or float64; got {np.dtype(dtype)}")
        values = read_config(directory)
        if num_labels is not None:
            values["num_labels"] = num_labels
        config = BertConfig.from_dict(values)
        model = BertForSequenceClassification(config, rng=init.Blank(), dtype=dtype)
        tensors = load_file(os.path.join(directory, "model.safetensors"))
        load_checkpoint(model, tensors, "bert", ("classifier.", "bert.pooler."), seed)
        model.name_or_path = os.fspath(directory)
        return model
