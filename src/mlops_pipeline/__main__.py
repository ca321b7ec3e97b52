"""``python -m mlops_pipeline`` is ``mlops``."""

from mlops_pipeline.cli import main

main()
