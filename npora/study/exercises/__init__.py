"""The exercises, in the order in which they build on each other: a file for each theme."""

from npora.study.exercises import attention, comparisons, elementwise, layers, losses, low_rank, norms, rows, steps
from npora.study.exercises.declared import Exercise

__all__ = ["EXERCISES", "THEMES", "Exercise"]

THEMES: dict[str, tuple[Exercise, ...]] = {
    "elements": elementwise.EXERCISES, "layers": layers.EXERCISES, "softmax and losses": losses.EXERCISES,
    "losses that compare": comparisons.EXERCISES,
    "norms": norms.EXERCISES, "attention": attention.EXERCISES, "rows": rows.EXERCISES,
    "training steps": steps.EXERCISES, "LoRA and its kin": low_rank.EXERCISES,
}  # fmt: skip
EXERCISES = {exercise.name: exercise for theme in THEMES.values() for exercise in theme}
