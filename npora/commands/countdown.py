"""How far a long check is: lines on standard error."""

from __future__ import annotations

import time

from npora.commands.messages import say

EVERY = 10.0  # seconds, at the most, from line to line


class Countdown:
    """A line for every new heading, and every ten seconds under one: what is being done, and about how long is left."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.heading = total, -1, ""
        self.start = self.last = time.perf_counter()

    def step(self, heading: str, what: str) -> None:
        """The next of `total` pieces of work begins."""
        self.done += 1
        now = time.perf_counter()
        if heading == self.heading and now - self.last < EVERY:
            return
        rate = (now - self.start) / self.done if self.done else 0.0
        minutes, seconds = divmod(round(rate * (self.total - self.done)), 60)
        left = f"  about {minutes}:{seconds:02d} left" if self.done else ""
        say(f"{self.done:5}/{self.total}  {heading}: {what}{left}")
        self.heading, self.last = heading, now
