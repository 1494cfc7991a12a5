"""The tasks, each written once for every family: what is read of a body's rows, the head on them, and the loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial, reduce
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from npora.models.body import Back, Body, Rng, told
from npora.models.generate.generation import GenerationMixin
from npora.models.losses import (
    language_modeling,
    language_modeling_loss,
    loss_beside_logits,
    sequence_classification,
    token_classification,
)
from npora.models.options import refuse_of_calling
from npora.models.outputs import LanguageModelOutput, SequenceClassifierOutput, TokenClassifierOutput
from npora.models.pretrained import Factory, PretrainedModel
from npora.models.tokens import (
    Memory,
    Tokens,
    first_token_rows,
    last_token_rows,
    next_token_targets,
    token_targets,
)
from npora.nn import Cache, Dropout, Embedding, Linear, Module, Packing, Parameter, init
from npora.nn.evaluating import evaluating
from npora.nn.init import Source
from npora.nn.module import Array, Pullback
from npora.nn.residual import chain
from npora.nn.targets import IGNORED


class Headed(PretrainedModel):
    """A body, in the attribute that its `base_model_prefix` names, and a task's head on its rows.

    A family gives its `body_class`, from which come config, prefix, default targets and ignored keys, and writes the
    hooks of its task, where they are not the usual ones:

    task(tokens, labels, rng) : the output and its pullback, for a task
    add_head(config, make) : makes the head's layers, as attributes
    num_logits(config) : of its last layer; as many as there are classes
    head(h, rng) : from the rows that are read to logits (a class), by the layer that `head_name` names, or to what is
        projected to the vocabulary (a token), by the layer that `output_embeddings` names
    pack(input_ids, attention_mask, …) : the tokens that the body reads
    read(tokens) : which of their rows a class is read from; None for all
    targets(labels, padding) : each row's target, of a task that has labels for tokens
    """

    task_name: ClassVar[str] = ""  # by which AutoModelFor… asks for it
    head_name: ClassVar[str] = ""  # of a layer that checkpoints may lack
    body_class: ClassVar[type[Body]]
    inputs: ClassVar[tuple[str, ...]]  # the arrays, by name, that forward takes: the body's, and labels
    body_options: ClassVar[dict[str, Any]] = {}  # what it is made with
    options: ClassVar[tuple[str, ...]] = ()  # of its task
    label_names: ClassVar[tuple[str, ...]] = ("labels",)  # columns of a data set that are its labels, side by side

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if body := vars(cls).get("body_class"):
            for name in ("config_class", "base_model_prefix", "default_target_modules", "ignored", "renamed"):
                if name not in vars(cls):
                    setattr(cls, name, getattr(body, name))
            if "inputs" not in vars(cls):
                cls.inputs = (*body.inputs, "labels")
            if cls.head_name and not cls.may_lack:
                cls.may_lack = (f"{cls.head_name}.",)

    def __init__(self, config: Any, *, rng: Source | int | None = None, dtype: npt.DTypeLike = np.float32) -> None:
        rng = init.default_rng(rng)
        self.config = config
        body: Any = self.body_class
        setattr(self, self.base_model_prefix, body(config, rng=rng, dtype=dtype, **self.body_options))
        self.add_head(config, Factory(rng, dtype, config.initializer_range))

    def add_head(self, config: Any, make: Factory) -> None:
        raise NotImplementedError(f"{type(self).__name__} has no head")

    def num_logits(self, config: Any) -> int:
        return int(config.num_labels)

    def head(self, h: Array, rng: Rng = None) -> tuple[Array, Pullback]:
        layer: Module = getattr(self, self.head_name)
        return layer(h, rng)

    def logits(self, h: Array, rng: Rng = None) -> tuple[Array, Pullback]:
        """Of the rows that are read, what classes are chosen by: a place for a family whose files call a layer head."""
        return self.head(h, rng)

    def scores(self, tokens: Tokens, rng: Rng = None) -> tuple[Array, Back]:
        """The logits [k,v] of the rows that are read, and the pullback."""
        h, back_body = self.body.read_rows(tokens, rng, self.read(tokens))  # [k,m]
        logits, back_head = self.logits(h, rng)  # [k,v]
        return logits, lambda dlogits: back_body(back_head(dlogits))

    def read(self, tokens: Tokens) -> Array | None:
        return None

    @property
    def body(self) -> Any:
        return getattr(self, self.base_model_prefix)

    def forward(
        self,
        input_ids: npt.ArrayLike | None = None,
        attention_mask: npt.ArrayLike | None = None,
        token_type_ids: npt.ArrayLike | None = None,
        *,
        position_ids: npt.ArrayLike | None = None,
        inputs_embeds: npt.ArrayLike | None = None,
        labels: npt.ArrayLike | None = None,
        rng: Rng = None,
        output_hidden_states: bool = False,
        **options: Any,
    ) -> tuple[Any, Callable[..., Any]]:
        """The batch packed, once, and what the task makes of it; options are the task's own. Raises TypeError for a
        keyword that it has not."""
        others = {name: value for name, value in options.items() if name not in self.options}
        refuse_of_calling(type(self).__name__, others, (*self.inputs, *self.options))
        options = {name: options[name] for name in self.options if name in options}
        tokens = self.pack(
            input_ids, attention_mask, token_type_ids=token_type_ids, position_ids=position_ids,
            inputs_embeds=inputs_embeds, output_hidden_states=output_hidden_states,
        )  # fmt: skip
        return told(*self.task(tokens, labels, rng, **options), tokens)

    def pack(self, input_ids: npt.ArrayLike | None, attention_mask: npt.ArrayLike | None, **others: Any) -> Tokens:
        return self.body.tokens(input_ids, attention_mask, **others)

    def task(self, tokens: Tokens, labels: npt.ArrayLike | None, rng: Rng = None) -> tuple[Any, Callable[..., Any]]:
        raise NotImplementedError(f"{type(self).__name__} has no task")


class ForSequenceClassification(Headed):
    """A class for each sequence, or numbers.

    forward(input_ids [b,t], attention_mask [b,t], …, labels) returns loss and logits [b,v]. The loss is what
    `config.problem_type` says. With labels, backward(dloss=1) adds the gradient of every trainable parameter; without
    them, backward(dlogits) does.
    """

    task_name, head_name = "SequenceClassification", "classifier"

    def task(
        self, tokens: Tokens, labels: npt.ArrayLike | None, rng: Rng = None
    ) -> tuple[SequenceClassifierOutput, Callable[..., None]]:
        return sequence_classification(*self.scores(tokens, rng), labels, self.config.problem_type)

    def read(self, tokens: Tokens) -> Array:
        """int [b]: each sequence's first row, as encoders are trained."""
        return first_token_rows(tokens)


