"""The watch as a Prefect flow: one `mlops monitor run`, with its lines in the run's log."""

import importlib.util
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger

if importlib.util.find_spec("mlops_pipeline") is None:
    sys.path.append(str(Path(__file__).resolve().parents[2] / "src"))

from mlops_pipeline import environment
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.events import kept_for
from mlops_pipeline.lines import logged_to
from mlops_pipeline.monitoring.job import run
from mlops_pipeline.monitoring.shown import put_there
from mlops_pipeline.monitoring.watched import watched

environment.prepare()


@flow(
    name="monitoring-pipeline",
    description="Count the windows of the record that have ended, tell of what is wrong, train again where a rule asks for it.",
    log_prints=False,
)
def monitoring_pipeline(config_path: str | None = None) -> dict[str, Any]:
    """Do what is due, and return how many windows were counted and counted again, and how many messages went out.

    The run fails if a channel has not taken what it was told; what it has not taken goes out with the next.
    """
    watch = watched(Path(config_path) if config_path else None)
    with closing(watch.state()) as state:
        done = run(watch, state, kept_for(watch.pipeline, watch.layout, logged_to(get_run_logger())))
        put_there(watch, state)
    if done.problems:
        raise PipelineError("; ".join(f"channel '{name}': {why}" for name, why in done.problems.items()))
    return {"counted": len(done.counted), "again": len(done.again), "sent": done.sent, "retraining": done.retraining}


if __name__ == "__main__":
    monitoring_pipeline()
