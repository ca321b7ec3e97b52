"""Networks beside the packages of TabM's authors, their twin's speed, and what it gains to learn in several processes.

pip install tabm==0.0.3 rtdl_num_embeddings==0.0.12       (beside the extra torch)
python -m benchmarks.networks                             (the outputs of both, of the same weights)
python -m benchmarks.networks models/artifacts/model      (one row and 32 through a version's ONNX twin)
python -m benchmarks.networks --processes [FOLDER]        (a pass by one process with two threads, and by two with one each: of TabM,
                                                           and of the pretrained encoder in a folder, on the reviews of the example)
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import mlops_pipeline
from mlops_pipeline.modelling.network_estimators import NetworkClassifier
from mlops_pipeline.modelling.networks import InNumpy, first_weights, outputs

COLUMNS, SIZE, MEMBERS, WIDTH, BINS, ROWS = 5, 6, 8, 24, 10, 500


def beside_the_packages() -> float:
    """The largest difference of what members say, of rows within the quantiles: beyond them ours end, theirs go on."""
    import torch
    from rtdl_num_embeddings import PiecewiseLinearEmbeddings
    from tabm import TabM

    torch.manual_seed(0)
    draw = np.random.default_rng(0)
    numbers, codes = draw.normal(size=(ROWS, COLUMNS)), draw.integers(0, SIZE, (ROWS, 2))
    numbers[:, 1] = draw.integers(0, 3, ROWS)
    of = NetworkClassifier(members=MEMBERS, width=WIDTH, depth=2, embedding=SIZE, bins=BINS, seed=1)
    weights = first_weights(numbers, np.minimum(codes, SIZE - 2), 3, of)
    edges = [_edges(weights, place) for place in range(COLUMNS)]
    embeddings = PiecewiseLinearEmbeddings([torch.tensor(each) for each in edges], SIZE, activation=False, version="B")
    theirs = TabM.make(
        n_num_features=COLUMNS,
        cat_cardinalities=[SIZE, SIZE],
        d_out=3,
        num_embeddings=embeddings,
        k=MEMBERS,
        n_blocks=2,
        d_block=WIDTH,
        dropout=0.0,
    ).eval()
    torch.nn.init.normal_(embeddings.linear.weight)
    weights |= _taken_over({name: each.detach().numpy() for name, each in theirs.state_dict().items()}, edges)
    scaled = (numbers - weights["mean"]) * weights["inverse_std"]
    within = np.all([(scaled[:, k] >= each[0]) & (scaled[:, k] <= each[-1]) for k, each in enumerate(edges)], axis=0)
    said = theirs(torch.tensor(scaled, dtype=torch.float32), torch.tensor(codes)).detach().numpy()
    exact = {name: each.astype(np.float64) for name, each in weights.items()}
    ours = outputs(InNumpy(), exact, numbers, codes.astype(np.float64), 2)
    return float(np.abs(said - ours)[within].max())


def _edges(weights: dict[str, Any], place: int) -> np.ndarray:
    slope = weights["slope"][place, 0, :-1]
    used = int((slope > 0).sum())
    left = weights["left"][place, 0, :used]
    return np.append(left, left[-1] + 1 / slope[used - 1]).astype(np.float32)


def _taken_over(theirs: dict[str, np.ndarray], edges: list[np.ndarray]) -> dict[str, np.ndarray]:
    """The weights of the packages' modules under our names; a category's one-hot column is an embedding by the identity."""
    pieces = np.zeros((COLUMNS, BINS + 2, SIZE), np.float32)
    for place, each in enumerate(edges):
        used, weight = len(each) - 1, theirs["num_module.linear.weight"][place]
        pieces[place, : used - 1], pieces[place, used - 1] = weight[: used - 1], weight[-1]
    pieces[:, -2], pieces[:, -1] = theirs["num_module.linear0.weight"], theirs["num_module.linear0.bias"]
    identity = np.eye(SIZE, dtype=np.float32)
    found = {"pieces": pieces, "first_level": np.array([0, SIZE], np.float32), "levels": np.vstack([identity, identity])}
    for layer in range(2):
        names = {"in": "r", "out": "s", "bias": "bias"}
        found |= {f"{ours}_{layer}": theirs[f"backbone.blocks.{layer}.0.{name}"] for ours, name in names.items()}
        found[f"weight_{layer}"] = theirs[f"backbone.blocks.{layer}.0.weight"].T
    return {**found, "head": theirs["output.weight"], "head_bias": theirs["output.bias"]}


def microseconds(content: bytes, rows: int, times: int = 3000) -> float:
    """The median time of so many rows through a twin."""
    from mlops_pipeline.inference.engine import OnnxEngine

    engine = OnnxEngine(content, has_classes=True)
    import onnxruntime

    widths = {each.name: each.shape[1] for each in onnxruntime.InferenceSession(content).get_inputs()}
    numbers = np.random.default_rng(0).normal(size=(rows, widths["numbers"])).astype(np.float32) if "numbers" in widths else None
    words = np.full((rows, widths["categories"]), "(missing)", dtype=object) if "categories" in widths else None
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        engine.predict(numbers, words)
        taken.append(time.perf_counter() - began)
    return float(np.median(taken)) * 1e6


def of_a_pass(unfitted: Any, x: Any, y: Any) -> str:
    """The median seconds of a pass but the first, those of the whole fit, and of this process's and its children's cores."""
    from mlops_pipeline.modelling.estimators import fit
    from mlops_pipeline.modelling.fitting import Fitting

    ended = []

    def hear(line: str) -> None:
        if line.startswith("pass ") and ", loss" in line:
            ended.append(time.perf_counter())

    began, spent = time.perf_counter(), os.times()
    fit(unfitted, x, y, 2, Fitting(say=hear))
    whole, now = time.perf_counter() - began, os.times()
    cores = sum(now[:4]) - sum(spent[:4])
    return f"{np.median(np.diff(ended)):.2f} | {whole:.1f} | {cores:.1f}"


def in_processes(folder: str | None) -> None:
    """A line for each way: TabM on rows as many columns wide as the flights, and the encoder of a folder on reviews."""
    import pandas as pd

    from mlops_pipeline.config.dataset import Column
    from mlops_pipeline.environment import prepare
    from mlops_pipeline.modelling.estimators import build_model

    prepare()  # as every command does: threads that spin while they wait would be measured
    print("| | processes | s a pass | s in all | CPU s in all |\n|---|--:|--:|--:|--:|")
    draw, rows = np.random.default_rng(0), 30_000
    names = [f"number {place}" for place in range(12)]
    x = pd.DataFrame(draw.normal(size=(rows, len(names))), columns=names)
    for place, levels in enumerate((3, 12, 16, 100)):
        x[f"category {place}"] = draw.integers(0, levels, rows).astype(str)
    y = (x[names].sum(axis=1) + draw.normal(size=rows) > 0).astype(int).to_numpy()
    features = {name: Column(kind="number" if name in names else "category") for name in x}
    for processes in (1, 2) * 2:
        params = {"epochs": 3, "patience": 3, "device": "cpu", "processes": processes}
        said = of_a_pass(build_model("torch_tabm", "binary", features, params, 0), x, y)
        print(f"| TabM, {rows:,} rows | {processes} | {said} |", flush=True)
    if folder is None:
        return
    table = pd.read_csv(Path(mlops_pipeline.__file__).parent / "examples/reviews/reviews.csv", dtype={"review": object}).head(500)
    for processes in (1, 2) * 2:
        params = {"epochs": 3, "patience": 3, "device": "cpu", "processes": processes}
        given = ("transformer", "regression", {"review": Column(kind="text")}, params, 0, None, {"folder": folder, "max_tokens": 128})
        said = of_a_pass(build_model(*given), table[["review"]], table["rating"].to_numpy(dtype=np.float64))
        print(f"| an encoder of text, {len(table):,} reviews | {processes} | {said} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--processes"]:
        in_processes(next(iter(sys.argv[2:]), None))
    elif sys.argv[1:]:
        content = next(Path(sys.argv[1]).rglob("model.onnx")).read_bytes()
        print(f"one row {microseconds(content, 1):.0f} µs, 32 rows {microseconds(content, 32):.0f} µs")
    else:
        print(f"largest difference to tabm and rtdl_num_embeddings: {beside_the_packages():.1e}")
