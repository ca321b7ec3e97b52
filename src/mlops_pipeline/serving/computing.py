"""What computes the features of raw rows now: a model's recipe with the state of the moment, which is replaced between two requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_pipeline.config.moments import span_of
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.features.online import Features, features_of
from mlops_pipeline.features.state import State, open_state, version_folder

if TYPE_CHECKING:
    import polars as pl

    from mlops_pipeline.config.serving import Features as Settings
    from mlops_pipeline.contract.spec import Contract


@dataclass(frozen=True)
class Computing:
    """A model's recipe with one state, or why there is none."""

    state: State | None
    features: Features | None
    without: Features | None
    """The same where nothing of the state is known."""
    why_not: str = ""
    """Why no raw row can be computed; empty if it can."""

    @property
    def as_of(self) -> datetime | None:
        """The moment (UTC) that what it knows is true for; None if it needs no state."""
        return None if self.state is None else self.state.as_of.astimezone(UTC)


def computing(contract: Contract, state: State | None) -> Computing:
    """What computes a model's features with a state."""
    try:
        features = features_of(contract, state)
    except PipelineError as error:
        return Computing(None, None, None, f"raw rows cannot be computed: {error}: until then, send finished features")
    without = None if state is None else features_of(contract, Unknown(state))  # type: ignore[arg-type]  # of a state, only this is asked
    return Computing(state, features, without)


@dataclass(frozen=True)
class Unknown:
    """A state that says of each key that it knows nothing."""

    instead_of: State

    def __getattr__(self, name: str) -> Any:
        return getattr(self.instead_of, name)

    def value(self, name: str, key: tuple[Any, ...], moment: int | None) -> None:
        """Null."""

    def values(self, name: str, keys: Sequence[pl.Series], moments: pl.Series | None) -> pl.Series:
        """Null for each row."""
        found = self.instead_of.values(name, keys, moments)
        return found.clear(len(found))


def is_stale(as_of: datetime, settings: Settings, now: float) -> bool:
    """Whether a state is older than it may be."""
    if settings.max_age is None:
        return False
    return as_of < span_of(settings.max_age).before(datetime.fromtimestamp(now, UTC))


@dataclass
class States:
    """The state in a folder, opened anew when its current version is another one."""

    folder: Path
    _opened: Path | None = None
    _told: str = field(default="", init=False)

    def newest(self) -> State | None:
        """The state, if it is another than the last time. Raises :class:`PipelineError`, once for each distinct failure."""
        place = version_folder(self.folder)
        if place == self._opened or not place.exists():
            return None
        try:
            state = open_state(place)
        except PipelineError as error:
            if str(error) == self._told:
                return None
            self._told = str(error)
            raise
        self._opened, self._told = place, ""
        return state
