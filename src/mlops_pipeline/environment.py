"""What every process of ours sets for itself before it loads a library."""

import os

QUIET = {
    # Nobody is told how the tools are used: MLflow, Prefect's client and Evidently; Prefect's server; DVC.
    "DO_NOT_TRACK": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DVC_NO_ANALYTICS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # Threads that spin while they wait make a fit many times slower on a machine that is shared.
    "OMP_WAIT_POLICY": "PASSIVE",
}


def prepare() -> None:
    """Switch usage statistics off, and waiting threads to sleep, unless the user has set otherwise."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
