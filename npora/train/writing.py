"""What a model writes for the examples of an evaluation, in the place of logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from npora.nn import Module
from npora.nn.module import Array
from npora.train.arguments import TrainingArguments
from npora.train.batches import Batch, base_of


class Writer:
    """batch ↦ the tokens [b,t] that the model's generate gives for it, which begin with the decoder's start token."""

    def __init__(self, model: Any, options: Mapping[str, Any], pad_token_id: int) -> None:
        self.model, self.options, self.pad_token_id = model, dict(options), pad_token_id

    def __call__(self, batch: Batch) -> Array:
        given = {name: batch[name] for name in ("input_ids", "attention_mask") if name in batch}
        return np.asarray(self.model.generate(**given, **self.options))


def writer(model: Module, args: TrainingArguments, gen_kwargs: Mapping[str, Any], pad_token_id: int) -> Writer | None:
    """With predict_with_generate a Writer. Its options are gen_kwargs, where these say nothing generation_max_length
    and generation_num_beams, then the model's generation_config.

    Raises
    ------
    TypeError: gen_kwargs without predict_with_generate.  ValueError: no encoder-decoder.
    """
    if not args.predict_with_generate:
        if gen_kwargs:
            raise TypeError(f"{', '.join(gen_kwargs)}: options of generate need predict_with_generate=True")
        return None
    if not getattr(base_of(model), "is_encoder_decoder", False):
        raise ValueError(
            "predict_with_generate is for encoder-decoders: the examples of other models hold what they should write; "
            "call generate with prompts"
        )
    options = {name: value for name, value in gen_kwargs.items() if value is not None}
    if args.generation_max_length is not None and not {"max_length", "max_new_tokens"} & options.keys():
        options["max_length"] = args.generation_max_length
    if args.generation_num_beams is not None:
        options.setdefault("num_beams", args.generation_num_beams)
    return Writer(model, options, pad_token_id)
