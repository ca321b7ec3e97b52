"""What a task is: whether it has classes, and what the outputs of a model for it are called. A new task is one entry here."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

TaskName = Literal["binary", "multiclass", "regression"]

PREDICTION = "prediction"
PROBABILITY = "probability_"


@dataclass(frozen=True)
class Task:
    """One kind of task. ``has_classes``: a model says a probability for each class, shape (rows, classes), else a value, shape (rows,)."""

    name: TaskName
    has_classes: bool

    def width(self, classes: Sequence[Any]) -> tuple[int, ...]:
        """Shape of one row's output."""
        return (len(classes),) if self.has_classes else ()

    def output_names(self, labels: Sequence[Any]) -> list[str]:
        """Columns that batch prediction adds: the prediction, then a probability for each class."""
        return [PREDICTION, *(f"{PROBABILITY}{label}" for label in labels)] if self.has_classes else [PREDICTION]


TASKS: dict[str, Task] = {
    task.name: task
    for task in (Task("binary", has_classes=True), Task("multiclass", has_classes=True), Task("regression", has_classes=False))
}


def has_classes(task: str) -> bool:
    """Whether a task's models say a probability for each class; raises KeyError for an unknown task."""
    return TASKS[task].has_classes


def free_names(wanted: Sequence[str], taken: Collection[str]) -> list[str]:
    """The wanted names, or all of them with the same ``_2``, ``_3``… behind, so that none is one of the user's."""
    there, names, count = set(taken), list(wanted), 1
    while not there.isdisjoint(names):
        count += 1
        names = [f"{name}_{count}" for name in wanted]
    return names
