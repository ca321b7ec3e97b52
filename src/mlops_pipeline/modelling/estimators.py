"""Our estimators and feature encoders by name (declared in ``parts``), and a model of either, whoever's they are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mlops_pipeline import plugins
from mlops_pipeline.config.dataset import Column, Task
from mlops_pipeline.config.pipeline import Member, Members
from mlops_pipeline.config.sentences import Sentences
from mlops_pipeline.config.text import Tfidf
from mlops_pipeline.config.tree import Frozen, tree_of
from mlops_pipeline.contract.privacy import MIN_LEVEL_ROWS, RARE, told_error
from mlops_pipeline.contract.task import has_classes
from mlops_pipeline.contract.values import MISSING
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.modelling.fitting import ALONE, Fitting
from mlops_pipeline.modelling.folds import cutter, forward
from mlops_pipeline.modelling.kept_embeddings import embedding
from mlops_pipeline.modelling.thresholds import settle
from mlops_pipeline.modelling.trended import TREND, Trended, placed

if TYPE_CHECKING:
    from optuna import Trial
    from sklearn.pipeline import Pipeline


NATIVE = "native categories"
"""The step of an encoder whose columns an estimator may take for categories."""


BLEND = "blend"
"""The estimator that is the mean of others."""

FINE_TUNING = "transformer"
"""The estimator that an encoder of text learns with."""

SCALED = ("one_hot", "target_mean")
"""Encoders for linear models."""

TEXT = "text "
"""How the name of an encoder's step begins that is given one column of texts."""

TEXT_NUMBERS = 24
"""How many numbers a text is drawn together to, for trees."""

ENDS_EARLY_FROM = 10_000
"""Of more rows histogram gradient boosting holds some back unasked (scikit-learn, ``early_stopping``)."""

TINY = 1e-6
"""A target of a smaller standard deviation is next to nothing to a forest."""

FOLDS = 5
"""By so many scikit-learn finds a penalty, where nobody says."""