class ScoredSequences(ForSequenceClassification):
    """A decoder's: `score`, a linear head, on each sequence's last token, which is the last that the attention mask
    shows, or without one the rightmost that is not `config.pad_token_id`."""

    head_name = "score"

    def add_head(self, config: Any, make: Factory) -> None:
        self.score: Module = make.linear(config.hidden_size, config.num_labels, bias=False)

    def read(self, tokens: Tokens) -> Array:
        return last_token_rows(tokens, self.config.pad_token_id)


class ForTokenClassification(Headed):
    """A class for each token.

    forward(input_ids [b,t], attention_mask [b,t], …, labels [b,t]) returns loss and logits [b,t,v]; labels are −100
    where there is none. With labels, backward(dloss=1); without, backward(dlogits).
    """

    task_name, head_name = "TokenClassification", "classifier"

    def task(
        self, tokens: Tokens, labels: npt.ArrayLike | None, rng: Rng = None
    ) -> tuple[TokenClassifierOutput, Callable[..., None]]:
        return token_classification(*self.scores(tokens, rng), tokens.of_the_batch, labels)


class ScoredTokens(ForTokenClassification):
    """A linear head on every token, behind dropout: a decoder's `score`, or as `head_name` says."""

    head_name = "score"

    def add_head(self, config: Any, make: Factory) -> None:
        said = (getattr(config, name, None) for name in ("head_dropout", "classifier_dropout", "hidden_dropout"))
        self.dropout = Dropout(next((p for p in said if p is not None), 0.1))
        setattr(self, self.head_name, make.linear(config.hidden_size, config.num_labels))

    def head(self, h: Array, rng: Rng = None) -> tuple[Array, Pullback]:
        return chain(partial(self.dropout, rng=rng), partial(super().head, rng=rng))(h)  # [n,m] → [n,v]


