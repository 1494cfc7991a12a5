"""Exercises: what is right is called right, what students write by mistake is called wrong, and by its name."""

from __future__ import annotations

import re

import numpy as np
import pytest

from npora.nn import LayerNorm, Linear, RMSNorm
from npora.nn import functional as F
from npora.study import exercise
from npora.study.exercises import EXERCISES, THEMES, Exercise
from npora.study.exercises.declared import LEGEND, LETTERS, SIZES
from npora.study.sheet import page
from tests.study import wrong_attention, wrong_comparisons, wrong_elements, wrong_rows, wrong_training
from tests.study.answers import WRONG, Wrong

# Each enters its answers.
assert all((wrong_attention, wrong_comparisons, wrong_elements, wrong_rows, wrong_training))
each = pytest.mark.parametrize("member", EXERCISES.values(), ids=lambda member: member.name)


@each
def test_the_solution_is_right(member: Exercise) -> None:
    outcome = exercise.check(member.name, member.solution)
    assert outcome and outcome.code == 0, outcome


@pytest.mark.parametrize("name", EXERCISES)
def test_a_wrong_answer_is_wrong_and_named(name: str) -> None:
    answers = [answer for answer in WRONG if answer.exercise == name]
    assert len(answers) >= 5
    for answer in answers:
        outcome = exercise.check(name, answer.function)
        said = " ".join(outcome.says)
        assert outcome.code > 0 and any(words in said for words in answer.says), f"{answer.mistake}: {outcome}"


def test_wrong_answers_are_of_exercises() -> None:
    assert {answer.exercise for answer in WRONG} == set(EXERCISES) and all(isinstance(a, Wrong) for a in WRONG)


@each
def test_the_sizes_of_its_axes_differ_and_none_is_one(member: Exercise) -> None:
    letters = {letter for argument in member.arguments.values() for letter in argument.axes.split()}
    sizes = [SIZES[letter] for letter in letters | set(member.dy.split())]
    if member.name == "packing":
        sizes.remove(SIZES["n"])  # which is how many of b·t are there
    assert len(set(sizes)) == len(sizes) and min(sizes, default=2) > 1


@each
def test_a_file_of_it_is_python_that_says_all_that_it_takes(member: Exercise) -> None:
    text = exercise.statement(member.name)
    names: dict[str, object] = {}
    exec(compile(text, "sheet", "exec"), names)
    inputs, constants = member.draw(0)
    if member.forward:
        found = names[member.name](*inputs, **constants)  # type: ignore[operator]
        assert np.array_equal(found, member.forward(*inputs, **constants))
    with pytest.raises(NotImplementedError):
        names[member.hole](*((None,) if member.forward else ()), *inputs, **constants)  # type: ignore[operator]
    assert ": Array" not in text and all(len(line) <= 120 for line in text.splitlines())
    if member.forward:
        shapes = re.sub(r" bool| int", "", str(member.forward.__doc__))
        assert all(argument.shape.strip() in shapes for argument in member.arguments.values()), "a shape is not said"
        assert f"def backward({member.solution.__code__.co_varnames[0]}, {member.inputs[0]}" in text
    assert len(member.hints) == exercise.HINTS and len(set(member.hints)) == exercise.HINTS


def test_axes_have_the_letters_of_the_legend() -> None:
    assert set(SIZES) <= set(LEGEND) == set(LETTERS) and LEGEND["s"].startswith("key position")


def test_a_theme_names_each_exercise_once() -> None:
    assert sum(map(len, THEMES.values())) == len(EXERCISES) == len(exercise.names()) >= 40


# What npora has under the name of a page computes what the exercise does.
SAME = {
    "relu": F.relu, "tanh": F.tanh, "silu": F.silu, "gelu_tanh": F.gelu_tanh, "gelu": F.gelu, "swiglu": F.swiglu,
    "softmax": F.softmax, "log_softmax": F.log_softmax, "attention": F.attention,
    "cross_entropy": lambda z, targets: F.cross_entropy(z, targets),
    "ignored_rows": lambda z, targets: F.cross_entropy(z, targets),
    "label_smoothing": lambda z, targets, eps: F.cross_entropy(z, targets, label_smoothing=eps),
    "mse": lambda y, target: F.mse_loss(y, target), "normalize": lambda x, eps: F.normalize(x, eps),
    "binary_cross_entropy": lambda z, target: F.binary_cross_entropy(z, target),
    "cosine_similarity": F.cosine_similarity, "ranking": F.multiple_negatives_ranking_loss,
    "triplet": F.triplet_loss, "dpo": lambda w, r, w0, r0, beta: F.dpo_loss(w, r, w0, r0, beta),
    "cosent": lambda c, s, scale: F.cosent_loss(c, s, scale), "odds_ratio": F.odds_ratio_loss,
    "rotary": lambda x, positions: F.rotary(
        x, F.rotation(positions, F.frequencies(x.shape[-1]), np.float64), heads=1),
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_a_forward_is_the_one_of_npora(name: str) -> None:
    member = EXERCISES[name]
    assert member.forward is not None and page(member).startswith("npora/nn/")
    inputs, constants = member.draw(1)
    np.testing.assert_allclose(member.forward(*inputs, **constants), SAME[name](*inputs, **constants)[0], rtol=1e-13)


@pytest.mark.parametrize("name", ["linear", "layer_norm", "rms_norm"])
def test_a_layers_forward_is_the_one_of_npora(name: str) -> None:
    member = EXERCISES[name]
    assert member.forward is not None
    (x, *values), constants = member.draw(1)
    makes = {
        "linear": lambda: Linear(4, 7, rng=0), "layer_norm": lambda: LayerNorm(4, constants["eps"]),
        "rms_norm": lambda: RMSNorm(4, constants["eps"]),
    }  # fmt: skip
    layer = makes[name]()
    for parameter, value in zip(layer.parameters(), values, strict=True):
        parameter.data = value
    np.testing.assert_allclose(member.forward(x, *values, **constants), layer(x)[0], rtol=1e-13)


def test_nf4_has_the_levels_of_its_paper() -> None:
    levels = EXERCISES["nf4_levels"].solution()
    assert np.round(levels[[0, 1, 7, 8, 14, 15]], 4).tolist() == [-1, -0.6962, 0, 0.0796, 0.723, 1]


def test_hints_are_three_and_names_are_known() -> None:
    assert exercise.hint("softmax", 1) != exercise.hint("softmax", 3)
    with pytest.raises(ValueError, match="the hints 1 to 3; got 4"):
        exercise.hint("softmax", 4)
    with pytest.raises(ValueError, match="no exercise 'nowhere'; there are relu"):
        exercise.check("nowhere", abs)
