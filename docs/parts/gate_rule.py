"""A rule of the gate of one's own: the interval of the metric must be narrow enough to mean something."""

from pydantic import Field

from mlops_pipeline.config.tree import Frozen
from mlops_pipeline.modelling.gate import Judged
from mlops_pipeline.plugins import gate_rule


class Narrow(Frozen):
    """Its settings, below gate.rules.narrow."""

    width: float = Field(0.2, gt=0, description="of the metric's interval, at most")


@gate_rule("narrow", settings=Narrow)
def narrow(judged: Judged, settings: Narrow) -> tuple[bool, str]:
    """The metric's interval is narrow."""
    interval = judged.evaluation.metrics[judged.metric]
    if interval.low is None or interval.high is None:
        return False, f"interval of {judged.metric} at most {settings.width:g} wide: could not be measured"
    width = interval.high - interval.low
    return width <= settings.width, f"interval of {judged.metric} at most {settings.width:g} wide: {width:.4g}"
