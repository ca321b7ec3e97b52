"""Our own parts with settings of their own, declared as anybody declares one; each function is imported when it is used."""

from mlops_pipeline.config.pipeline import Members
from mlops_pipeline.plugins import DISTRIBUTION, Encoder, Estimator, Module

_estimators = Module("mlops_pipeline.modelling.estimators")

PARTS = (
    Estimator(
        "blend",
        _estimators.blend,
        "The mean of several others, each with its own encoder",
        settings=Members,
        encoder="whole",
        requirements=("lightgbm", DISTRIBUTION),
    ),
    Encoder("whole", _estimators.whole, "Columns as they are, for an estimator that encodes them itself, as a blend's members do"),
)