class LanguageModel(Headed):
    """Tokens for tokens.

    forward(input_ids [b,t], attention_mask [b,t], …, labels [b,t]) returns loss and logits [b,t,v]; labels are −100
    where nothing is to be learnt. With labels, backward(dloss=1) adds the gradient of every trainable parameter;
    without them, backward(dlogits) does.

    A loss reads the rows that have a label, and the last layer computes only those. Beside it the logits of all rows
    are computed when they are first asked for, by another forward pass, without dropout and with the parameters of
    then; with all_logits=True they are computed at once, those that the loss saw.
    """

    options: ClassVar[tuple[str, ...]] = ("all_logits",)

    def task(
        self, tokens: Tokens, labels: npt.ArrayLike | None, rng: Rng = None, all_logits: bool = False
    ) -> tuple[LanguageModelOutput, Callable[..., None]]:
        padding, decoder = tokens.of_the_batch, self.unembedding()
        targets = None if labels is None else self.targets(labels, padding)  # [n]
        read = None if targets is None or all_logits else np.flatnonzero(targets != IGNORED)  # [k]
        h, back_body = self.body.read_rows(tokens, rng, read)  # [k,m]
        z, back_head = self.head(h, rng)

        def back_z(dz: Array) -> None:
            back_body(back_head(dz))

        if targets is None:
            return language_modeling(z, back_z, decoder, padding, rng)
        if read is None:
            return loss_beside_logits(z, back_z, decoder, padding, targets, rng)
        return language_modeling_loss(z, back_z, decoder, targets[read], partial(self._logits, tokens), rng)

    def _logits(self, tokens: Tokens) -> Array:
        """[b,t,v], without labels and dropout."""
        with evaluating(self):
            output, _ = self.task(replace(tokens, hidden=None), None)
            return output.logits

    def unembedding(self) -> Any:
        """The projection to the vocabulary, which `output_embeddings` names."""
        return reduce(getattr, (self.output_embeddings or "").split("."), self)

    def targets(self, labels: npt.ArrayLike, padding: Any) -> Array:
        """int [n], each row's target: its own label."""
        return token_targets(labels, padding)


class ForMaskedLM(LanguageModel):
    """Tokens behind masks, each from all the others (Devlin et al., 2018). Labels are those tokens, −100 elsewhere."""

    task_name = "MaskedLM"

    def idle_parameters(self) -> dict[str, slice]:
        """The bias beside a projection that is not tied, which has one of its own."""
        beside, _, _ = (self.output_embeddings or "").rpartition(".")
        return {} if self.config.tie_word_embeddings or not beside else {f"{beside}.bias": slice(None)}


class Writing(GenerationMixin, LanguageModel):
    """What writes one token after another.

    The projection `lm_head` is the token embedding itself where `config.tie_word_embeddings`, else a matrix of its own.
    """

    output_embeddings = "lm_head"

    def add_head(self, config: Any, make: Factory) -> None:
        self.lm_head: Module = projection(self.body.embedding(), config.tie_word_embeddings, make)

    def head(self, h: Array, rng: Rng = None) -> tuple[Array, Pullback]:
        return h, lambda dh: dh

    def next_logits(self, ids: Array, packing: Packing, cache: Cache, memory: Memory | None = None) -> Array:
        """Logits [b,v] of the token after each sequence, whose rows are those in the cache and then `ids` [n].

        memory : what a decoder reads beside them, of which the cache keeps what the first call makes
        """
        tokens = Tokens(ids, packing, position_ids=cache.positions(packing), source=memory)
        h, _ = self.body.rows(tokens, read=packing.last_rows(), cache=cache)  # [b,m]
        z, _ = self.head(h)
        return self.unembedding()(z)[0]


class ForCausalLM(Writing):
    """The next token. The logits of a token are for the one after it, and labels are the tokens themselves."""

    task_name = "CausalLM"

    def targets(self, labels: npt.ArrayLike, padding: Any) -> Array:
        """int [n], each row's target: the label of the column after it."""
        return next_token_targets(labels, padding)


def masked_projection(embedding: Embedding, bias: Parameter, config: Any, make: Factory) -> Linear:
    """The projection of a masked language model: with `bias` where `config.tie_word_embeddings`, else with a matrix and
    a bias of its own. `bias` is in the files then too, as in transformers, and goes unused."""
    tied = config.tie_word_embeddings
    return projection(embedding, tied, make, bias if tied else Parameter(np.zeros_like(bias.data)))


def projection(embedding: Embedding, tied: bool, make: Factory, bias: Parameter | None = None) -> Linear:
    """The projection to the vocabulary: where tied, of the embedding's own Parameter, which sums the gradients of both
    uses; else of a new one."""
    v, m = embedding.weight.shape
    if tied:
        make = Factory(init.Unset(), make.dtype, make.std)
    head = make.linear(m, v, bias=False)
    if tied:
        head.weight = embedding.weight
    head.bias = bias
    return head
