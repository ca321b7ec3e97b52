"""A fitted model as a complete MLflow model folder, in whatever format is its own."""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_pipeline import plugins
from mlops_pipeline.contract.spec import Contract
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.files import sha256_of_file
from mlops_pipeline.inference.formats import folder_of, load
from mlops_pipeline.modelling.described import example_of
from mlops_pipeline.modelling.estimators import predict
from mlops_pipeline.modelling.formats import twin
from mlops_pipeline.modelling.formats.skops import UNDATED, environment, save_model, true_size

if TYPE_CHECKING:
    import pandas as pd

LOADER = "mlops_pipeline.modelling.formats.mlflow_model"


def write_version(
    folder: Path,
    form: plugins.ModelFormat,
    fitted: Any,
    sample: pd.DataFrame,
    contract: Contract,
    own: Mapping[str, Any],
    requirements: list[str],
    trusted: Sequence[str],
    tolerance: float,
) -> None:
    """Write a fitted model in its own format; ``sample`` is a few raw rows, which are not kept, ``own`` are the format's settings.

    What another's format loads must say of the sample what the fitted model says. Raises :class:`PipelineError`.
    """
    if plugins.is_ours(form):
        save_model(folder, fitted, sample, example_of(contract, sample), contract.kind.name, requirements, trusted=trusted)
        _tell_of_raw_rows(folder, contract)
        return
    said = predict(fitted, sample, contract.kind.name)
    _describe(folder, sample, example_of(contract, sample), said, requirements)
    _tell_of_raw_rows(folder, contract)
    twin.save(form, folder, fitted, contract, own)
    try:
        loaded = twin.predict(load(form, folder, contract, 1), sample, contract.features)
    except PipelineError:
        raise
    except Exception as error:
        raise plugins.broken(form, error) from error
    if loaded.shape != said.shape:
        raise plugins.broken(form, f"what it loads predicts shape {loaded.shape} for {len(sample)} rows, not {said.shape}")
    difference = twin.difference_of(loaded, said, contract)
    if not difference <= tolerance:
        raise plugins.broken(form, f"what it loads differs from the fitted model by {difference:.2g} on the training rows")
    true_size(folder)


def _describe(folder: Path, sample: pd.DataFrame, example: pd.DataFrame, said: Any, requirements: list[str]) -> None:
    """The files by which MLflow knows the model; its own server loads it by :data:`LOADER`."""
    import mlflow.pyfunc
    from mlflow.models import Model, infer_signature

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.pyfunc.save_model(
            str(folder),
            loader_module=LOADER,
            mlflow_model=Model(**UNDATED),
            signature=infer_signature(sample, said),
            input_example=example,
            conda_env=environment(requirements),
        )


def _tell_of_raw_rows(folder: Path, contract: Contract) -> None:
    """Say beside MLflow's signature that it is of finished features, where others take raw rows."""
    if not contract.raw:
        return
    from mlflow.models import Model

    described = Model.load(str(folder))
    computed = f"{', '.join(contract.made_of)} from {', '.join(contract.raw)}"
    described.metadata = {"inputs": f"finished features; `mlops serve` and `mlops predict` compute {computed}"}
    described.save(str(folder / "MLmodel"))


def weights_of(folder: Path, form: plugins.ModelFormat) -> list[Path]:
    """The files that hold the model in its own format."""
    own = folder_of(form, folder)
    return [own / form.file] if form.file else sorted(file for file in own.rglob("*") if file.is_file())


def model_digest(folder: Path, form: plugins.ModelFormat) -> str:
    """The model's identity: SHA-256 of its weights file, or of all of them."""
    files = weights_of(folder, form)
    if len(files) == 1:
        return sha256_of_file(files[0])
    return hashlib.sha256(" ".join(f"{file.relative_to(folder).as_posix()} {sha256_of_file(file)}" for file in files).encode()).hexdigest()


def size_in_bytes(folder: Path, form: plugins.ModelFormat) -> int:
    """Bytes of the weights."""
    return sum(file.stat().st_size for file in weights_of(folder, form))
