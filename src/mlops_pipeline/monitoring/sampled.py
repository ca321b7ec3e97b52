"""An even sample of the rows that pass by, so that what needs whole rows needs no more memory than these."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


class Sample:
    """At most so many rows of all, each as likely as the next: those with the smallest of random numbers. Few are all kept."""

    def __init__(self, most: int, seed: int) -> None:
        self.most = most
        self.seen = 0
        self._random = np.random.default_rng(seed)
        self._parts: list[tuple[npt.NDArray[np.float64], dict[str, npt.NDArray[Any]]]] = []
        self._held = 0
        self._bound = 1.0

    def add(self, rows: int, arrays: dict[str, npt.NDArray[Any]]) -> None:
        """Add rows; every array has them as its first dimension, and the names are always the same."""
        keys = self._random.random(rows)
        self.seen += rows
        taken = keys < self._bound
        if not taken.all():
            keys, arrays = keys[taken], {name: values[taken] for name, values in arrays.items()}
        self._parts.append((keys, arrays))
        self._held += len(keys)
        if self._held > 2 * self.most:
            self._thin()

    def rows(self) -> dict[str, npt.NDArray[Any]]:
        """The sample; empty if no row was added."""
        self._thin()
        return self._parts[0][1] if self._parts else {}

    def _thin(self) -> None:
        if not self._parts:
            return
        keys = np.concatenate([part[0] for part in self._parts])
        names = self._parts[0][1]
        arrays = {name: np.concatenate([part[1][name] for part in self._parts]) for name in names}
        if len(keys) > self.most:
            self._bound = float(np.partition(keys, self.most)[self.most])
            taken = keys < self._bound
            keys, arrays = keys[taken], {name: values[taken] for name, values in arrays.items()}
        self._parts, self._held = [(keys, arrays)], len(keys)
