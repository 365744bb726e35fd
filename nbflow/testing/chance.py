"""What is left to chance in a run in process: who comes next, and who loses its worker."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from nbflow.testing.decisions import Task

__all__ = ["Chance", "Crash"]


class Crash:
    """Which executions lose their worker: asked before the body runs, and after it, before its end counts."""

    def happens(self, task: Task, recovered: int, when: str) -> bool:
        """Whether the worker dies now."""
        return False


@dataclass(slots=True)
class Chance:
    """Who comes next. Without a seed, in the order of the queue, one after the other."""

    seed: int | random.Random | None = None
    workers: int = 1
    draw: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.draw = self.seed if isinstance(self.seed, random.Random) else random.Random(self.seed or 0)

    def pick(self, held: int, ready: int, later: int) -> tuple[str, int]:
        """`("settle" | "start" | "jump", which)`."""
        if self.seed is None or held + ready + later <= 1 or not held + ready:
            return ("settle", 0) if held else ("start", 0) if ready else ("jump", 0)
        ready = ready if held < self.workers else 0
        number = self.draw.randrange(held + ready + (1 if later and held else 0))
        if number < held:
            return "settle", number
        return ("start", number - held) if number < held + ready else ("jump", 0)
