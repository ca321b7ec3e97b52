"""What every process of ours sets for itself before it loads a library."""

import importlib
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

QUIET = {
    # Nobody is told how the tools are used: MLflow, Prefect's client and Evidently; Prefect's server; DVC; ONNX Runtime.
    "DO_NOT_TRACK": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DVC_NO_ANALYTICS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # ONNX Runtime would look its maker's host up with the first session.
    "ORT_DISABLE_TELEMETRY": "1",
}

SAFE = {
    # MLflow loads no pickle, which could run anything; of what it loads of scikit-learn's see modelling/formats/skops.py.
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
}

PATIENT = {
    # The server that lives as long as a flow's run makes its database first; on a busy machine that takes longer than Prefect's 20 s.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
}

SPARING = {
    # `mlflow server` typed by hand: its jobs, which judge language models, are ten more processes of 2 s of a core each.
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}

THREADS = {
    # Threads that spin long while they wait make a fit 25 times slower where another process has the core; threads
    # that never spin make it half as fast where none has (benchmarks/threads.py).
    "GOMP_SPINCOUNT": "1000",
}


def at_start() -> None:
    """What every Python of the environment does at its start (environment.pth): tools typed by hand have the settings too.

    Whatever the user has set stays.
    """
    for name, value in {**QUIET, **SAFE, **PATIENT, **SPARING}.items():
        os.environ.setdefault(name, value)
    if not any(isinstance(finder, _OnImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _OnImport())


def prepare() -> None:
    """The same in a process of ours, and threads that wait are sent to sleep."""
    at_start()
    for name, value in THREADS.items():
        os.environ.setdefault(name, value)


class _OnImport:
    """Hands MLflow's module of scikit-learn models, as soon as it is imported, to what teaches it whom to trust."""

    module, guard = "mlflow.sklearn", "mlops_pipeline.modelling.formats.skops"

    def find_spec(self, name: str, path: Sequence[str] | None, _target: ModuleType | None = None) -> ModuleSpec | None:
        if name != self.module:
            return None
        spec = PathFinder.find_spec(name, path)
        if spec is None or spec.loader is None:
            return None
        run = spec.loader.exec_module

        def run_and_guard(module: ModuleType) -> None:
            run(module)
            importlib.import_module(self.guard).guard(module)

        spec.loader.exec_module = run_and_guard  # type: ignore[method-assign]
        return spec
