"""What the job puts into its memory for others to show: its page, its figures for Prometheus. A server reads both, and measures nothing."""

from __future__ import annotations

import time

from mlops_pipeline.monitoring.exposed import exposed
from mlops_pipeline.monitoring.history import page_of
from mlops_pipeline.monitoring.state import WatchState
from mlops_pipeline.monitoring.watched import Watched

PAGE, METRICS = "monitoring", "metrics"
"""What each is called there: as a server calls its own page that shows it."""


def put_there(watch: Watched, state: WatchState) -> str:
    """Put what is known now in the place of what was shown before; the figures for Prometheus."""
    now = time.time()
    made = {PAGE: page_of(watch, state), METRICS: exposed(watch, state, now)}
    with state.writing():
        for name, content in made.items():
            state.show(name, content.replace("\0", "\ufffd"), now)
    return made[METRICS]
