"""Every twin that the settings ask for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mlops_pipeline.config.pipeline import Settings, twins_of
from mlops_pipeline.contract.evaluation import TwinReport
from mlops_pipeline.contract.spec import Contract
from mlops_pipeline.inference.formats import Engine
from mlops_pipeline.inference.int8 import NAME as INT8
from mlops_pipeline.modelling.formats.int8 import make_int8
from mlops_pipeline.modelling.formats.twin import make_twin

if TYPE_CHECKING:
    import pandas as pd

    from mlops_pipeline.modelling.metrics import Predictions


def make_twins(
    settings: Settings, version: Path, engine: Engine, contract: Contract, x: pd.DataFrame, judged: Predictions
) -> dict[str, TwinReport]:
    """What became of each twin that the settings ask for; the files of those that agree lie in the version's folder.

    ``judged`` is what the model itself said of the rows ``x``.
    """
    fitted, rules = getattr(engine, "fitted", None), settings.onnx
    made = {
        form.name: make_twin(form, version, fitted, contract, x, judged.predicted, rules.tolerance, **rules.twins.get(form.name, {}))
        for form in twins_of(settings)
    }
    if rules.quantise is not None and "onnx" in made:
        of = made["onnx"]
        no = TwinReport(reason=f"not quantised: the ONNX twin it would be made of was not kept ({of.reason})")
        made[INT8] = make_int8(rules, version, fitted, contract, x, judged) if of.accepted else no
    return made
