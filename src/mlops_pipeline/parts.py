"""Our own parts, declared as anybody declares one; each function is imported when it is used."""

from mlops_pipeline.contract.task import TASKS
from mlops_pipeline.plugins import Check, Encoder, Estimator, GateRule, Metric, ModelFormat, Module, Store

_estimators = Module("mlops_pipeline.modelling.estimators")
_candidates = Module("mlops_pipeline.modelling.candidates")
_metrics = Module("mlops_pipeline.modelling.metrics")
_checks = Module("mlops_pipeline.tables.checks")
_gate = Module("mlops_pipeline.modelling.gate")
_sqlite = Module("mlops_pipeline.records.sqlite")
_postgresql = Module("mlops_pipeline.records.postgresql")

CLASSES = tuple(name for name, task in TASKS.items() if task.has_classes)
VALUES = tuple(name for name in TASKS if name not in CLASSES)

ESTIMATORS = (
    Estimator(
        "random_forest",
        _estimators.random_forest,
        "Trees on resampled rows, averaged",
        encoder="ordinal_imputed",
        search=_estimators.search_random_forest,
    ),
    Estimator(
        "logistic_regression",
        _estimators.logistic_regression,
        "A linear model of the log-odds",
        tasks=CLASSES,
        encoder="one_hot",
        search=_estimators.search_logistic_regression,
    ),
    Estimator(
        "ridge", _estimators.ridge, "A linear model with an L2 penalty", tasks=VALUES, encoder="one_hot", search=_estimators.search_ridge
    ),
    Estimator(
        "elastic_net",
        _estimators.elastic_net,
        "A linear model with an L1 and L2 penalty that folds find",
        tasks=VALUES,
        encoder="one_hot",
        search=_estimators.search_elastic_net,
    ),
    Estimator(
        "hist_gradient_boosting",
        _estimators.hist_gradient_boosting,
        "Gradient-boosted trees on histograms, scikit-learn's",
        search=_estimators.search_hist_gradient_boosting,
    ),
    Estimator(
        "lightgbm",
        _estimators.lightgbm,
        "Gradient-boosted trees on histograms, LightGBM's",
        search=_estimators.search_lightgbm,
        requirements=("lightgbm",),
    ),
    Estimator(
        "auto", _candidates.candidates, "The best of the others by folds of the training rows, within train.time_budget_s", race=True
    ),
    Estimator("dummy", _estimators.dummy, "The training rows' class shares or mean: what any model must beat"),
)

ENCODERS = (
    Encoder("ordinal", _estimators.ordinal, "Numbers as they are, categories numbered; for trees"),
    Encoder("ordinal_imputed", _estimators.ordinal_imputed, "The same with the median for what is missing"),
    Encoder("native", _estimators.native, "As ordinal, and LightGBM is told which columns are categories"),
    Encoder("target_mean", _estimators.target_mean, "As one_hot, categories by the target's mean of each level, cross-fitted"),
    Encoder("one_hot", _estimators.one_hot, "Numbers imputed and scaled, a column for each category; for linear models"),
)

METRICS = (
    Metric("roc_auc", _metrics.roc_auc, "Share of pairs in the right order", tasks=CLASSES),
    Metric("average_precision", _metrics.average_precision, "Precision averaged over recall", tasks=CLASSES),
    Metric("log_loss", _metrics.log_loss, "Negative log-likelihood of the truth", tasks=CLASSES, lower_is_better=True),
    Metric("brier", _metrics.brier, "Mean squared error of the probabilities", tasks=CLASSES, lower_is_better=True),
    Metric("accuracy", _metrics.accuracy, "Share of rows whose likeliest class is the true one", tasks=CLASSES),
    Metric("f1", _metrics.f1, "Harmonic mean of precision and recall", tasks=CLASSES),
    Metric("rmse", _metrics.rmse, "Root of the mean squared error", tasks=VALUES, lower_is_better=True),
    Metric("mae", _metrics.mae, "Mean absolute error", tasks=VALUES, lower_is_better=True),
    Metric("r2", _metrics.r2, "Share of the target's variance that is explained", tasks=VALUES),
)

CHECKS = (
    Check("schema", _checks.keeps_schema, "Types, ranges, categories and null shares are those of the committed schema"),
    Check("duplicates", _checks.few_duplicates, "At most validate.max_duplicate_share of the rows are repeated"),
    Check("entity_key", _checks.unique_entity_key, "dataset.entity_key tells every row from the others"),
    Check("target", _checks.target_varies, "The target has two classes of validate.min_class_share, or varies"),
    Check("leakage", _checks.no_leakage, "No feature alone predicts the target beyond validate.max_single_feature_auc"),
)

GATE_RULES = (
    GateRule("held_out", _gate.held_out, "It was evaluated on held-out rows"),
    GateRule("baseline", _gate.beats_baseline, "It beats the dummy baseline by more than gate.beat_baseline_by", limit="beat_baseline_by"),
    GateRule(
        "champion",
        _gate.not_worse_than_champion,
        "It is not worse than the champion by more than gate.champion_margin",
        limit="champion_margin",
    ),
    GateRule("worst_slice", _gate.worst_slice, "The metric in the worst slice keeps gate.worst_slice", limit="worst_slice"),
    GateRule("calibration", _gate.calibrated, "Its calibration error is at most gate.max_calibration_error", limit="max_calibration_error"),
    GateRule("latency", _gate.quick, "It predicts one row within gate.max_latency_ms", limit="max_latency_ms"),
    GateRule("size", _gate.small, "It takes at most gate.max_size_mb", limit="max_size_mb"),
    GateRule("skew", _gate.without_skew, "Features computed from the source's rows as a server does are the table's", limit="skew"),
    GateRule("rolled_back", _gate.not_rolled_back, "No person took it back"),
)

FORMATS = (
    ModelFormat(
        "onnx_int8",
        "mlops_pipeline.inference.int8:int8_engine",
        "The ONNX twin with weights in 8 bits (onnx.quantise)",
        save="mlops_pipeline.modelling.formats.onnx:save_twin",
        twin=True,
        platform="onnx_onnxv1",
        file="model.onnx",
    ),
    ModelFormat(
        "onnx",
        "mlops_pipeline.inference.engine:onnx_engine",
        "The twin that serves without scikit-learn, where it agrees",
        save="mlops_pipeline.modelling.formats.onnx:save_twin",
        twin=True,
        platform="onnx_onnxv1",
        at="onnx",
        file="model.onnx",
    ),
    ModelFormat(
        "skops",
        "mlops_pipeline.modelling.formats.skops:skops_engine",
        "The scikit-learn pipeline without pickle",
        save="mlops_pipeline.modelling.formats.skops:save_model",
        platform="sklearn_skops",
        at=".",
        file="model.skops",
    ),
)

STORES = (
    Store("sqlite", _sqlite.SQLiteFiles, "Files in record.folder, one a worker and day", reader=_sqlite.recorded_files),
    Store(
        "postgresql",
        _postgresql.PostgreSQLTable,
        "Tables at record.uri, shared by servers",
        reader=_postgresql.recorded_table,
        schemes=("postgresql", "postgres", "postgresql+psycopg"),
    ),
)

PARTS = (*ESTIMATORS, *ENCODERS, *METRICS, *CHECKS, *GATE_RULES, *FORMATS, *STORES)
