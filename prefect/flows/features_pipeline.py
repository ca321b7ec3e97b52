"""The features' state brought up to date as a Prefect flow: one `mlops features refresh`, with its lines in the run's log."""

import importlib.util
import io
import sys
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger

if importlib.util.find_spec("mlops_pipeline") is None:
    sys.path.append(str(Path(__file__).resolve().parents[2] / "src"))

from mlops_pipeline import environment, terminal
from mlops_pipeline.config.pipeline import load_settings
from mlops_pipeline.features.refresh import refresh
from mlops_pipeline.layout import find_project, layout_of

environment.prepare()


@flow(
    name="features-pipeline",
    description="Take the rows and outcomes in that are new, so that raw rows find the features of today.",
    log_prints=False,
    retries=2,
    retry_delay_seconds=60,
)
def features_pipeline(config_path: str = "configs/training_config.yaml", input_path: str | None = None) -> dict[str, Any]:
    """Refresh the state from the source, or from a file of rows; a run that is killed or tried again does no harm.

    Returns the version, the moment that it is true for, and how many rows are new and of how many more is known.
    """
    logger, config, said = get_run_logger(), Path(config_path), io.StringIO()
    settings = load_settings(config)
    layout = layout_of(settings, config, find_project(config))
    done = refresh(settings, layout, terminal.opened(said, 1000), Path(input_path) if input_path else None)
    for line in said.getvalue().splitlines():
        logger.info("%s", line.strip())
    return {"version": done.version, "as_of": done.state.as_of.isoformat(), "new": done.new, "changed": done.changed}


if __name__ == "__main__":
    features_pipeline()
