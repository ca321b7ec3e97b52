"""The servers that are compared: how each is started, what it is asked, and where its answer holds the probabilities."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.measure import BIN, REPOSITORY, environment
from benchmarks.serving.environments import HERE, library, peer
from benchmarks.serving.launch import Command, free_port
from benchmarks.serving.model import Model

JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Server:
    """One line of the table. ``answers`` reads the probabilities of class 1; without it the answer is not looked at."""

    name: str
    title: str
    start: Callable[[Model, Path, int], Command]
    """From the model, a folder of its own and a port: the command that serves on it."""
    path: str
    ready: str
    body: Callable[[Model, np.ndarray], object]
    answers: Callable[[Any], list[float]] | None
    headers: Callable[[Model, np.ndarray], Mapping[str, str]] = lambda _model, _rows: JSON
    batches: bool = True
    """Request for many rows at once too."""


def _mlflow(form: str) -> Callable[[Model, Path, int], Command]:
    """MLflow's server on the model saved with a signature of named columns, or of one tensor."""

    def start(model: Model, _folder: Path, port: int) -> Command:
        words = [BIN / "mlflow", "models", "serve", "-m", model.mlflow(form), "-h", "127.0.0.1", "-p", port]
        return Command.of([*words, "--workers", 1, "--env-manager", "local"], environment())

    return start


def _mlserver(model: Model, folder: Path, port: int) -> Command:
    # Measured faster without a process for inference (223 requests/s, 149 with), and spared its log of accesses.
    settings = {"HOST": "127.0.0.1", "HTTP_PORT": port, "GRPC_PORT": free_port(), "METRICS_PORT": free_port()}
    settings |= {"PARALLEL_WORKERS": 0, "DEBUG": "false", "METRICS_DIR": folder}
    named = {f"MLSERVER_{key}": str(value) for key, value in settings.items()}
    return Command.of([peer("mlserver") / "mlserver", "start", model.mlserver], _foreign("mlserver", **named))


def _bentoml(model: Model, folder: Path, port: int) -> Command:
    words = [peer("bentoml") / "bentoml", "serve", "bentoml_service:Champion", "--host", "127.0.0.1", "--port", port]
    extra = {"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(folder), "BENCH_ONNX": str(model.onnx)}
    return Command.of([*words, "--working-dir", HERE / "peers"], _foreign("bentoml", **extra))


def _uvicorn(function: str) -> Callable[[Model, Path, int], Command]:
    """A bare ASGI function of this repository on uvicorn."""

    def start(model: Model, _folder: Path, port: int) -> Command:
        words = [sys.executable, "-m", "uvicorn", f"benchmarks.serving.floor:{function}", "--app-dir", REPOSITORY]
        words += ["--host", "127.0.0.1", "--port", port, "--loop", "uvloop", "--http", "httptools", "--lifespan", "off"]
        return Command.of([*words, "--no-access-log", "--log-level", "warning"], environment(BENCH_ONNX=str(model.onnx)))

    return start


def _foreign(name: str, **extra: str) -> dict[str, str]:
    """An environment in which a peer's own programs come first, not ours."""
    return environment(**extra) | {"PATH": f"{peer(name)}{os.pathsep}{os.environ['PATH']}", "VIRTUAL_ENV": str(peer(name).parent)}


def _split(model: Model, rows: np.ndarray) -> object:
    """MLflow's data frame, named columns once and rows of values."""
    return {"dataframe_split": {"columns": model.columns, "data": rows.tolist()}}


def _tensor(_model: Model, rows: np.ndarray) -> object:
    """The V2 inference protocol's one tensor, and the output asked for."""
    tensor = {"name": "rows", "shape": rows.shape, "datatype": "FP32", "data": rows.ravel().tolist()}
    return {"inputs": [tensor], "outputs": [{"name": "predict_proba"}]}


def _plain(_model: Model, rows: np.ndarray) -> object:
    return {"rows": rows.tolist()}


def _of_class_1(pairs: list[list[float]]) -> list[float]:
    return [pair[1] for pair in pairs]


def _ours(record: str) -> Callable[[Model, Path, int], Command]:
    """`mlops serve` with everything on: validation, metrics and the record of predictions in one of its modes."""

    def start(model: Model, folder: Path, port: int) -> Command:
        return Command.of([BIN / "mlops", "serve", "--config", _serving(model, folder, record), "--port", port], environment())

    return start


def _granian(interface: str) -> Callable[[Model, Path, int], Command]:
    """The same application on Granian, which lies in a folder of its own beside our environment."""

    def start(model: Model, folder: Path, port: int) -> Command:
        words = [sys.executable, "-m", "granian", "--interface", interface, f"benchmarks.serving.on_granian:{interface}"]
        words += ["--host", "127.0.0.1", "--port", port, "--loop", "uvloop", "--no-access-log", "--log-level", "warning"]
        path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "src"), str(library("granian"))])
        return Command.of(words, environment(BENCH_SERVING=str(_serving(model, folder, "relaxed")), PYTHONPATH=path))

    return start


