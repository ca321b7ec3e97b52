"""What a story is, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass

from mlops_pipeline.demo.earned import Earned
from mlops_pipeline.demo.replay import Replayed

NEVER, LOOP, MONTHLY = "never retrained", "the loop", "every month"
DECEMBER = 12


@dataclass(frozen=True)
class Story:
    """A champion and the months that it serves from ``first`` on; it was judged on the month before, and trained on those before that."""

    name: str
    title: str
    first: int
    last: int = DECEMBER

    @property
    def months(self) -> range:
        """The months that are replayed."""
        return range(self.first, self.last + 1)


WINTER = Story("winter", "trained on January and February, judged on March", 4)
QUICK = Story("winter", WINTER.title, 4, last=5)
JUNE = Story("June", "trained on January to June, judged on July", 8)


@dataclass(frozen=True)
class Told:
    """What became of a story. ``monthly_trainings``: of those, how many the gate let take over is ``monthly_promoted``."""

    story: Story
    rows: int
    earned: Earned
    loop: tuple[Replayed, ...]
    monthly_trainings: int
    monthly_promoted: int

    @property
    def trainings(self) -> tuple[int, ...]:
        """After which of its months the loop trained again."""
        return tuple(place for place, month in enumerate(self.loop) if month.training is not None)