def random_forest(task: Task, seed: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    kind = RandomForestRegressor if not has_classes(task) else RandomForestClassifier
    return kind(n_estimators=100, min_samples_leaf=5, random_state=seed)


def search_random_forest(trial: Trial) -> dict[str, Any]:
    return {
        "min_samples_leaf": trial.suggest_int("min_samples_leaf", 1, 100, log=True),
        "max_features": trial.suggest_float("max_features", 0.2, 1.0),
    }


def logistic_regression(_task: Task, seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=1000, random_state=seed)


def search_logistic_regression(trial: Trial) -> dict[str, Any]:
    return {"C": trial.suggest_float("C", 1e-3, 1e2, log=True)}


def ridge(_task: Task, seed: int) -> Any:
    from sklearn.linear_model import Ridge

    return Ridge(random_state=seed)


def search_ridge(trial: Trial) -> dict[str, Any]:
    return {"alpha": trial.suggest_float("alpha", 1e-3, 1e3, log=True)}


def elastic_net(_task: Task, seed: int) -> Any:
    """The penalty is found by folds of its own, of the target in standard deviations (:func:`fit_estimator`): it has no unit then."""
    from sklearn.linear_model import ElasticNetCV

    return ElasticNetCV(l1_ratio=0.5, max_iter=2000, random_state=seed)


def search_elastic_net(trial: Trial) -> dict[str, Any]:
    return {"l1_ratio": trial.suggest_float("l1_ratio", 0.05, 1.0)}


def hist_gradient_boosting(task: Task, seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    kind = HistGradientBoostingRegressor if not has_classes(task) else HistGradientBoostingClassifier
    return kind(random_state=seed)


def search_hist_gradient_boosting(trial: Trial) -> dict[str, Any]:
    return {
        "learning_rate": trial.suggest_float("learning_rate", 0.01, 0.3, log=True),
        "max_leaf_nodes": trial.suggest_int("max_leaf_nodes", 7, 127, log=True),
        "min_samples_leaf": trial.suggest_int("min_samples_leaf", 5, 200, log=True),
    }


def lightgbm(task: Task, seed: int) -> Any:
    from lightgbm import LGBMClassifier, LGBMRegressor

    kind = LGBMRegressor if not has_classes(task) else LGBMClassifier
    # deterministic with one histogram layout: the same bytes whatever the number of threads (LightGBM, Parameters);
    # n_jobs=0 leaves that number to OpenMP, since any other would be written into the model.
    return kind(n_estimators=200, random_state=seed, deterministic=True, force_row_wise=True, verbosity=-1, n_jobs=0)


def search_lightgbm(trial: Trial) -> dict[str, Any]:
    return {
        "learning_rate": trial.suggest_float("learning_rate", 0.01, 0.3, log=True),
        "num_leaves": trial.suggest_int("num_leaves", 7, 255, log=True),
        "min_child_samples": trial.suggest_int("min_child_samples", 5, 500, log=True),
        "colsample_bytree": trial.suggest_float("colsample_bytree", 0.4, 1.0),
    }


def dummy(task: Task, _seed: int) -> Any:
    from sklearn.dummy import DummyClassifier, DummyRegressor

    return DummyRegressor() if not has_classes(task) else DummyClassifier(strategy="prior")


def blend(task: Task, _seed: int, settings: Members) -> Any:
    """The settings' members as they are: :func:`build_model`, which knows the columns, makes a pipeline of each."""
    from mlops_pipeline.modelling.blend import Blend

    linear = "logistic_regression" if has_classes(task) else "ridge"
    return Blend(settings.members or tuple(Member(estimator=name) for name in (linear, "random_forest", "lightgbm")))


def whole(_features: dict[str, Column]) -> Any:
    """Raw columns as they are."""
    from sklearn.preprocessing import FunctionTransformer

    return FunctionTransformer()


def all_parts_of(
    name: str, encoder: str | None, params: dict[str, Any]
) -> tuple[plugins.Estimator, list[plugins.Estimator | plugins.Encoder]]:
    """The estimator; and it, the encoder, and those of the members that a blend's parameters name."""
    estimator, encodes = plugins.parts_of_model(name, encoder)
    members = params.get("members") or () if estimator.settings is Members else ()
    within = [part for one in members for part in plugins.parts_of_model(one["estimator"], one.get("encoder"))]
    return estimator, [estimator, encodes, *within]


def build_model(
    name: str,
    task: Task,
    features: dict[str, Column],
    params: dict[str, Any],
    seed: int,
    encoder: str | None = None,
    encoder_params: dict[str, Any] | None = None,
) -> Pipeline:
    """An unfitted scikit-learn pipeline that takes raw columns: the encoder, then the named estimator.

    Raises :class:`PipelineError` for a parameter the estimator does not have, and for what another's part does wrong.
    """
    from sklearn.pipeline import Pipeline

    part, encodes = plugins.parts_of_model(name, encoder)
    if part.settings is not None:
        estimator = _with_settings(part, task, seed, params)
    else:
        made = plugins.run(part, task, seed)
        own_params = {key: value for key, value in params.items() if key != TREND or _has_param(made, key)}
        estimator = _with_params(part, made, own_params)
        if TREND in params and TREND not in own_params:
            estimator = Trended(estimator, _line_along(params[TREND], task, features))
    plugins.check_extra(part)
    plugins.check_extra(encodes)
    if part.name == BLEND and plugins.is_ours(part):
        if encodes.name != part.encoder:
            raise PipelineError(f"train.encoder = '{encodes.name}': each member of a blend has its own: name it under train.params.members")
        # A member cannot be a race, or a blend again.
        estimator.members = [
            build_model(_member(one.estimator), task, features, one.params, seed, one.encoder, one.encoder_params)
            for one in estimator.members
        ]
    own = () if encodes.settings is None else (tree_of(encodes.settings, encoder_params or {}, encodes.name, ("train", "encoder_params")),)
    if part.name == FINE_TUNING and plugins.is_ours(part):
        _check_fine_tuned(encodes, *own)
    else:
        for need in ("fit", "predict", *(() if not has_classes(task) else ("predict_proba",))):
            if not hasattr(estimator, need):
                raise plugins.broken(part, f"it made a {type(estimator).__name__}, which has no {need}, as a {task} task needs")
    columns = plugins.run(encodes, features, *own)
    _refuse_a_class(encodes, columns)
    for need in ("fit", "transform"):
        if not hasattr(columns, need):
            raise plugins.broken(encodes, f"it made a {type(columns).__name__}, which has no {need}, as an encoder needs")
    return Pipeline([("columns", columns), ("model", estimator)])


def _has_param(estimator: Any, name: str) -> bool:
    """Whether an estimator, as another's of a library of time series, has a parameter of that name itself."""
    return not isinstance(estimator, type) and hasattr(estimator, "get_params") and name in estimator.get_params()


def _line_along(name: Any, task: Task, features: dict[str, Column]) -> str:
    """The feature along which a line is taken off the target before a regressor is fitted. Raises :class:`PipelineError`."""
    if has_classes(task):
        raise PipelineError(f"train.params.{TREND} = {name!r}: a line is taken off a number, and this task is {task}: take it out")
    fit = [each for each, column in features.items() if column.kind in ("number", "integer", "datetime")]
    if name not in fit:
        raise PipelineError(f"train.params.{TREND} = {name!r}: names no feature that is a number or a moment: use one of {', '.join(fit)}")
    return str(name)


def _refuse_a_class(part: plugins.Part, made: Any) -> None:
    if isinstance(made, type):
        raise plugins.broken(part, f"it gives the class {made.__name__} itself: call it, {made.__name__}()")


def why_not_fitted(error: Exception, parts: Iterable[plugins.Part], features: Mapping[str, Column]) -> str:
    """Why a model refuses to fit, in one line; of what comes from a file of the project's own, its kind and the place too."""
    why, place = told_error(error, features), plugins.place_in(parts, error)
    kind = "" if not place or why == type(error).__name__ else f"{type(error).__name__}: "
    return f"{kind}{why} ({place})" if place else why


def _check_fine_tuned(encodes: plugins.Encoder, *own: Any) -> None:
    """Raise :class:`PipelineError` unless an encoder of text is named that can learn, with columns beside it that fit a linear head."""
    if encodes.name != "sentences" or not plugins.is_ours(encodes):
        raise PipelineError(f"train.encoder = '{encodes.name}': transformer learns on from an encoder of texts: use sentences")
    if own[0].beside not in SCALED:
        raise PipelineError(f"train.encoder_params.beside = '{own[0].beside}': transformer has a linear head: use {' or '.join(SCALED)}")


def _member(name: str) -> str:
    """The name of an estimator that may be one of several."""
    part = plugins.part(plugins.Estimator, name, "train.params.members")
    if part.race or name == BLEND:
        raise PipelineError(f"train.params.members: '{name}' is made of others itself: name one that is not")
    return name


def _with_params(part: plugins.Estimator, estimator: Any, params: dict[str, Any]) -> Any:
    """The estimator with its own parameters set."""
    _refuse_a_class(part, estimator)
    if not hasattr(estimator, "get_params"):
        raise plugins.broken(part, f"it made a {type(estimator).__name__}, which is no estimator of scikit-learn's")
    _check_known(part, params, estimator.get_params())
    return estimator.set_params(**params)


def _check_known(part: plugins.Estimator, params: dict[str, Any], known: Iterable[str]) -> None:
    names = sorted(set(known) - {"random_state"})
    for key, value in params.items():
        if key not in names:
            remedy = "set 'seed' instead" if key == "random_state" else f"use one of {', '.join(names)}"
            raise PipelineError(f"train.params.{key} = {value!r}: {part.name} has no such parameter here: {remedy}")


def _with_settings(part: plugins.Estimator, task: Task, seed: int, params: dict[str, Any]) -> Any:
    """The estimator made from settings of its own, which a search may have changed."""
    if plugins.is_ours(part):
        _check_known(part, params, (part.settings or Frozen).model_fields)
    made = plugins.run(part, task, seed, tree_of(part.settings or Frozen, params, part.name, ("train", "params")))
    _refuse_a_class(part, made)
    return made


def ordinal(features: dict[str, Column]) -> Any:
    """Numbers as they are: scaling before trees moves split thresholds in float32, and with it the ONNX twin."""
    return _columns(features, "passthrough", _numbered())


def ordinal_imputed(features: dict[str, Column]) -> Any:
    """For trees that take no missing number."""
    return _columns(features, _imputed(), _numbered(), on_moments=_imputed())


def native(features: dict[str, Column]) -> Any:
    """As ordinal; an estimator that knows categories is told which they are."""
    return _columns(features, "passthrough", _numbered(), of_categories=NATIVE)


def one_hot(features: dict[str, Column]) -> Any:
    """For linear models."""
    from sklearn.preprocessing import OneHotEncoder

    return _columns(features, _scaled(), OneHotEncoder(handle_unknown="ignore"), on_moments=_scaled(), linear=True)


def tfidf(features: dict[str, Column], settings: Tfidf) -> Any:
    """Texts as weighted n-grams for a linear model, everything else as ``one_hot``; with ``numbers`` for trees, and as ``ordinal``."""
    from sklearn.preprocessing import OneHotEncoder

    if settings.numbers is not None:
        return _columns(features, "passthrough", _numbered(), on_texts=settings)
    return _columns(features, _scaled(), OneHotEncoder(handle_unknown="ignore"), on_moments=_scaled(), linear=True, on_texts=settings)


def target_mean(features: dict[str, Column]) -> Any:
    """For linear models, where categories have many levels."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler, TargetEncoder

    # By which folds it is told when it is fitted (:func:`encoded`), for they follow from the seed.
    means = make_pipeline(TargetEncoder(), StandardScaler())
    return _columns(features, _scaled(), means, on_moments=_scaled(), linear=True)


def sentences(features: dict[str, Column], settings: Sentences) -> Any:
    """Each text as the embedding that a pretrained encoder, which is not fitted, makes of it; other columns as another encoder does."""
    from sklearn.compose import ColumnTransformer

    from mlops_pipeline.modelling.sentences import SentenceEmbeddings

    texts = [name for name, column in features.items() if column.kind == "text"]
    if not texts:
        raise PipelineError("train.encoder = 'sentences': no feature is text: give one kind: text under dataset.columns, or take this out")
    others = {name: column for name, column in features.items() if name not in texts}
    beside = {"one_hot": one_hot, "target_mean": target_mean, "ordinal": ordinal, "ordinal_imputed": ordinal_imputed, "native": native}
    steps = list(beside[settings.beside](others).transformers) if others else []
    # The name of a column alone, not in a list: a text's step takes a sequence, and no matrix.
    steps += [
        (f"text {place} sentences", SentenceEmbeddings(folder=settings.folder, max_tokens=settings.max_tokens), name)
        for place, name in enumerate(texts)
    ]
    return ColumnTransformer(steps, verbose_feature_names_out=False)


def _numbered() -> Any:
    from sklearn.preprocessing import OrdinalEncoder

    return OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)


def _imputed() -> Any:
    from sklearn.impute import SimpleImputer

    return SimpleImputer(strategy="median", keep_empty_features=True)


def _scaled() -> Any:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(_imputed(), StandardScaler())


def _columns(
    features: dict[str, Column],
    on_numbers: Any,
    on_categories: Any,
    on_moments: Any = None,
    of_categories: str = "categories",
    *,
    linear: bool = False,
    on_texts: Tfidf | None = None,
) -> Any:
    """Raw columns to a float matrix: a step for the numbers, one for the categories, one for the moments, and some for each text.

    Moments become parts of the calendar, which ``on_moments`` then takes; texts are n-grams, weighted by how rare they are, and for
    trees drawn together to some numbers.
    """
    from sklearn.compose import ColumnTransformer

    of_kind: dict[str, list[str]] = {"category": [], "datetime": [], "text": [], "number": []}
    for name, column in features.items():
        of_kind[column.kind if column.kind in of_kind else "number"].append(name)
    steps = [("numbers", on_numbers, of_kind["number"]), (of_categories, on_categories, of_kind["category"])]
    if of_kind["datetime"]:
        steps.append(("moments", _calendar(on_moments, linear=linear), of_kind["datetime"]))
    read_by = on_texts or (
        Tfidf(characters=(2, 4), most=2**13) if linear else Tfidf(words=None, characters=(2, 4), most=2**13, numbers=TEXT_NUMBERS)
    )
    # The name of a column alone, not in a list: a text's step takes a sequence, and no matrix.
    texts: list[Any] = [
        (f"{TEXT}{place} {how}", step, name)
        for place, name in enumerate(of_kind["text"])
        for how, step in _of_text(features[name], read_by)
    ]
    return ColumnTransformer([*(step for step in steps if step[2]), *texts], verbose_feature_names_out=False)


def _calendar(on_parts: Any, *, linear: bool) -> Any:
    from sklearn.pipeline import make_pipeline

    from mlops_pipeline.modelling.encoders import Moments

    parts = Moments(cyclic=linear)
    return parts if on_parts is None else make_pipeline(parts, on_parts)


def _of_text(column: Column, settings: Tfidf) -> list[tuple[str, Any]]:
    """The steps of one column of text: one for n-grams of words, one for those of characters.

    Of a private one only digests of words are kept, and of those that several rows have: n-grams of characters would spell its words.
    """
    from mlops_pipeline.modelling.texts import WeightedNgrams

    rows = max(settings.min_rows, MIN_LEVEL_ROWS) if column.private else settings.min_rows
    kept: dict[str, Any] = {"hidden": column.private, "min_rows": rows, "most": settings.most, "numbers": settings.numbers}
    sorts: list[tuple[str, tuple[int, int] | None]] = [("words", settings.words), ("characters", settings.characters)]
    if column.private:
        sorts = [("words", settings.words or (1, 2))]
    return [(of, WeightedNgrams(of=of, least=sizes[0], most_of=sizes[1], **kept)) for of, sizes in sorts if sizes is not None]


def fit(model: Pipeline, x: Any, y: Any, threads: int | None, during: Fitting = ALONE) -> Pipeline:
    """Fit on all (or the given number of) cores; the fitted model does not remember how many there were."""
    from mlops_pipeline.modelling.blend import Blend

    columns, estimator = model.named_steps["columns"], model.named_steps["model"]
    if isinstance(estimator, Blend):
        estimator.members = [fit(member, x, y, threads, during.of_member(place)) for place, member in enumerate(estimator.members)]
        return model
    with embedding(threads, during.say, during.tell):
        matrix = encoded(columns, x, y, threads, during)
    if hasattr(estimator, "fine_tuned"):
        model.steps = _fine_tuned(estimator, columns, matrix, x, y, replace(during, threads=threads))
        return model
    placed(columns, estimator)
    model.steps[-1] = ("model", fit_estimator(estimator, matrix, y, threads, native_categories(columns, estimator), during))
    return model


def encoded(columns: Any, x: Any, y: Any, threads: int | None, during: Fitting = ALONE) -> Any:
    """The matrix of raw columns, by an encoder that is fitted to them and to numbers (float64) or classes.

    Of ``during`` it is told what rows belong to, for the target's means that a row is given are never of its own thing's rows, and the
    seed by which other rows are drawn for these, and texts are drawn together to numbers.
    """
    import numpy as np
    from threadpoolctl import threadpool_limits

    from mlops_pipeline.modelling.texts import WeightedNgrams

    if np.issubdtype(y.dtype, np.floating):
        # Whole numbers would be taken for classes, a column each.
        columns.set_params(**{name: "continuous" for name in columns.get_params() if name.endswith("__target_type")})
    _leave_out_rare(columns, x)
    means = [encoder for _, step, _ in getattr(columns, "transformers", ()) if (encoder := _target_encoder(step)) is not None]
    own = [encoder.cv for encoder in means]
    by_thing = _folds_of_things(y, during) if means else []
    for encoder in means:
        encoder.set_params(cv=by_thing or _folds_at_random(encoder, y, during))
    for _, step, _ in getattr(columns, "transformers", ()):
        if isinstance(step, WeightedNgrams):
            step.set_params(seed=during.seed)
    with threadpool_limits(limits=threads):
        matrix = columns.fit_transform(x, y) if hasattr(columns, "fit_transform") else columns.fit(x, y).transform(x)
    # What is saved does not remember places of rows.
    for encoder, cv in zip(means, own, strict=True):
        encoder.set_params(cv=cv)
    fitted = (_target_encoder(step) for _, step, _ in getattr(columns, "transformers_", ()))
    for encoder, cv in zip((each for each in fitted if each is not None), own, strict=True):
        encoder.set_params(cv=cv)
    _take_unseen_for_rare(columns)
    return matrix


def _leave_out_rare(columns: Any, x: Any) -> None:
    """Tell our encoders of categories the levels they may learn: to them, a rare one is one that they have never seen.

    ``TargetEncoder`` is not told: it would count unknown rows as the first level's. To it, all rare ones are one level; a column
    that has such rows gets an encoder of its own, which knows one value alone for what it has never seen.
    """
    from sklearn.base import clone
    from sklearn.compose import ColumnTransformer
    from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

    if not isinstance(columns, ColumnTransformer):
        return
    steps: list[tuple[str, Any, Any]] = []
    for label, step, names in columns.transformers:
        # Another's encoder may choose its columns by a function, or by their places.
        several = names if isinstance(names, Iterable) and not isinstance(names, str) else ()
        rare = [name for name in several if name in x and (x[name] == RARE).any()]
        if rare and isinstance(step, OneHotEncoder | OrdinalEncoder):
            step.set_params(categories=[sorted(set(x[name].unique()) - {RARE}) or [MISSING] for name in names])
        if rare and _target_encoder(step) is not None:
            others = [name for name in names if name not in rare]
            steps += [(label, step, others)] if others else []
            steps += [(f"{label} {place} with rare levels", clone(step), [name]) for place, name in enumerate(rare)]
        else:
            steps.append((label, step, names))
    columns.transformers = steps


def _take_unseen_for_rare(columns: Any) -> None:
    """Let a level that the fitted encoder of a column with rare levels has never seen mean what these mean together, not what all do."""
    import numpy as np

    for _, step, names in getattr(columns, "transformers_", ()):
        encoder = _target_encoder(step)
        if encoder is not None and len(names) == 1 and RARE in (levels := encoder.categories_[0].tolist()):
            means = [float(each[levels.index(RARE)]) for each in encoder.encodings_]  # of several classes there is one for each
            encoder.target_mean_ = np.array(means) if encoder.target_type_ == "multiclass" else means[0]


def _target_encoder(step: Any) -> Any:
    """The ``TargetEncoder`` that a step on columns begins with; None if there is none."""
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import TargetEncoder

    first = step.steps[0][1] if isinstance(step, Pipeline) else step
    return first if isinstance(first, TargetEncoder) else None


DENSE_VALUES = 25_000_000
"""Up to so many (200 MB) an elastic net is given zeros too: it knows how columns go together then (2,198 houses: 0.4 s, not 6.8)."""


def fit_estimator(estimator: Any, matrix: Any, y: Any, threads: int | None, categories: list[int], during: Fitting = ALONE) -> Any:
    """Fit an estimator to a matrix, some of whose columns may be categories that it is told of, and to a number near zero."""
    import numpy as np
    from sklearn.ensemble import (
        HistGradientBoostingClassifier,
        HistGradientBoostingRegressor,
        RandomForestClassifier,
        RandomForestRegressor,
    )
    from threadpoolctl import threadpool_limits

    from mlops_pipeline.modelling.centred import Centred, center_of

    if isinstance(estimator, Trended):
        estimator.regressor = fit_estimator(estimator.regressor, matrix, estimator.rest_of(matrix, y), threads, categories, during)
        return estimator
    center = 0.0 if hasattr(estimator, "predict_proba") else center_of(y)
    y = y - center if center else y

    asked: dict[str, Any] = {}
    """What it is told for this fit alone, as it was before."""
    if isinstance(estimator, RandomForestClassifier | RandomForestRegressor):
        asked["n_jobs"] = None
        estimator.set_params(n_jobs=threads or -1)
    told: dict[str, Any] = {"categorical_feature": categories} if categories else {}
    if hasattr(estimator, "learns_in_passes"):
        told["during"] = replace(during, threads=threads)
    if isinstance(estimator, HistGradientBoostingClassifier | HistGradientBoostingRegressor):
        if isinstance(matrix, np.ndarray) and (parts := _watched(estimator, y, during)) is not None:
            taught, held = parts
            told |= {"X_val": matrix[held], "y_val": y[held]}
            matrix, y = matrix[taught], y[taught]
            # By itself it asks how many it is given to learn from, not how many rows there are.
            asked["early_stopping"] = estimator.early_stopping
            estimator.set_params(early_stopping=True)
        matrix = _without_empty_columns(matrix)
    folds = _own_folds(estimator, len(y), during)
    if folds:
        asked["cv"] = estimator.cv
        estimator.set_params(cv=folds)
    if categories and type(estimator).__name__.startswith("LGBM"):
        matrix = _unknown_as_null(matrix, categories)
    spread = _unit_of(estimator, y)
    y = y / spread if spread else y
    if spread and not isinstance(matrix, np.ndarray) and matrix.shape[0] * matrix.shape[1] <= DENSE_VALUES:
        matrix = matrix.toarray()
    # The last bits of a product depend on how many threads share it: linear algebra keeps to one.
    with threadpool_limits(limits={"openmp": threads, "blas": 1}):
        estimator.fit(matrix, y, **told)
    settle(estimator, matrix)
    estimator.set_params(**asked)
    if spread and hasattr(estimator, "estimators_"):
        for tree in estimator.estimators_:
            tree.tree_.value[...] *= spread
    elif spread:
        estimator.coef_, estimator.intercept_ = estimator.coef_ * spread, estimator.intercept_ * spread
    if hasattr(estimator, "_bin_mapper"):
        # HistGradientBoosting keeps the thread count of its binning, which prediction never uses.
        estimator._bin_mapper.n_threads = 1
    return Centred(estimator, center) if center else estimator


def _fine_tuned(estimator: Any, columns: Any, matrix: Any, x: Any, y: Any, during: Fitting) -> list[tuple[str, Any]]:
    """A pipeline's steps when the encoder of its texts has learned from the rows, and what takes its numbers with it."""
    from threadpoolctl import threadpool_limits

    from mlops_pipeline.modelling.centred import Centred, center_of

    center = 0.0 if has_classes(estimator.task) else center_of(y)
    with threadpool_limits(limits={"openmp": during.threads, "blas": 1}):
        tuned, linear = estimator.fine_tuned(columns, matrix, x, y - center if center else y, during)
    return [("columns", tuned), ("model", Centred(linear, center) if center else linear)]


def _watched(estimator: Any, y: Any, during: Fitting) -> tuple[Any, Any] | None:
    """Rows to learn from, and those that tell histogram gradient boosting when that is enough, where rows belong together or have an order.

    None where it asks none, or a class would be wanting among the first: then it draws them itself.
    """
    import numpy as np

    asks, share = estimator.early_stopping, estimator.validation_fraction
    is_drawn = during.things is None and during.moments is None
    if is_drawn or share is None or not (len(y) > ENDS_EARLY_FROM if asks == "auto" else asks):
        return None
    taught, held = during.parted(len(y), share if share < 1 else share / len(y), estimator.random_state or 0)
    is_whole = not hasattr(estimator, "predict_proba") or np.isin(y[held], y[taught]).all()
    return (taught, held) if is_whole else None


def _unit_of(estimator: Any, y: Any) -> float:
    """What an estimator takes for the target's unit, its standard deviation; 0 if it takes it as it is.

    An elastic net that finds its penalty: of a target of ten times the size, what is spent on squares of weights grows a hundredfold and
    what is spent on weights tenfold: one penalty for both is then another. Penalties that somebody names are those of the target as it is.
    A forest of a target next to nothing: scikit-learn's trees do not part rows whose variance is below 2e-16, and would all say the mean.
    """
    import numpy as np
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.linear_model import ElasticNetCV

    is_forest = isinstance(estimator, RandomForestRegressor)
    if not is_forest and (not isinstance(estimator, ElasticNetCV) or np.ndim(estimator.alphas) > 0):
        return 0.0
    spread = float(np.std(y))
    return spread if np.isfinite(spread) and (spread < TINY or not is_forest) else 0.0


def _folds_of_things(y: Any, during: Fitting) -> list[tuple[Any, Any]]:
    """The folds by which the target's means are made for rows that belong together; none where they do not, or to one thing alone."""
    import numpy as np

    if during.things is None:
        return []
    _, things = np.unique(during.things, return_inverse=True)
    count = min(FOLDS, int(things.max(initial=-1)) + 1)
    # By thing alone: of classes, some of few rows may have too few things to be parted evenly.
    return list(cutter(things, count, during.seed, classes=False).split(np.zeros(len(y)), groups=things)) if count > 1 else []


def _folds_at_random(encoder: Any, y: Any, during: Fitting) -> Any:
    """What cuts a ``TargetEncoder``'s folds where chance would; its own where somebody named an order, a seed or the folds.

    Not the folds themselves, which are five times as many places as there are rows, and more for each copy of the encoder.
    """
    import numpy as np

    # Parameters that scikit-learn takes out in 1.11, and says so wherever they are named.
    told = {getattr(encoder, name, "deprecated") for name in ("shuffle", "random_state")}
    if told != {"deprecated"} or not isinstance(encoder.cv, int):
        return encoder.cv
    classes = not np.issubdtype(y.dtype, np.floating)
    return cutter(None, encoder.cv, during.seed, classes=classes)


def _own_folds(estimator: Any, rows: int, during: Fitting) -> list[tuple[Any, Any]]:
    """The folds by which an elastic net finds its penalty, where nobody gave it any: as the rows were split.

    Its own would be cut in the table's order, which may be that of the target.
    """
    import numpy as np
    from sklearn.linear_model import ElasticNetCV

    if not isinstance(estimator, ElasticNetCV) or not isinstance(estimator.cv, int | None):
        return []
    count = estimator.cv or FOLDS
    if during.moments is not None and rows > count:
        order = np.argsort(during.moments, kind="stable")
        return [(order[:start], order[start:end]) for start, end in forward(during.moments[order], count)]
    groups = None if during.things is None else np.unique(during.things, return_inverse=True)[1]
    count = min(count, rows if groups is None else int(groups.max(initial=-1)) + 1)
    return list(cutter(groups, count, estimator.random_state or 0, classes=False).split(np.zeros(rows), groups=groups)) if count > 1 else []


def _without_empty_columns(matrix: Any) -> Any:
    """The matrix with zeros in columns of nulls alone, such as of what was not measured in earlier years: binning them would fail."""
    import numpy as np

    if not isinstance(matrix, np.ndarray) or not (empty := np.isnan(matrix).all(axis=0)).any():
        return matrix
    return np.where(empty, 0.0, matrix)


def _unknown_as_null(matrix: Any, categories: list[int]) -> Any:
    """The matrix with null for the code of rare levels, as which LightGBM takes it anyway, with a warning that nothing silences."""
    import numpy as np

    codes = matrix[:, categories]
    if not isinstance(matrix, np.ndarray) or not (codes < 0).any():
        return matrix
    matrix = matrix.astype(np.float64)
    matrix[:, categories] = np.where(codes < 0, np.nan, codes)
    return matrix


def without_extremes(model: Pipeline) -> None:
    """Take out of a fitted model the least and the greatest value of each column, which LightGBM writes down and does not need."""
    from lightgbm import Booster, LGBMModel

    from mlops_pipeline.modelling.blend import members_of

    estimator = model.named_steps["model"]
    for member in members_of(estimator):
        without_extremes(member)
    inner = estimator
    while hasattr(inner, "regressor"):
        inner = inner.regressor
    if isinstance(inner, LGBMModel):
        text = inner.booster_.model_to_string(num_iteration=-1)
        told = re.search(r"^feature_infos=(.*)$", text, flags=re.MULTILINE)
        if told:
            nothing = " ".join(["none"] * len(told[1].split(" ")))
            inner.__dict__.update(_Booster=Booster(model_str=f"{text[: told.start(1)]}{nothing}{text[told.end(1) :]}"))


def native_categories(columns: Any, estimator: Any) -> list[int]:
    """Which columns of the matrix are categories, if the encoder says so and the estimator knows any; they stand behind the numbers."""
    from sklearn.compose import ColumnTransformer

    if isinstance(estimator, Trended):
        estimator = estimator.regressor
    knows_any = type(estimator).__name__.startswith("LGBM") or hasattr(estimator, "learns_in_passes")
    if not isinstance(columns, ColumnTransformer) or not knows_any:
        return []
    steps = {name: names for name, _, names in columns.transformers}
    before = len(steps.get("numbers", ()))
    return list(range(before, before + len(steps.get(NATIVE, ()))))


def check_answers(part: plugins.Estimator, model: Pipeline, x: Any, task: Task, classes: list[Any]) -> None:
    """Raise :class:`PipelineError` if what another's estimator says of some rows is not what the house works with."""
    import numpy as np

    if plugins.is_ours(part):
        return
    try:
        said = predict(model, x, task)
        known = [] if not has_classes(task) else list(model.classes_)
    except Exception as error:
        raise plugins.broken(part, error) from error
    shape = (len(x),) if not has_classes(task) else (len(x), len(classes))
    if said.shape != shape:
        raise plugins.broken(part, f"it predicts shape {said.shape} for {len(x)} rows, not {shape}")
    if known != classes:
        raise plugins.broken(part, f"its classes_ are {known}, the target's {classes}")
    if not np.isfinite(said).all():
        raise plugins.broken(part, "it predicts what is not finite")
    if has_classes(task) and not ((said >= 0).all() and np.allclose(said.sum(axis=1), 1, atol=1e-4)):
        raise plugins.broken(part, "its probabilities are below 0, or do not sum to 1")


def predict(model: Pipeline, x: Any, task: Task) -> Any:
    """Class probabilities, shape (rows, classes), or the regression's values, shape (rows,); float64."""
    import numpy as np

    return np.asarray(model.predict(x) if not has_classes(task) else model.predict_proba(x), dtype=np.float64)
