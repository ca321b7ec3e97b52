"""Where boosted trees cut numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mlops_pipeline.modelling.thresholds import settle, settled, unsettled


def test_a_threshold_lies_where_both_sorts_of_floats_fall_on_the_same_side_and_parts_the_same_values() -> None:
    values = np.array([-1e9, -12.36, -12.34, 0.0, 1e-3, 12.34, 12.36, 12.38, 1e9])
    thresholds = (values[:-1] + values[1:]) / 2
    found = settled(thresholds, values)
    assert (np.searchsorted(values, found) == np.searchsorted(values, thresholds)).all()
    near = np.concatenate([found, *(np.nextafter(found, way) for way in (-np.inf, np.inf)), thresholds, values])
    for threshold in found:
        assert ((near <= threshold) == (near.astype(np.float32) <= np.float32(threshold))).all()


def test_a_threshold_between_values_that_are_one_32_bit_float_or_beyond_all_of_them_stays() -> None:
    values = np.array([1.7e9, 1.7e9 + 1, 1.7e9 + 2, 1e300])
    thresholds = np.array([1.7e9 + 0.5, 1.7e9 - 100, np.inf, 1e301])
    assert settled(thresholds, values).tolist() == thresholds.tolist()


def rows() -> tuple[Any, Any]:
    rng = np.random.default_rng(1)
    x = np.column_stack([rng.normal(scale=100, size=800).round(2), rng.integers(0, 6, 800), rng.normal(size=800)])
    x[rng.random(x.shape) < 0.1] = np.nan
    return x, np.nan_to_num(x[:, 0]) / 100 + (np.nan_to_num(x[:, 1]) == 3) + rng.normal(scale=0.1, size=800)


def test_a_threshold_is_moved_by_the_values_of_its_own_column_where_boosting_counts_categories_first() -> None:
    from sklearn.ensemble import HistGradientBoostingRegressor

    number, category = np.tile([0.5, 1.5 - 2e-9], 300), np.random.default_rng(0).integers(0, 6, 600)
    x = np.column_stack([number, category])
    model = HistGradientBoostingRegressor(max_iter=5, categorical_features=[1]).fit(x, number > 1)
    before, named = model.predict(x), unsettled(model)
    settle(model, x)
    assert named == [0]
    assert np.array_equal(model.predict(x), before)


@pytest.mark.parametrize("name", ["lightgbm", "hist_gradient_boosting"])
def test_a_fitted_booster_says_of_its_rows_what_it_said_with_gaps_and_native_categories(name: str) -> None:
    from lightgbm import LGBMRegressor
    from sklearn.ensemble import HistGradientBoostingRegressor

    x, y = rows()
    told: dict[str, Any] = {"categorical_feature": [1]} if name == "lightgbm" else {}
    model = LGBMRegressor(n_estimators=30, verbosity=-1) if told else HistGradientBoostingRegressor(max_iter=30, random_state=0)
    model.fit(x, y, **told)
    before, thresholds = model.predict(x), unsettled(model)
    settle(model, x)
    assert thresholds
    assert unsettled(model) == []
    assert np.array_equal(model.predict(x), before)
    once = model.predict(x + 1e-3)
    settle(model, x)
    assert np.array_equal(model.predict(x + 1e-3), once)
