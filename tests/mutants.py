"""Which files are mutated, what judges them, and which mutants may survive, with the reason.

Imports nothing of npora before `judges` is called: the mutant must be in its place by then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

LAYERS = [f"npora/nn/{name}.py" for name in ("linear", "embedding", "norm", "dropout", "softmax", "activation", "erf",
          "loss", "scaled_attention", "attention", "packing")]  # fmt: skip
FILES = [*LAYERS, "npora/lora/linear.py", "npora/models/bert.py",
         "npora/optim/sgd.py", "npora/optim/adam.py", "npora/optim/clip.py", "npora/optim/schedule.py"]  # fmt: skip


def judges(path: str) -> Iterator[Callable[[], None]]:
    """The checks that a mutant of this file must fail, quickest first."""
    if path.startswith("npora/optim"):
        yield from _optimizers()
        return
    from tests import test_contracts as contracts
    from tests.contracts import CASES

    by_case = [
        contracts.test_the_imaginary_part_of_a_complex_step_is_the_derivative,
        contracts.test_two_forwards_then_two_backwards_in_either_order_give_the_same_bits,
        contracts.test_backward_is_linear_in_the_upstream_gradient,
    ]
    by_module = [
        contracts.test_gradients_of_two_uses_add,
        contracts.test_a_frozen_layer_passes_the_same_gradient_on_and_keeps_its_bytes,
        contracts.test_a_checkpointed_layer_gives_the_same_bits,
        contracts.test_a_state_dict_round_trips,
    ]
    from npora.nn import Module

    cases = [case for case in CASES if case.name]
    modules = [case for case in cases if isinstance(case.build(), Module)]
    for test in by_case:
        yield from (partial(test, case) for case in cases)
    for test in by_module:
        yield from (partial(test, case) for case in modules)
    import numpy as np

    for dtype in (np.float32, np.float64, np.complex128):
        yield from (partial(contracts.test_outputs_and_gradients_have_the_dtype_of_the_inputs, c, dtype) for c in cases)
    for leading in ((), (0,), (6,), (2, 3)):
        yield from (
            partial(contracts.test_row_wise_layers_take_any_leading_axes, case, leading)
            for case in cases
            if case.row_wise
        )
    yield from _properties()
    yield from (
        partial(contracts.test_the_pullback_agrees_with_central_differences_and_the_dot_product, case, 0)
        for case in cases
        if not case.whole_model
    )


def _tests_of(module: object) -> Iterator[Callable[[], None]]:
    """The tests of a module that take no fixture."""
    import inspect

    for name, function in vars(module).items():
        if name.startswith("test_") and not inspect.signature(function).parameters:
            yield function


def _properties() -> Iterator[Callable[[], None]]:
    from tests.lora import test_linear
    from tests.models import test_bert, test_checkpoint
    from tests.nn import test_erf, test_values
    from tests.properties import test_attention, test_gradients, test_lora

    for module in (
        test_values,
        test_erf,
        test_linear,
        test_bert,
        test_checkpoint,
        test_lora,
        test_attention,
        test_gradients,
    ):
        yield from _tests_of(module)


def _optimizers() -> Iterator[Callable[[], None]]:
    from tests.optim import test_clip_and_schedule, test_optimizers

    for make in test_optimizers.MAKERS.values():
        for test in (
            test_optimizers.test_frozen_parameters_and_those_without_a_gradient_are_left_alone,
            test_optimizers.test_updates_are_in_place_and_keep_the_dtype_and_the_gradient,
            test_optimizers.test_a_saved_and_loaded_state_goes_on_with_the_same_bits,
            test_optimizers.test_mirrored_gradients_give_mirrored_steps,
        ):
            yield partial(test, make)
    for module in (test_optimizers, test_clip_and_schedule):
        yield from _tests_of(module)


SURVIVORS: dict[str, str] = {}
