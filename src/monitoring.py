"""Compare current rows with reference rows: missing values, drift, the model's quality, a quantile of one column.

python src/monitoring.py --reference reference.csv --current current.csv --output report
"""

import sys

if __name__ == "__main__":
    # This folder holds files named like libraries (evaluate): it goes to the end of the path before anything is imported.
    sys.path.append(sys.path.pop(0))

from mlops_pipeline.cli import main
from mlops_pipeline.monitoring.report import MonitoringReport, create_model_monitoring_report

__all__ = ["MonitoringReport", "create_model_monitoring_report"]

if __name__ == "__main__":
    main(["monitor", "report", *sys.argv[1:]])
