"""Evaluate the trained model on the held-out rows, after bringing the stages before it up to date.

python src/evaluate.py --config configs/training_config.yaml
"""

import sys

# This folder holds files named like libraries (evaluate): it goes to the end of the path before anything is imported.
sys.path.append(sys.path.pop(0))

from mlops_pipeline.cli import main

if __name__ == "__main__":
    main(["run", "--from", "evaluate", "--to", "evaluate", *sys.argv[1:]])
