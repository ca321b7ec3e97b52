"""Train outside any orchestrator, after bringing the stages before it up to date, and log to MLflow.

python src/train.py --config configs/training_config.yaml
"""

import sys

# This folder holds files named like libraries (evaluate): it goes to the end of the path before anything is imported.
sys.path.append(sys.path.pop(0))

from mlops_pipeline.cli import main

if __name__ == "__main__":
    main(["run", "--from", "train", "--to", "train", *sys.argv[1:]])
