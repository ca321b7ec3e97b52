"""What every process of ours sets for itself before it loads a library."""

import os

QUIET = {
    # Nobody is told how the tools are used: MLflow, Prefect's client and Evidently; Prefect's server; DVC; ONNX Runtime.
    "DO_NOT_TRACK": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DVC_NO_ANALYTICS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # ONNX Runtime would look its maker's host up with the first session.
    "ORT_DISABLE_TELEMETRY": "1",
}

PATIENT = {
    # The server that lives as long as a flow's run makes its database first; on a busy machine that takes longer than Prefect's 20 s.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
}

THREADS = {
    # Threads that spin long while they wait make a fit 25 times slower where another process has the core; threads
    # that never spin make it half as fast where none has (benchmarks/threads.py).
    "GOMP_SPINCOUNT": "1000",
}


def at_start() -> None:
    """What every Python of the environment does at its start (environment.pth), so that tools typed by hand are quiet and patient too.

    Whatever the user has set stays.
    """
    for name, value in {**QUIET, **PATIENT}.items():
        os.environ.setdefault(name, value)


def prepare() -> None:
    """The same in a process of ours, and threads that wait are sent to sleep."""
    at_start()
    for name, value in THREADS.items():
        os.environ.setdefault(name, value)
