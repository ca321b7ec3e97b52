"""Predict a table with the champion.

python src/predict.py --config configs/training_config.yaml --input rows.csv --output predictions.csv
"""

import sys

# This folder holds files named like libraries (evaluate): it goes to the end of the path before anything is imported.
sys.path.append(sys.path.pop(0))

from mlops_pipeline.cli import main

if __name__ == "__main__":
    main(["predict", *sys.argv[1:]])
