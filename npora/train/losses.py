"""A loss that is not the model's own: label smoothing, classes that count more than others, or a user's function.

Every one of them has one form, loss(outputs, labels, num_items_in_batch) → (ℓ, backward) or (ℓ, backward, N). ℓ is a
mean over N labels, num_items_in_batch where nothing else is said, and backward(dℓ=1) → dlogits. A model with such a
loss is called like the model itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from npora.data.collate import IGNORED, LABELS
from npora.data.columns import examples_at
from npora.models.encoder_decoder import up_to_the_last
from npora.models.outputs import SequenceClassifierOutput
from npora.models.tasks import ForCausalLM, LanguageModel
from npora.nn import Module, cross_entropy
from npora.nn.module import Array
from npora.nn.targets import check_targets
from npora.train.arguments import TrainingArguments
from npora.train.batches import base_of
from npora.train.objective import Objective

Loss = Callable[..., Any]
_AT_ONCE = 256  # examples that are asked for together


def with_loss(model: Module, args: TrainingArguments, compute_loss_func: Loss | None, data: Any) -> Module:
    """The model with the loss that the arguments or a function of the user's ask for; itself where they ask for none.

    data : the training set, whose labels "balanced" counts
    """
    weights = args.class_weights
    if compute_loss_func is not None:
        if args.label_smoothing_factor or weights is not None:
            raise ValueError("compute_loss_func is the loss: label_smoothing_factor and class_weights are for others")
        return WithLoss(model, compute_loss_func)
    if not args.label_smoothing_factor and weights is None:
        return model
    base = base_of(model)
    if isinstance(weights, str):
        if data is None:
            raise ValueError("class_weights='balanced' counts the labels of train_dataset, and there is none")
        if isinstance(base, LanguageModel):
            raise ValueError(
                f"class_weights='balanced' is for classifiers, and the labels of a {type(base).__name__} are tokens: "
                "give a number for each of its vocabulary"
            )
        starts = range(0, len(data), _AT_ONCE)
        examples = (example for i in starts for example in examples_at(data, range(i, min(i + _AT_ONCE, len(data)))))
        found = [
            next((example[name] for name in LABELS if example.get(name) is not None), None) for example in examples
        ]
        labels = [label for label in found if label is not None]
        weights = balanced_weights(labels, int(base.config.num_labels))
    return WithLoss(model, ClassificationLoss(args.label_smoothing_factor, weights, isinstance(base, ForCausalLM)))


class WithLoss(Objective):
    """model(…, labels) → (output, backward) with another loss. Without labels it is the model."""

    def __init__(self, model: Module, loss: Loss) -> None:
        super().__init__(model)
        self.loss = loss

    def forward(self, labels: Any = None, rng: Any = None, **inputs: Any) -> tuple[Any, Callable[..., Any]]:
        if labels is None:
            return self.model(**inputs, rng=rng)
        base, labels = base_of(self.model), np.asarray(labels)
        if getattr(base, "is_encoder_decoder", False) and inputs.get("decoder_input_ids") is None:
            inputs["decoder_input_ids"] = base.shift_right(labels)
            if inputs.get("decoder_attention_mask") is None:
                inputs["decoder_attention_mask"] = up_to_the_last(labels != IGNORED)
        elif (mask := inputs.get("attention_mask")) is not None and np.shape(mask) == labels.shape:
            labels = np.where(np.asarray(mask) != 0, labels, IGNORED)
        number = int(((labels[:, 1:] if isinstance(base, ForCausalLM) else labels) != IGNORED).sum())
        output, back_model = self.model(**inputs, rng=rng)
        logits = output.logits
        if not number:
            return SequenceClassifierOutput(np.zeros((), logits.dtype), logits, 0), lambda dloss=1.0: None
        loss, back_loss, number = self._computed(output, labels, number)

        def backward(dloss: Any = 1.0) -> None:
            dlogits = np.asarray(back_loss(dloss))
            if dlogits.shape != logits.shape:
                raise ValueError(
                    f"compute_loss_func: its backward returned a gradient of shape {dlogits.shape}, where the logits "
                    f"have {logits.shape}"
                )
            back_model(dlogits.astype(logits.dtype, copy=False))

        return SequenceClassifierOutput(loss, logits, number), backward

    def _computed(self, output: Any, labels: Array, number: int) -> tuple[Any, Callable[..., Any], Any]:
        found = self.loss(output, labels, num_items_in_batch=number)
        if not (isinstance(found, tuple) and len(found) in (2, 3) and np.ndim(found[0]) == 0 and callable(found[1])):
            raise TypeError(
                "compute_loss_func must return (loss, backward): a number, the mean over num_items_in_batch labels, "
                f"and the function that takes dℓ and returns dlogits; got {type(found).__name__}"
            )
        return found if len(found) == 3 else (*found, number)


class ClassificationLoss:
    """Cross-entropy of each label with the smoothing ε, where a label of the class c counts w_c times:

        ℓ = Σₙ w_{yₙ} ℓₙ / Σₙ w_{yₙ},    ℓₙ = −Σ_v ((1 − ε) [v = yₙ] + ε/V) log pₙ_v

    Without weights it is transformers' LabelSmoother, and without ε torch's cross_entropy(weight=w). Examples of a
    class are taken together, so that ℓ is a mean of means: with N_c examples of it and ℓ_c their mean,

        ℓ = Σ_c w_c N_c ℓ_c / W,  W = Σ_c w_c N_c      (1)
        dz = w_c N_c / W · dℓ_c's, in the examples of c    (2)

    shifted : whether the logits of a token are for the one after it
    """

    def __init__(self, epsilon: float, weights: Sequence[float] | None, shifted: bool) -> None:
        self.epsilon, self.shifted = epsilon, shifted
        self.weights = None if weights is None else [float(weight) for weight in weights]

    def __call__(
        self, outputs: Any, labels: Array, num_items_in_batch: Any = None
    ) -> tuple[Any, Callable[..., Array], float]:
        logits, labels = outputs.logits, np.asarray(labels)
        classes = logits.shape[-1]
        if labels.shape == (*logits.shape[:-1], 1):
            labels = labels[..., 0]
        if labels.shape != logits.shape[:-1] or labels.dtype.kind not in "iu" or classes == 1:
            raise ValueError(
                f"label_smoothing_factor and class_weights are for classes: labels {labels.dtype} of shape "
                f"{labels.shape} are none for logits of shape {logits.shape}"
            )
        if self.weights is not None and len(self.weights) != classes:
            raise ValueError(f"class_weights has {len(self.weights)} numbers, and there are {classes} classes")
        if self.shifted:
            following = np.full_like(labels, IGNORED)
            following[:, :-1] = labels[:, 1:]
            labels = following
        z, targets = logits.reshape(-1, classes), labels.reshape(-1)
        check_targets(z, targets, IGNORED)
        parts = [np.flatnonzero(targets != IGNORED)] if self.weights is None else _labels_of_classes(targets)
        weights = [1.0 if self.weights is None else self.weights[targets[examples[0]]] for examples in parts]
        found = [cross_entropy(z[examples], targets[examples], label_smoothing=self.epsilon) for examples in parts]
        counts = [weight * len(examples) for weight, examples in zip(weights, parts, strict=True)]
        total = sum(counts)  # W
        share = [count / (total or 1.0) for count in counts]

        def backward(dloss: Any = 1.0) -> Array:
            dz = np.zeros_like(z)
            for examples, part, (_, back) in zip(parts, share, found, strict=True):
                dz[examples] = back(dloss * part)  # (2)
            return np.reshape(dz, logits.shape)

        loss = sum((part * value for part, (value, _) in zip(share, found, strict=True)), np.zeros((), z.dtype))  # (1)
        return loss, backward, total


def _labels_of_classes(targets: Array) -> list[Array]:
    return [np.flatnonzero(targets == label) for label in np.unique(targets) if label != IGNORED]


def balanced_weights(labels: Sequence[Any], classes: int) -> list[float]:
    """w_c = N / (V N_c) for N labels of V classes, as scikit-learn's "balanced": so each class counts as much as any
    other, and a label counts once on average. One that no label has counts 0."""
    every = [np.asarray(label).reshape(-1) for label in labels]
    flat = np.concatenate(every) if every else np.zeros(0, np.int64)
    flat = flat[flat != IGNORED]
    if flat.dtype.kind not in "iu" or (flat.size and not 0 <= flat.min() <= flat.max() < classes):
        raise ValueError(f"class_weights='balanced' is for labels 0 … {classes - 1}, and this training set has others")
    counts = np.bincount(flat, minlength=classes)
    return [float(flat.size / (classes * count)) if count else 0.0 for count in counts]