def _serving(model: Model, folder: Path, record: str) -> Path:
    config = folder / "serving.yaml"
    content = {"models": {"champion": str(model.ours)}, "record": {"mode": record, "folder": str(folder / "records")}}
    config.write_text(json.dumps(content))
    return config


def _records(model: Model, rows: np.ndarray) -> object:
    return {"records": [dict(zip(model.columns, row, strict=True)) for row in rows.tolist()]}


def _gathered(_model: Model, rows: np.ndarray) -> object:
    """The V2 protocol's tensors in our shorter form: all numbers in one."""
    tensor = {"name": "numbers", "shape": rows.shape, "datatype": "FP64", "data": rows.ravel().tolist()}
    return {"inputs": [tensor], "outputs": [{"name": "probabilities"}]}


def _binary(_model: Model, rows: np.ndarray) -> bytes:
    """The V2 protocol's binary extension: the JSON, then the numbers as they lie in memory."""
    numbers = rows.astype("<f4").tobytes()
    tensor = {"name": "numbers", "shape": rows.shape, "datatype": "FP32", "parameters": {"binary_data_size": len(numbers)}}
    return json.dumps({"inputs": [tensor], "outputs": [{"name": "probabilities"}]}).encode() + numbers


def _binary_headers(model: Model, rows: np.ndarray) -> Mapping[str, str]:
    length = len(_binary(model, rows)) - 4 * rows.size
    return {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(length)}


def _labelled(said: Any) -> list[float]:
    return [prediction["probabilities"]["1"] for prediction in said["predictions"]]


def _tensors(said: Any) -> list[float]:
    return list(said["outputs"][0]["data"][1::2])


INFER = "/v2/models/champion/infer"
OURS = (
    Server(
        "ours",
        "`mlops serve`, `/invocations`",
        _ours("relaxed"),
        "/invocations",
        "/ready",
        _split,
        lambda said: _of_class_1(said["predictions"]),
    ),
    Server("ours-predict", "`mlops serve`, `/predict`", _ours("relaxed"), "/predict", "/ready", _records, _labelled),
    Server("ours-v2", "`mlops serve`, v2", _ours("relaxed"), INFER, "/ready", _gathered, _tensors),
    Server("ours-binary", "`mlops serve`, v2 with binary tensors", _ours("relaxed"), INFER, "/ready", _binary, _tensors, _binary_headers),
    Server(
        "ours-durable",
        "`mlops serve`, `/invocations`, durable record",
        _ours("durable"),
        "/invocations",
        "/ready",
        _split,
        lambda said: _of_class_1(said["predictions"]),
    ),
)
"""`mlops serve`, with validation, metrics and record on."""

GRANIAN = tuple(
    Server(
        f"granian-{interface}",
        f"the same application on Granian ({interface.upper()})",
        _granian(interface),
        "/invocations",
        "/ready",
        _split,
        lambda said: _of_class_1(said["predictions"]),
    )
    for interface in ("asgi", "rsgi")
)
"""Why it is uvicorn that runs our application."""

PEERS = (
    Server(
        "mlflow",
        "`mlflow models serve`, named columns (scikit-learn)",
        _mlflow("columns"),
        "/invocations",
        "/ping",
        _split,
        lambda said: _of_class_1(said["predictions"]),
    ),
    Server(
        "mlflow-tensor",
        "`mlflow models serve`, one tensor (scikit-learn)",
        _mlflow("tensor"),
        "/invocations",
        "/ping",
        lambda _model, rows: {"inputs": rows.tolist()},
        lambda said: _of_class_1(said["predictions"]),
    ),
    Server(
        "mlserver",
        "MLServer (scikit-learn)",
        _mlserver,
        "/v2/models/champion/infer",
        "/v2/models/champion/ready",
        _tensor,
        lambda said: said["outputs"][0]["data"][1::2],
    ),
    Server("bentoml", "BentoML (ONNX Runtime)", _bentoml, "/predict", "/readyz", _plain, _of_class_1),
)

BARE = Server(
    "bare",
    "bare ASGI function (ONNX Runtime)",
    _uvicorn("bare"),
    "/",
    "/",
    _plain,
    lambda said: _of_class_1(said["probabilities"]),
)
NOTHING = Server("nothing", "the same doing nothing", _uvicorn("nothing"), "/", "/", _plain, None, batches=False)

SERVERS = (*OURS, *GRANIAN, *PEERS, BARE, NOTHING)
