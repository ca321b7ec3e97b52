"""The ONNX twin in 8 bits (dynamic quantisation): judged by decisions and by a metric, since its numbers are others."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from mlops_pipeline import plugins
from mlops_pipeline.config.pipeline import Onnx
from mlops_pipeline.contract.evaluation import TwinReport
from mlops_pipeline.contract.spec import Contract
from mlops_pipeline.errors import first_sentences
from mlops_pipeline.inference import texts
from mlops_pipeline.inference.formats import folder_of, load
from mlops_pipeline.inference.int8 import ALONE, NAME
from mlops_pipeline.inference.sentences import ABOUT, GRAPH, about, encoder_of
from mlops_pipeline.modelling.formats.twin import NotConvertible, difference_of, predict
from mlops_pipeline.modelling.metrics import Predictions, point, share_of, wilson, worth

if TYPE_CHECKING:
    import pandas as pd

NEAR = 0.1
"""Standard deviations of what a regression predicts within which a value counts as the same decision."""
CONFIDENCE, Z = 0.95, 1.96
"""Of the interval of the share of rows that are decided alike, and its standard deviations to each side."""


def make_int8(rules: Onnx, version: Path, fitted: Any, contract: Contract, x: pd.DataFrame, judged: Predictions) -> TwinReport:
    """Quantise the ONNX twin in a version's folder and compare it with ``judged``, what the model said of the rows ``x``.

    Kept if it decides alike, and is no worse by its metric, within what the settings allow.
    """
    exact, form = plugins.part(plugins.ModelFormat, "onnx"), plugins.part(plugins.ModelFormat, NAME)
    source, target = folder_of(exact, version), folder_of(form, version)
    shutil.rmtree(target, ignore_errors=True)
    try:
        shutil.copytree(source, target)
        _quantise(target, fitted)
        said = predict(load(form, version, contract, 1), x, contract.features)
    except NotConvertible as error:
        shutil.rmtree(target, ignore_errors=True)
        return TwinReport(False, None, f"not quantised, {error}")
    except Exception as error:  # noqa: BLE001  # whatever a converter cannot do is a reason to serve without it, not to stop the run
        shutil.rmtree(target, ignore_errors=True)
        return TwinReport(False, None, f"not quantised: {type(error).__name__}: {first_sentences(error)}")
    before, after = (_megabytes(each) for each in (source, target))
    alike = _alike(judged.predicted, said, contract)
    share, low, high = share_of(alike, judged.things, CONFIDENCE)
    metric = "roc_auc" if contract.kind.has_classes else "rmse"
    if contract.kind.has_classes and not math.isfinite(point(metric, judged)):
        metric = "accuracy"  # of a class that no held-out row has no area is known
    figures = [point(metric, each) for each in (judged, replace(judged, predicted=said))]
    loss = figures[0] - figures[1] if contract.kind.has_classes else (figures[1] - figures[0]) / (float(np.std(judged.y)) or 1.0)
    accepted = low >= rules.int8_decisions and not loss > rules.int8_loss
    told = (
        f"decides as the model does in {share:.2%} ({low:.2%} to {high:.2%}) of {len(x):,} held-out rows, at least "
        f"{rules.int8_decisions:.0%} asked; {metric} {figures[1]:.4g} against {figures[0]:.4g}; {after:.1f} MB against {before:.1f}"
    )
    of, what = (len(x), "rows") if judged.things is None else (worth(judged.things), "groups")
    if wilson(of, of)[0] < rules.int8_decisions < 1:
        told += f"; it takes {math.ceil(Z * Z * rules.int8_decisions / (1 - rules.int8_decisions)):,} held-out {what} to be so sure"
    if not accepted:
        shutil.rmtree(target, ignore_errors=True)
    return TwinReport(accepted, round(difference_of(said, judged.predicted, contract), 6), told)


def _quantise(folder: Path, fitted: Any) -> None:
    """Write weights in 8 bits: of encoders of text, else of a network; raises :class:`NotConvertible` where there is neither."""
    readers = [folder / texts.FOLDER / str(place) for place, one in enumerate(texts.read_list(folder)) if one.reader == "sentences"]
    for encoder in dict.fromkeys(map(encoder_of, readers)):
        _in_8_bits(encoder / GRAPH)
    for reader in readers:
        (reader / ABOUT).write_bytes(msgspec.json.encode(msgspec.structs.replace(about(reader), alone=True)))
    if readers:
        return
    estimator = fitted.steps[-1][1]
    if not hasattr(getattr(estimator, "regressor", estimator), "learns_in_passes"):
        raise NotConvertible("it holds neither a network nor an encoder of text: onnx.quantise is for these")
    _in_8_bits(folder / "model.onnx")
    (folder / ALONE).touch()


def _in_8_bits(path: Path) -> None:
    """Weights of products and of tables as 8-bit numbers, a scale for each output; 7 bits of them, as older processors would overflow."""
    import logging

    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph = onnx.load(str(path)).graph
    stacks = {one.name for one in graph.initializer if len(one.dims) > 2}
    # ONNX Runtime has no product of a stack of matrices that has a scale for each output.
    left = [node.name for node in graph.node if node.op_type == "MatMul" and stacks.intersection(node.input)]
    exact = path.with_suffix(".exact")
    path.rename(exact)
    logging.disable(logging.WARNING)
    try:
        quantize_dynamic(exact, path, weight_type=QuantType.QInt8, per_channel=True, reduce_range=True, nodes_to_exclude=left)
    finally:
        logging.disable(logging.NOTSET)
        exact.unlink()


def _alike(ours: np.ndarray, theirs: np.ndarray, contract: Contract) -> np.ndarray:
    """Rows of which both say the same class, or nearly the same value."""
    if contract.kind.has_classes:
        alike: np.ndarray = ours.argmax(axis=1) == theirs.argmax(axis=1)
        return alike
    near: np.ndarray = np.abs(ours - theirs) <= NEAR * (float(np.std(ours)) or 1.0)
    return near


def _megabytes(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6
