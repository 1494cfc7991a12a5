"""Training on preferences: of two answers to a prompt one was chosen, under TRL's names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from npora.data import Dataset
from npora.data.columns import LazyExamples, examples_at
from npora.data.fingerprint import fingerprint
from npora.data.preferences import encode_preference
from npora.models.log_probs import sequence_log_probs
from npora.models.outputs import Output
from npora.nn import Module
from npora.nn.evaluating import evaluating
from npora.nn.functional import dpo_loss, odds_ratio_loss
from npora.nn.module import Array
from npora.nn.targets import IGNORED
from npora.train.arguments import TrainingArguments
from npora.train.batches import Example, base_of
from npora.train.evaluation import EvalPrediction
from npora.train.objective import Objective, check_above_zero, refuse_another_loss
from npora.train.progress import Progress
from npora.train.trainer import Trainer

_AT_ONCE = 8  # pairs, where the reference is computed


@dataclass
class PreferenceOutput(Output):
    """loss; logits [b,2], by how much the chosen and the rejected answer were made likelier, or how likely they are;
    num_items, the number of pairs."""

    loss: Any
    logits: Array
    num_items: int = 0


class Pairs(Objective):
    """A language model on pairs of texts that begin alike.

    forward(input_ids [b,t], labels int [b,2], attention_mask [b,t], reference [b,2]): a row of input_ids is the chosen
    text and behind it the rejected one; labels are how many tokens the prompt has, and how many the chosen text, prompt
    included. Both texts of all rows are one packed batch.

    loss : of the log-probabilities y [2b] of the answers, the chosen ones first, how many tokens they have [2b], and
        the reference → (ℓ, logits [b,2], pullback dℓ → dy [2b])
    """

    def __init__(self, model: Module, loss: Callable[..., tuple[Any, Array, Callable[..., Array]]]) -> None:
        super().__init__(model)
        self.loss = loss

    def forward(
        self, input_ids: Array, labels: Array, attention_mask: Array | None = None, reference: Any = None,
        rng: np.random.Generator | None = None,
    ) -> tuple[PreferenceOutput, Callable[..., None]]:  # fmt: skip
        y, counts, back_y = sequence_log_probs(base_of(self.model), *_apart(input_ids, labels, attention_mask), rng)
        loss, logits, back_loss = self.loss(y, counts, reference)

        def backward(dloss: Any = 1.0) -> None:
            back_y(back_loss(dloss))

        return PreferenceOutput(loss, logits, len(logits)), backward


def _apart(input_ids: Array, labels: Array, attention_mask: Array | None) -> tuple[Array, Array, Array]:
    """ids, mask and labels [2b,t] of the chosen texts and then of the rejected, whose prompts are not learnt."""
    lengths = np.full(len(input_ids), input_ids.shape[1]) if attention_mask is None else attention_mask.sum(axis=1)
    texts, prompts = [], [*labels[:, 0], *labels[:, 0]]
    for ids, (_, chosen) in zip(input_ids, labels, strict=True):
        texts.append(ids[:chosen])
    for ids, (prompt, chosen), length in zip(input_ids, labels, lengths, strict=True):
        texts.append(np.concatenate((ids[:prompt], ids[chosen:length])))
    width = max(len(text) for text in texts)
    padded, mask = np.zeros((len(texts), width), np.int64), np.zeros((len(texts), width), np.int64)
    learnt = np.full((len(texts), width), IGNORED)
    for row, (text, prompt) in enumerate(zip(texts, prompts, strict=True)):
        padded[row, : len(text)], mask[row, : len(text)] = text, 1
        learnt[row, prompt : len(text)] = text[prompt:]
    return padded, mask, learnt


def _dpo(
    y: Array, counts: Array, reference: Array, *, beta: float, label_smoothing: float
) -> tuple[Any, Array, Callable[..., Array]]:
    """dpo_loss of the answers; logits are the implicit rewards β (y − y₀)."""
    chosen, rejected = np.split(y, 2)  # [b]
    began = np.asarray(reference, y.dtype)  # [b,2]
    loss, back = dpo_loss(chosen, rejected, began[:, 0], began[:, 1], beta, label_smoothing)
    rewards = beta * (np.stack((chosen, rejected), axis=-1) - began)  # [b,2]
    return loss, rewards, lambda dloss: np.concatenate(back(dloss))


def _orpo(y: Array, counts: Array, reference: None, *, beta: float) -> tuple[Any, Array, Callable[..., Array]]:
    """ℓ = 1/N Σ (−w̄) + β odds_ratio_loss(w̄, l̄), with w̄ and l̄ the mean log-probability of a token of each answer.

        dy = (dw̄, dl̄) / the number of tokens        (1)

    (Hong et al., 2024. A pair counts once however long it is; TRL's first term is a mean over all tokens of a batch.)
    """
    mean = y / counts  # [2b]
    chosen, rejected = np.split(mean, 2)  # [b]
    ratio, back_ratio = odds_ratio_loss(chosen, rejected)

    def backward(dloss: Any) -> Array:
        dchosen, drejected = back_ratio(beta * dloss)
        return np.concatenate((dchosen - dloss / len(chosen), drejected)) / counts  # (1) [2b]

    return beta * ratio - chosen.mean(), np.stack((chosen, rejected), axis=-1), backward


class _PreferenceTrainer(Trainer):
    def __init__(
        self, loss: Callable[..., Any], model: Any, args: TrainingArguments | None, train_dataset: Any,
        eval_dataset: Any, processing_class: Any, max_length: int | None, keywords: Mapping[str, Any],
        kept: bool,
    ) -> None:  # fmt: skip
        refuse_another_loss(self, args, keywords)
        tokenizer = keywords.get("tokenizer") if processing_class is None else processing_class
        prepare = partial(_prepared, model=model, tokenizer=tokenizer, max_length=max_length, kept=kept)
        if isinstance(eval_dataset, Mapping):
            eval_dataset = {name: prepare(data) for name, data in eval_dataset.items()}
        elif eval_dataset is not None:
            eval_dataset = prepare(eval_dataset)
        train_dataset = None if train_dataset is None else prepare(train_dataset)
        super().__init__(
            model, args, train_dataset, eval_dataset, processing_class, **{"compute_metrics": preferred, **keywords}
        )
        self._compute_loss, self._objective = loss, Pairs(model, loss)
        self._batches.names |= {"reference"} if kept else set()


class DPOTrainer(_PreferenceTrainer):
    """Trains a causal language model so that it finds the chosen answer likelier than the rejected one, by more than
    the model that it began as does (Rafailov et al., 2023).

    train_dataset, eval_dataset : dicts of `prompt`, `chosen` and `rejected`: texts, or lists of messages where the
        tokenizer has a chat template; or what data.encode_preference made of them. What the model that is begun with
        finds of both answers is computed once, when the trainer is made: below an adapter it is the base, without a
        copy of it
    beta, label_smoothing : as of nn.functional.dpo_loss
    max_length : the most tokens of prompt and answer; a longer prompt loses its beginning
    keywords : Trainer's

    evaluate() has the share of pairs whose chosen answer has the higher reward, and the mean difference of the two.

    Raises
    ------
    ValueError: an example without the three columns, or an answer without a token; another loss besides; a beta that is
    not above 0; no tokenizer.  TypeError: a model that is no causal language model.
    """

    def __init__(
        self,
        model: Module,
        args: TrainingArguments | None = None,
        train_dataset: Sequence[Example] | None = None,
        eval_dataset: Sequence[Example] | Mapping[str, Sequence[Example]] | None = None,
        processing_class: Any = None,
        *,
        beta: float = 0.1,
        label_smoothing: float = 0.0,
        max_length: int | None = None,
        **keywords: Any,
    ) -> None:
        check_above_zero(beta=beta)
        loss = partial(_dpo, beta=beta, label_smoothing=label_smoothing)
        super().__init__(
            loss, model, args, train_dataset, eval_dataset, processing_class, max_length, keywords, kept=True
        )


class ORPOTrainer(_PreferenceTrainer):
    """As DPOTrainer, without a reference: the chosen answer is learnt, and its odds are held above the rejected one's
    (Hong et al., 2024).

    beta : λ, the weight of the odds beside the chosen answer's own loss
    """

    def __init__(
        self,
        model: Module,
        args: TrainingArguments | None = None,
        train_dataset: Sequence[Example] | None = None,
        eval_dataset: Sequence[Example] | Mapping[str, Sequence[Example]] | None = None,
        processing_class: Any = None,
        *,
        beta: float = 0.1,
        max_length: int | None = None,
        **keywords: Any,
    ) -> None:
        check_above_zero(beta=beta)
        loss = partial(_orpo, beta=beta)
        super().__init__(
            loss, model, args, train_dataset, eval_dataset, processing_class, max_length, keywords, kept=False
        )


def preferred(prediction: EvalPrediction) -> dict[str, float]:
    """How often the chosen answer is ahead, and by how much on average."""
    margins = prediction.predictions[:, 0] - prediction.predictions[:, 1]
    return {"rewards/accuracies": float((margins > 0).mean()), "rewards/margins": float(margins.mean())}


def _prepared(data: Any, model: Any, tokenizer: Any, max_length: int | None, kept: bool) -> Any:
    """The examples as Pairs is given them; those that are encoded are taken as they are."""
    is_encoded = len(data) and isinstance(data[0], Mapping) and "input_ids" in data[0]
    if not is_encoded and tokenizer is None:
        raise ValueError("texts need a tokenizer: pass it as processing_class")
    pairs = data if is_encoded else Dataset(_encoded(e, i, tokenizer, max_length) for i, e in enumerate(data))
    if not kept:
        return pairs
    progress = Progress(len(pairs), "example")
    found: list[list[float]] = []
    for start in range(0, len(pairs), _AT_ONCE):
        found += _reference(model, examples_at(pairs, range(start, min(start + _AT_ONCE, len(pairs)))))
        progress.step(len(found))
    progress.close()
    return Dataset(Referenced(pairs, found))


class Referenced(LazyExamples):
    """Examples, and what the model that is begun with finds of each, which follows from them and the model."""

    def __init__(self, examples: Sequence[Example], reference: Sequence[Sequence[float]]) -> None:
        self.examples, self.reference = examples, reference

    def __len__(self) -> int:
        return len(self.examples)

    def __getitems__(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        found = zip(examples_at(self.examples, numbers), numbers, strict=True)
        return [{**example, "reference": list(self.reference[number])} for example, number in found]

    def fingerprint(self) -> dict[str, Any]:
        """That of the examples: a run knows its model by itself."""
        return fingerprint(self.examples)

    def take(self, numbers: Iterable[int]) -> LazyExamples:
        chosen = [int(number) for number in numbers]
        return Referenced(examples_at(self.examples, chosen), [self.reference[number] for number in chosen])


def _encoded(example: Any, number: int, tokenizer: Any, max_length: int | None) -> dict[str, list[int]]:
    try:
        return encode_preference(tokenizer, example, max_length)
    except ValueError as error:
        raise ValueError(f"example {number}: {error}") from None


def _reference(model: Any, pairs: Sequence[Example]) -> list[list[float]]:
    """[b,2], the log-probabilities of both answers under the model with its adapters off."""
    off = model.disable_adapter() if hasattr(model, "disable_adapter") else nullcontext()
    width = max(len(pair["input_ids"]) for pair in pairs)
    ids, mask = np.zeros((len(pairs), width), np.int64), np.zeros((len(pairs), width), np.int64)
    for row, pair in enumerate(pairs):
        ids[row, : len(pair["input_ids"])], mask[row, : len(pair["input_ids"])] = pair["input_ids"], 1
    labels = np.array([pair["labels"] for pair in pairs])
    with off, evaluating(model):
        y, _, _ = sequence_log_probs(base_of(model), *_apart(ids, labels, mask))
    return [[float(chosen), float(rejected)] for chosen, rejected in zip(*np.split(y, 2), strict=True)]  # [2b] → [b,2]
