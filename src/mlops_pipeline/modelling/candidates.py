"""What a race is run among: named estimators with parameters that fit the number of rows and classes, the simplest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mlops_pipeline import plugins
from mlops_pipeline.config.dataset import Task
from mlops_pipeline.contract.task import has_classes
from mlops_pipeline.modelling.trended import TREND

MANY_LEVELS = 30
"""From so many levels on, a category is also tried as the target's mean of each."""

MOST_LEVELS = 200
"""With more levels in a category the elastic net is left out, and so are linear models with a weak penalty, which would take long."""


FEWEST_ROWS = 5_000
"""With fewer rows no network is tried."""

WEAK_PENALTY_ROWS = 100
"""From so many rows on linear models with a weak penalty are tried too: ridge with next to none, logistic with a thirtieth.

Where a number is a sum of others, any penalty is a loss (a score from 775 answers of 1,097 people, held out: 0.21 to 0.06); where others
all but say the same, what tells is their difference (protein of 164 meats by 100 wavelengths: 1.07 to 0.81); and of levels of few rows
each, what belongs to one is taken for chance (deaths on the roads of 48 states in 7 years: 134 to 115). Whether
1,492 loans were granted: an AUC of 0.960, and 0.964 by a mean with that logistic. Folds tell where a penalty is too weak.
"""

MORE_ROUNDS = range(500, 20_000)
"""With so many rows a number is also predicted with twice the rounds and leaves.

Where rows say nearly all of it that takes a tenth off the error (4,000 days' births: 534 to 459, wages of 4,000 years: 270 to 246, 1,030
mixtures of concrete: 4.5 to 4.1), and adds a fiftieth where they say little (visits to a physician, prices of houses): folds tell which.
"""


MANY_ROWS = 20_000
"""With more rows LightGBM is also tried with four times the leaves, and twice the rounds from :data:`VERY_MANY_ROWS` on.

Each time in the air of 290,000 flights: 8.9 minutes off by 31 leaves, 7.3 by these; whether one is late: an AUC of 0.777, and 0.801; the
price of 54,000 diamonds: 546 and 527. It adds a hundredth where rows say little (earnings of 61,000 people: 8.69 and 8.74 dollars). So
many leaves have no need of categories of LightGBM's own (ratings of films: 0.871, and 0.880 by those).
"""

VERY_MANY_ROWS = 100_000


