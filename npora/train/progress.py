"""How far the training is: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import Any


class Progress:
    """Shows loss, rate and time left on standard error.

    A tqdm bar where tqdm is installed and standard error is a terminal; elsewhere a line every `every` steps.
    """

    def __init__(self, total: int, done: int, every: int, disable: bool = False) -> None:
        self.total, self.every, self.disable = total, every, disable
        self.first, self.start = done, time.perf_counter()
        self.bar: Any = None
        if not disable and sys.stderr.isatty():
            with contextlib.suppress(ImportError):
                from tqdm import tqdm

                self.bar = tqdm(total=total, initial=done, unit="step", dynamic_ncols=True)

    def step(self, step: int, loss: float) -> None:
        if self.bar is not None:
            self.bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
            self.bar.update()
        elif not self.disable and (step % self.every == 0 or step == self.total):
            seconds = time.perf_counter() - self.start
            rate = (step - self.first) / max(seconds, 1e-9)
            left = _clock((self.total - step) / max(rate, 1e-9))
            self._print(f"step {step}/{self.total}  loss {loss:.4f}  {rate:.2f} steps/s  {left} left")

    def message(self, text: str) -> None:
        """A line that stays."""
        if self.bar is not None:
            self.bar.write(text, file=sys.stderr)
        elif not self.disable:
            self._print(text)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()

    @staticmethod
    def _print(text: str) -> None:
        print(text, file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
