"""Sentence embeddings (Reimers and Gurevych, 2019): one vector of all of a text's rows, over any body."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar

import numpy as np

from npora.models.auto import FAMILIES, AutoModel, Classes, tasks_of
from npora.models.body import Body, Rng
from npora.models.outputs import Output
from npora.models.pretrained import PretrainedModel
from npora.models.sentence_transformers import EmbeddingForm, read_form, write_form
from npora.models.tokens import Tokens
from npora.nn.evaluating import evaluating
from npora.nn.module import Array
from npora.nn.packing import mean_of_sequences
from npora.nn.similarity import unit

_OF_TEXTS = ("TokenClassification", "CausalLM")  # tasks whose body reads every row, the first that a family has


@dataclass
class SentenceEmbeddingOutput(Output):
    """sentence_embedding [b,m]."""

    sentence_embedding: Array


class SentenceEmbedding(Body):
    """A body whose rows become one vector for each text, as `form` says.

    It has the body's parameters under the body's names, and no others, so that an adapter is one of the body's.
    forward(input_ids [b,t], attention_mask [b,t], …) returns sentence_embedding e [b,m]; backward(de). With the rows h:

        y = the mean of a text's h, its first or its last; e = y, or y / |y|        (1)
    """

    form: EmbeddingForm = EmbeddingForm()
    body_options: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, config: Any, **options: Any) -> None:
        super().__init__(config, **{**self.body_options, **options})  # type: ignore[call-arg]

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike[str],
        *args: Any,
        pooling: str | None = None,
        normalize: bool | None = None,
        **options: Any,
    ) -> Any:
        """As PretrainedModel.from_pretrained.

        pooling, normalize : mean, cls or lasttoken; whether to length 1; what modules.json says unless given, and where
            there is none, the mean as it is. With both given the file is not looked at
        """
        model = super().from_pretrained(name_or_path, *args, **options)
        assert model.folder is not None, "it came from a folder"
        form = EmbeddingForm() if None not in (pooling, normalize) else read_form(model.folder)
        given: dict[str, Any] = {"pooling": pooling, "normalize": normalize}
        model.form = replace(form, **{name: value for name, value in given.items() if value is not None})
        return model

    def save_pretrained(self, directory: str | os.PathLike[str], **keywords: Any) -> None:
        """As PretrainedModel.save_pretrained, with the files that sentence-transformers reads the form from."""
        super().save_pretrained(directory, **keywords)
        write_form(directory, self.form, self.width)

    @property
    def width(self) -> int:
        """m, how long a vector is."""
        names = ("hidden_size", "d_model", "n_embd", "dim")  # as families call it
        return next(int(getattr(self.config, name)) for name in names if hasattr(self.config, name))

    def of_tokens(self, tokens: Tokens, rng: Rng = None) -> tuple[SentenceEmbeddingOutput, Callable[[Array], None]]:
        e, backward = self.sentence_embeddings(tokens, rng)
        return SentenceEmbeddingOutput(e), backward

    def sentence_embeddings(self, tokens: Tokens, rng: Rng = None) -> tuple[Array, Callable[[Array], None]]:
        """e [b,m] of packed texts, and its pullback."""
        packing = tokens.packing
        read = {"cls": packing.first_rows, "lasttoken": packing.last_rows}.get(self.form.pooling)
        h, back_body = self.read_rows(tokens, rng, None if read is None else read())  # [n,m] or [b,m]
        y, back_pool = mean_of_sequences(h, packing) if read is None else (h, lambda dy: dy)  # [b,m]
        e, back_unit = unit(y) if self.form.normalize else (y, lambda de: de)  # (1)
        return e, lambda de: back_body(back_pool(back_unit(de)))

    def encode(
        self, sentences: str | Sequence[str], tokenizer: Any, batch_size: int = 32, max_length: int | None = None
    ) -> Array:
        """e [n,m] of the texts, or [m] of one, without dropout. The longest are computed together.

        max_length : of tokens, where texts are cut; what the form says unless given

        Raises
        ------
        TypeError: a sentence that is no string.  ValueError: a batch_size below 1, or a text that is longer than the
        model takes.
        """
        texts = [sentences] if isinstance(sentences, str) else list(sentences)
        if others := [text for text in texts if not isinstance(text, str)]:
            raise TypeError(f"a sentence is a string; got a {type(others[0]).__name__}")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1; got {batch_size}")
        most = self.form.max_seq_length if max_length is None else max_length
        ids = [tokenizer(text, truncation=most is not None, max_length=most)["input_ids"] for text in texts]
        order = np.argsort([-len(own) for own in ids], kind="stable")
        with evaluating(self):
            found = [
                self.sentence_embeddings(self.packed([ids[i] for i in order[start : start + batch_size]]))[0]
                for start in range(0, len(order), batch_size)
            ]
        e = np.concatenate([*found, np.zeros((0, self.width), np.float32)])[np.argsort(order)]  # [n,m]
        return e[0] if isinstance(sentences, str) else e

    def packed(self, texts: Sequence[Sequence[int]]) -> Tokens:
        """Lists of ids as a body reads them. Raises ValueError where one has no token."""
        lengths = np.array([len(text) for text in texts])
        if not lengths.all():
            raise ValueError(f"text {int(lengths.argmin())} has no token, and so no embedding")
        mask = np.arange(lengths.max()) < lengths[:, None]  # [b,t]
        ids = np.zeros(mask.shape, np.int64)
        ids[mask] = np.concatenate([np.asarray(text, np.int64) for text in texts])  # [n]
        return self.tokens(ids, mask)


@cache
def embedding_class(model_type: str) -> type[PretrainedModel]:
    """The class of a family's sentence embeddings: over the body that classifies tokens, under that body's name, which
    is what files are to say of it. An encoder-decoder's is its encoder."""
    tasks: Mapping[str, Any] = tasks_of(model_type)
    head = next(tasks[task] for task in _OF_TEXTS if task in tasks)
    body, options = head.body_class, dict(head.body_options)
    passed_over = (*body.ignored, "pooler.dense.weight", "pooler.dense.bias")
    own = {"body_options": options, "ignored": passed_over, "__module__": __name__}
    return type(body.__name__, (SentenceEmbedding, body), own)


class _Embedders(Classes):
    def __getitem__(self, model_type: str) -> type[PretrainedModel]:
        if model_type not in iter(self):
            raise KeyError(model_type)
        return embedding_class(model_type)

    def __iter__(self) -> Iterator[str]:
        return (model_type for model_type in FAMILIES if {*tasks_of(model_type)} & {*_OF_TEXTS})


class AutoModelForSentenceEmbedding(AutoModel):
    """Every family's body, with one vector for each text. from_pretrained takes pooling and normalize besides."""

    classes: ClassVar = _Embedders("SentenceEmbedding")
