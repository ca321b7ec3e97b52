"""A channel of alerts of one's own: a file that another program looks into, a line of JSON for each message."""

import json
import os
from pathlib import Path

from pydantic import Field

from mlops_pipeline.alerts.alert import Alert
from mlops_pipeline.config.tree import Frozen
from mlops_pipeline.plugins import channel


class Lines(Frozen):
    """Its settings, below channels.NAME.settings."""

    file: str = Field(min_length=1, description="where the lines go")


@channel("lines", settings=Lines)
def lines(alert: Alert, settings: Lines) -> None:
    """A line of JSON in a file, on the disk when it is done"""
    with Path(settings.file).open("a", encoding="utf-8") as file:
        file.write(json.dumps(alert.as_json()) + "\n")
        file.flush()
        os.fsync(file.fileno())
