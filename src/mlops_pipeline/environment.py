"""What every process of ours sets for itself before it loads a library."""

import os

QUIET = {
    # Nobody is told how the tools are used: MLflow, Prefect's client and Evidently; Prefect's server; DVC.
    "DO_NOT_TRACK": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DVC_NO_ANALYTICS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
"""What every Python of the environment is told at its start too (environment.pth), for tools that are typed by hand."""

THREADS = {
    # Threads that spin long while they wait make a fit 25 times slower where another process has the core; threads
    # that never spin make it half as fast where none has (benchmarks/threads.py).
    "GOMP_SPINCOUNT": "1000",
}


def keep_quiet() -> None:
    """Switch usage statistics off, unless the user has set otherwise."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)


def prepare() -> None:
    """Switch usage statistics off, and waiting threads to sleep, unless the user has set otherwise."""
    keep_quiet()
    for name, value in THREADS.items():
        os.environ.setdefault(name, value)