@dataclass(frozen=True)
class Candidate:
    """A named estimator with its encoder and parameters, and what it is called in the report."""

    name: str
    estimator: str
    encoder: str
    params: dict[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    """Features that it is not given."""
    of_many: bool = False
    """Whether it is tried in the last heat alone: of the few rows of the first it would learn them by heart."""

    @property
    def linear(self) -> bool:
        return self.estimator in ("logistic_regression", "ridge", "elastic_net")

    @property
    def trend(self) -> str:
        """The feature along which a line is taken off the target first; empty if none is."""
        return str(self.params.get(TREND, ""))

    @property
    def family(self) -> str:
        """Of candidates that go wrong alike, one is enough for a mean."""
        if self.linear:
            return "linear"
        if self.trend:
            return "trend"
        return {"random_forest": "forest", "torch_tabm": "network"}.get(self.estimator, "boosting")

    def without_features(self, names: tuple[str, ...]) -> Candidate:
        """The same, not given some features."""
        return replace(
            self, name=f"{self.name}, without {' and '.join(names) if len(names) < 3 else f'{len(names)} columns'}", without=names
        )

    def with_share_of_trees(self, share: float, fewest: int) -> Candidate | None:
        """Boosting with that share of its rounds, each of which learns the more; None if it would have too few, or does not boost."""
        key = next((each for each in ("n_estimators", "max_iter") if each in self.params and "learning_rate" in self.params), None)
        if key is None or (rounds := int(self.params[key] * share)) < fewest:
            return None
        rate = min(0.3, self.params["learning_rate"] * self.params[key] / rounds)
        name = f"{self.name.split(', cut to ')[0]}, cut to {rounds} rounds"
        return replace(self, name=name, params={**self.params, key: rounds, "learning_rate": round(rate, 4)})


def mean_of(members: Sequence[Candidate]) -> Candidate:
    """The candidate that is the mean of others, which are all given the same features."""
    (without,) = {one.without for one in members}
    named = [{"estimator": one.estimator, "encoder": one.encoder, "params": one.params} for one in members]
    name = f"mean of {', '.join(one.name for one in members[:-1])} and {members[-1].name}"
    return Candidate(name, "blend", "whole", {"members": named}, without)


@dataclass(frozen=True)
class Shape:
    """What parameters are fitted to: training rows, classes (0: a number is predicted), a category's most levels (0: none), texts, time."""

    rows: int
    classes: int = 0
    levels: int = 0
    texts: int = 0
    time: str = ""
    """The feature that tells when a row was, where rows are split by time and a number is predicted."""


def candidates(task: Task, shape: Shape) -> tuple[Candidate, ...]:
    """The candidates in the order of their simplicity, which is also the order in which they are tried."""
    linear = _of_classes(shape) if has_classes(task) else _of_values(shape)
    return (*linear, *_trees(shape), *_networks(shape))


def _of_classes(shape: Shape) -> list[Candidate]:
    found = [
        Candidate("logistic, strong penalty", "logistic_regression", "one_hot", {"C": 0.03}),
        Candidate("logistic", "logistic_regression", "one_hot", {"C": 1.0}),
    ]
    if shape.rows >= WEAK_PENALTY_ROWS and shape.levels <= MOST_LEVELS and not shape.texts:
        found.append(Candidate("logistic, weak penalty", "logistic_regression", "one_hot", {"C": 30.0}))
    if shape.texts:
        # N-grams of words alone, and a weak penalty: a text's weights are small, and many.
        found.append(Candidate("logistic on words", "logistic_regression", "tfidf", {"C": 10.0}))
    # scikit-learn's TargetEncoder has no twin for several classes, and a column for each of them.
    if shape.levels >= MANY_LEVELS and shape.classes == 2:
        found.append(Candidate("logistic on target means", "logistic_regression", "target_mean", {"C": 1.0}))
    return found


def _of_values(shape: Shape) -> list[Candidate]:
    # It goes along every column many times over: of hashed texts and many levels there are thousands.
    narrow = not shape.texts and shape.levels <= MOST_LEVELS
    found = [
        *([Candidate("elastic net", "elastic_net", "one_hot")] if narrow else []),
        Candidate("ridge, strong penalty", "ridge", "one_hot", {"alpha": 30.0}),
        Candidate("ridge", "ridge", "one_hot", {"alpha": 1.0}),
    ]
    if shape.rows >= WEAK_PENALTY_ROWS and shape.levels <= MOST_LEVELS:
        found.append(Candidate("ridge, weak penalty", "ridge", "one_hot", {"alpha": 0.01}))
    if shape.texts:
        found.append(Candidate("ridge on words", "ridge", "tfidf", {"alpha": 1.0}))
    if shape.levels >= MANY_LEVELS:
        found.append(Candidate("ridge on target means", "ridge", "target_mean", {"alpha": 1.0}))
    return found


def _trees(shape: Shape) -> list[Candidate]:
    fitting = lightgbm_params(shape)
    shallow = {**fitting, "num_leaves": 4, "n_estimators": min(100, fitting["n_estimators"])}
    found = [
        Candidate("LightGBM, shallow", "lightgbm", "ordinal", shallow),
        Candidate("forest", "random_forest", "ordinal_imputed", {"min_samples_leaf": 1 if shape.rows < 20_000 else 5}),
        Candidate("LightGBM", "lightgbm", "ordinal", fitting),
    ]
    if shape.levels > 2:
        found.append(Candidate("LightGBM, native categories", "lightgbm", "native", fitting))
    found.append(Candidate("histogram gradient boosting", "hist_gradient_boosting", "ordinal", _hist_params(shape)))
    if not shape.classes and shape.rows in MORE_ROUNDS:
        more = {**fitting, "num_leaves": 2 * fitting["num_leaves"] + 1, "n_estimators": 2 * fitting["n_estimators"]}
        found.append(Candidate("LightGBM, more rounds", "lightgbm", "ordinal", more))
    if shape.rows > MANY_ROWS:
        rounds = fitting["n_estimators"] * (2 if shape.rows >= VERY_MANY_ROWS else 1)
        more = {**fitting, "num_leaves": 4 * fitting["num_leaves"] + 3, "n_estimators": rounds}
        found.append(Candidate("LightGBM, more leaves", "lightgbm", "ordinal", more, of_many=True))
    if shape.time and not shape.classes:
        found.append(Candidate("LightGBM on what a line through time leaves", "lightgbm", "ordinal", {**fitting, TREND: shape.time}))
    return found


def _networks(shape: Shape) -> list[Candidate]:
    """TabM, where PyTorch is installed and the rows are many: of few, a network learns less than trees do."""
    extra = plugins.part(plugins.Estimator, "torch_tabm").extra
    if shape.rows < FEWEST_ROWS or extra is None or not extra.is_here:
        return []
    return [Candidate("TabM", "torch_tabm", "native", {"epochs": 10})]


def lightgbm_params(shape: Shape) -> dict[str, Any]:
    """LightGBM's parameters for so many rows and classes.

    Its own ask for 20 rows in a leaf, which in 30 rows allows no tree at all. With several classes a leaf of rows that are all but
    certain has next to no hessian, and its value, gradient over hessian, runs away: in 52,499 pets with a class of 44 rows to
    300,000. A least hessian and an L2 penalty hold it.
    """
    several = shape.classes > 2
    return {
        "n_estimators": max(40, min(200, 1200 // shape.classes)) if several else 200,
        "learning_rate": 0.1 if several else 0.05,
        "num_leaves": 7 if shape.rows < 500 else 15 if shape.rows < 5_000 else 31,
        "min_child_samples": max(2, min(20, shape.rows // 50)),
        "min_child_weight": 1.0 if several else 1e-3,
        "reg_lambda": 1.0,
        "subsample": 0.8,
        "subsample_freq": 1,
        "colsample_bytree": 0.8,
    }


def _hist_params(shape: Shape) -> dict[str, Any]:
    """Histogram gradient boosting's parameters for so many rows and classes.

    By itself it holds a tenth of more than 10,000 rows back to tell when to end. These rounds are few enough without, and the rows are
    worth more: of 19,587 hours with 0.3 % heavy rain it ended after 50 rounds of 150 (AUC 0.984, and 0.988); the price of 40,443 diamonds:
    568 and 562; in time, where the last rows say most of those to come, a temperature: 11.4 and 10.8.
    """
    several = shape.classes > 2
    return {
        "max_iter": max(30, min(100, 600 // shape.classes)) if several else 150,
        "learning_rate": 0.1 if several else 0.06,
        "max_leaf_nodes": 7 if shape.rows < 500 else 15 if shape.rows < 5_000 else 31,
        "min_samples_leaf": max(2, min(20, shape.rows // 50)),
        "l2_regularization": 1.0,
        "early_stopping": False,
    }
