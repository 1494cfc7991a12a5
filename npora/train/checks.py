"""What Trainer can train: npora's models, with something trainable that the loss depends on."""

from __future__ import annotations

from collections.abc import Sequence

from npora.nn import Module
from npora.nn.module import Parameter
from npora.train.arguments import TrainingArguments
from npora.train.state import trainable


def check_kinds(model: object, args: object) -> None:
    """Raise TypeError for a model or arguments of another library, or in each other's place."""
    for given, kind in ((model, Module), (args, TrainingArguments)):
        if given is not None and not isinstance(given, kind):
            came = f"{type(given).__module__}.{type(given).__qualname__}"
            raise TypeError(f"Trainer takes npora's {kind.__name__}; got a {came}")


def check_trainable(model: Module) -> None:
    """Raise ValueError where nothing of the model is trainable, or its adapter is merged."""
    if not trainable(model):
        raise ValueError(
            "the model has no trainable parameter: load the adapter with is_trainable=True, or call get_peft_model"
        )
    for path, module in model.named_modules():
        if getattr(module, "merged_adapters", None):
            raise ValueError(f"the adapter is merged in {path}: call unmerge_adapter() before training")


def check_reached(parameters: Sequence[Parameter]) -> None:
    """Raise ValueError where a backward of the loss has reached none of these."""
    if all(parameter.grad is None for parameter in parameters):
        raise ValueError(
            "there is nothing to learn: the loss depends on no trainable parameter. Is the adapter switched off "
            "(disable_adapter()), or on layers that this model's loss does not come from?"
        )
