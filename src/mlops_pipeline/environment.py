"""What every process of ours sets for itself before it loads a library."""

import importlib
import os
import sys
from collections.abc import Callable, Sequence
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
    # OpenBLAS spins for 2^26 cycles after each product that it shared out, longer than most of ours take (half of a bootstrap's CPU).
    "OPENBLAS_THREAD_TIMEOUT": "10",
}


def at_start() -> None:
    """What every Python of the environment does at its start (environment.pth): tools typed by hand have the settings too.

    Whatever the user has set stays.
    """
    for name, value in {**QUIET, **SAFE, **PATIENT, **SPARING}.items():
        os.environ.setdefault(name, value)
    if not any(isinstance(finder, _OnImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _OnImport())


def beside() -> dict[str, str]:
    """The environment of a process that runs modules of this very package, wherever it lies."""
    from pathlib import Path

    package = str(Path(__file__).resolve().parents[1])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))}


def prepare() -> None:
    """The same in a process of ours, and threads that wait are sent to sleep."""
    at_start()
    for name, value in THREADS.items():
        os.environ.setdefault(name, value)


class _OnImport:
    """Has two modules of others told something when they are imported.

    MLflow's module of scikit-learn models is handed to what teaches it whom to trust. skops's, which looks for estimators in every module
    of scikit-learn, finds no door to PyTorch there: where that is installed, its import would cost each process 2 s of a core. And it
    would ask all modules there are, up to 4,000, for each of 300 functions: they are looked through once.
    """

    guarded, guard = "mlflow.sklearn", "mlops_pipeline.modelling.formats.skops"
    looking, door = "skops.io._trusted_types", "sklearn.externals.array_api_compat.torch"
    searching = "skops.io._utils"

    def find_spec(self, name: str, path: Sequence[str] | None, _target: ModuleType | None = None) -> ModuleSpec | None:
        if name not in (self.guarded, self.looking):
            return None
        spec = PathFinder.find_spec(name, path)
        if spec is None or spec.loader is None:
            return None
        run = spec.loader.exec_module

        def run_and_guard(module: ModuleType) -> None:
            run(module)
            importlib.import_module(self.guard).guard(module)

        def run_sparingly(module: ModuleType) -> None:
            search = vars(importlib.import_module(self.searching))
            theirs, has_door = search["whichmodule"], self.door in sys.modules
            search["whichmodule"] = _remembering(theirs)
            if not has_door:
                sys.modules[self.door] = None  # type: ignore[assignment]  # so that its import fails, as it does without PyTorch
            try:
                run(module)
            finally:
                search["whichmodule"] = theirs
                if not has_door:
                    del sys.modules[self.door]

        spec.loader.exec_module = run_and_guard if name == self.guarded else run_sparingly  # type: ignore[method-assign]
        return spec


def _remembering(search: Callable[[object, str], str]) -> Callable[[object, str], str]:
    """The same search for the module of a function such as SciPy's, which does not name it: all modules are looked through but once."""
    import numpy as np

    places: dict[int, str] = {}
    for name, module in sys.modules.copy().items():
        if module is None or name in ("__main__", "__mp_main__"):
            continue
        for called, value in vars(module).copy().items():
            if type(value) is np.ufunc and value.__name__ == called and getattr(value, "__module__", None) is None:
                places.setdefault(id(value), name)
    return lambda function, name: places.get(id(function)) or search(function, name)
