"""How far a training, an evaluation or a prediction is: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from npora.train.callbacks import Args, Control, State, TrainerCallback
from npora.train.state import Step

SECONDS = 10.0  # the longest that lines keep silent, as far as the steps allow
LINES = 10  # the fewest of a training


class Progress:
    """Shows how many are done, at which rate, and the time left, on standard error.

    A tqdm bar where tqdm is installed and standard error is a terminal. Elsewhere (a notebook, a file) lines: one where
    the last is ten seconds old, and with `every` also each so many steps, at least ten in all, and at the end. What has
    no `every` and is over in ten seconds shows nothing, and so does whatever goes on when standard error cannot be
    written to any more: a terminal or a pipe that is gone, a full disk.

    total : how many there are, or None where nobody knows
    unit : what is counted, in the singular
    """

    def __init__(
        self, total: int | None, unit: str = "step", done: int = 0, every: int | None = None, disable: bool = False
    ) -> None:
        self.total, self.unit = total, unit
        self.disable = disable or sys.stderr is None  # where print() would take standard output
        self.every = every if every is None or total is None else min(every, math.ceil((total - done) / LINES) or 1)
        self.first, self.start = done, time.perf_counter()
        self.last_line = self.start
        self.bar: Any = None
        if not self.disable and sys.stderr.isatty():
            with contextlib.suppress(ImportError), self._writing():
                from tqdm import tqdm

                self.bar = tqdm(
                    total=total, initial=done, unit=unit, dynamic_ncols=True, leave=every is not None, file=sys.stderr
                )

    def step(self, step: int, loss: float | None = None) -> None:
        """So many are done now."""
        if self.bar is not None:
            with self._writing():
                if loss is not None:
                    self.bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
                self.bar.update(step - self.bar.n)
        elif not self.disable and self._is_due(step):
            self.last_line = time.perf_counter()
            rate = (step - self.first) / max(self.last_line - self.start, 1e-9)
            shown = f"{self.unit} {step}" if self.total is None else f"{self.unit} {step}/{self.total}"
            units = f"{self.unit}es" if self.unit.endswith("ch") else f"{self.unit}s"
            parts = [shown, f"{rate:.2f} {units}/s" if rate >= 0.1 else f"{1 / max(rate, 1e-9):.1f} s/{self.unit}"]
            if loss is not None:
                parts.insert(1, f"loss {loss:.4f}")
            if self.total is not None:
                parts.append(f"{_clock((self.total - step) / max(rate, 1e-9))} left")
            self._print("  ".join(parts))

    def _is_due(self, step: int) -> bool:
        if self.every is not None and (step % self.every == 0 or step == self.total):
            return True
        return time.perf_counter() - self.last_line >= SECONDS

    def message(self, text: str) -> None:
        """A line that stays."""
        if self.bar is not None:
            with self._writing():
                self.bar.write(text, file=sys.stderr)
        elif not self.disable:
            self._print(text)

    def close(self) -> None:
        if self.bar is not None:
            with self._writing():
                self.bar.close()

    def _print(self, text: str) -> None:
        with self._writing():
            print(text, file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            self.bar, self.disable = None, True


class ProgressCallback(TrainerCallback):
    """Shows how far a training is, and within it or by itself an evaluation or a prediction."""

    def __init__(self) -> None:
        self.training: Progress | None = None
        self.measuring: Progress | None = None
        self.batches = 0  # of what is measured

    def on_train_begin(self, args: Args, state: State, control: Control, **kwargs: Any) -> None:
        every = state.logging_steps
        self.training = Progress(state.max_steps, "step", state.global_step, every, bool(args.disable_tqdm))

    def on_step_end(self, args: Args, state: State, control: Control, *, step: Step, **kwargs: Any) -> None:
        if self.training is not None:
            self.training.step(state.global_step, step.loss)

    def on_prediction_step(self, args: Args, state: State, control: Control, **kwargs: Any) -> None:
        self.batches += 1
        if self.measuring is None:
            loader = kwargs["eval_dataloader"]
            self.measuring = Progress(len(loader), loader.unit, self.batches, disable=bool(args.disable_tqdm))
        else:
            self.measuring.step(self.batches)

    def on_evaluate(self, args: Args, state: State, control: Control, **kwargs: Any) -> None:
        self._end_measuring()

    def on_predict(self, args: Args, state: State, control: Control, **kwargs: Any) -> None:
        self._end_measuring()

    def on_evaluate_all(
        self, args: Args, state: State, control: Control, *, metrics: Mapping[str, Any], **kwargs: Any
    ) -> None:
        if self.training is not None:
            numbers = {name: value for name, value in metrics.items() if isinstance(value, int | float)}
            self.training.message("  ".join(f"{name} {value:.4g}" for name, value in numbers.items()))

    def on_close(
        self, args: Args, state: State, control: Control, *, error: BaseException | None, **kwargs: Any
    ) -> None:
        self._end_measuring()
        if self.training is not None:
            self.training.close()
            self.training = None

    def _end_measuring(self) -> None:
        if self.measuring is not None:
            self.measuring.close()
        self.measuring, self.batches = None, 0


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
