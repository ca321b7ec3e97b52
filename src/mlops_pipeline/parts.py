"""Our own parts, declared as anybody declares one; each function is imported when it is used."""

from mlops_pipeline.plugins import Check, Encoder, Estimator, Format, GateRule, Metric, Store

_ESTIMATORS = "mlops_pipeline.modelling.estimators"
_METRICS = "mlops_pipeline.modelling.metrics"
_CHECKS = "mlops_pipeline.tables.checks"
_GATE = "mlops_pipeline.modelling.gate"

CLASSES = ("binary", "multiclass")

ESTIMATORS = (
    Estimator(
        "random_forest",
        f"{_ESTIMATORS}:random_forest",
        "Trees on resampled rows, averaged",
        encoder="ordinal_imputed",
        search=f"{_ESTIMATORS}:search_random_forest",
    ),
    Estimator(
        "logistic_regression",
        f"{_ESTIMATORS}:logistic_regression",
        "A linear model of the log-odds",
        tasks=CLASSES,
        encoder="one_hot",
        search=f"{_ESTIMATORS}:search_logistic_regression",
    ),
    Estimator(
        "hist_gradient_boosting",
        f"{_ESTIMATORS}:hist_gradient_boosting",
        "Gradient-boosted trees on histograms, scikit-learn's",
        search=f"{_ESTIMATORS}:search_hist_gradient_boosting",
    ),
    Estimator(
        "lightgbm",
        f"{_ESTIMATORS}:lightgbm",
        "Gradient-boosted trees on histograms, LightGBM's",
        search=f"{_ESTIMATORS}:search_lightgbm",
        requirements=("lightgbm",),
    ),
    Estimator("dummy", f"{_ESTIMATORS}:dummy", "The training rows' class shares or mean: what any model must beat"),
)

ENCODERS = (
    Encoder("ordinal", f"{_ESTIMATORS}:ordinal", "Numbers as they are, categories numbered; for trees"),
    Encoder("ordinal_imputed", f"{_ESTIMATORS}:ordinal_imputed", "The same with the median for what is missing"),
    Encoder("one_hot", f"{_ESTIMATORS}:one_hot", "Numbers imputed and scaled, a column for each category; for linear models"),
)

METRICS = (
    Metric("roc_auc", f"{_METRICS}:roc_auc", "Share of pairs in the right order", tasks=CLASSES),
    Metric("average_precision", f"{_METRICS}:average_precision", "Precision averaged over recall", tasks=CLASSES),
    Metric("log_loss", f"{_METRICS}:log_loss", "Negative log-likelihood of the truth", tasks=CLASSES, lower_is_better=True),
    Metric("brier", f"{_METRICS}:brier", "Mean squared error of the probabilities", tasks=CLASSES, lower_is_better=True),
    Metric("accuracy", f"{_METRICS}:accuracy", "Share of rows whose likeliest class is the true one", tasks=CLASSES),
    Metric("f1", f"{_METRICS}:f1", "Harmonic mean of precision and recall", tasks=CLASSES),
    Metric("rmse", f"{_METRICS}:rmse", "Root of the mean squared error", tasks=("regression",), lower_is_better=True),
    Metric("mae", f"{_METRICS}:mae", "Mean absolute error", tasks=("regression",), lower_is_better=True),
    Metric("r2", f"{_METRICS}:r2", "Share of the target's variance that is explained", tasks=("regression",)),
)

CHECKS = (
    Check("schema", f"{_CHECKS}:keeps_schema", "Types, ranges, categories and null shares are those of the committed schema"),
    Check("duplicates", f"{_CHECKS}:few_duplicates", "At most validate.max_duplicate_share of the rows are repeated"),
    Check("entity_key", f"{_CHECKS}:unique_entity_key", "dataset.entity_key tells every row from the others"),
    Check("target", f"{_CHECKS}:target_varies", "The target has two classes of validate.min_class_share, or varies"),
    Check("leakage", f"{_CHECKS}:no_leakage", "No feature alone predicts the target beyond validate.max_single_feature_auc"),
)

GATE_RULES = (
    GateRule("held_out", f"{_GATE}:held_out", "It was evaluated on held-out rows"),
    GateRule(
        "baseline", f"{_GATE}:beats_baseline", "It beats the dummy baseline by more than gate.beat_baseline_by", limit="beat_baseline_by"
    ),
    GateRule(
        "champion",
        f"{_GATE}:not_worse_than_champion",
        "It is not worse than the champion by more than gate.champion_margin",
        limit="champion_margin",
    ),
    GateRule("worst_slice", f"{_GATE}:worst_slice", "The metric in the worst slice keeps gate.worst_slice", limit="worst_slice"),
    GateRule(
        "calibration", f"{_GATE}:calibrated", "Its calibration error is at most gate.max_calibration_error", limit="max_calibration_error"
    ),
    GateRule("latency", f"{_GATE}:quick", "It predicts one row within gate.max_latency_ms", limit="max_latency_ms"),
    GateRule("size", f"{_GATE}:small", "It takes at most gate.max_size_mb", limit="max_size_mb"),
    GateRule("rolled_back", f"{_GATE}:not_rolled_back", "No person took it back"),
)

FORMATS = (
    Format("skops", "mlops_pipeline.modelling.formats.skops:load_model", "The scikit-learn pipeline without pickle; every version has it"),
    Format("onnx", "mlops_pipeline.modelling.formats.onnx:make_twin", "The twin that serves without scikit-learn, where it agrees"),
)

STORES = (
    Store("sqlite", "mlops_pipeline.records.sqlite:SQLiteFiles", "Files in record.folder, one a worker and day"),
    Store("postgresql", "mlops_pipeline.records.postgresql:PostgreSQLTable", "Tables at record.uri, shared by servers"),
)
