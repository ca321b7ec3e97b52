"""Columns of text to their types: quick ways give what the thorough ones give."""

from __future__ import annotations

import polars as pl

from mlops_pipeline.tables.cast import as_moments, as_numbers


def test_a_column_of_nothing_but_numbers_is_read_as_each_of_its_values_is() -> None:
    for texts, words in ((["1", "2.5", None], ("NA",)), (["1", "-999"], ("-999",)), ([" 4", "5"], ("NA",)), (["1", "inf", "NaN"], ())):
        whole = as_numbers(pl.Series("x", texts), "number", words)
        alone = [as_numbers(pl.Series("x", [text, "no number"], dtype=pl.String), "number", words)[0] for text in texts]
        assert whole.to_list() == alone


def test_moments_are_read_alike_whatever_stands_beside_them() -> None:
    texts = ["2024-01-02", "2024-01-02 03:04:05", "2024-01-02T03:04:05.5Z", "2024-01-02 03:04+02:00", " 2024-01-02 03:04 ", "none", None]
    texts += ["2024-01-02 03:04:05+02", "2024-01-02t03:04:05.5z", "2024-01-02 03:04:05,250 -07", "2024-01-02", "2024-01-02 03:04:05 +02:00"]
    alone = [as_moments(pl.Series("x", [text], dtype=pl.String))[0] for text in texts]
    assert as_moments(pl.Series("x", texts)).to_list() == alone
    assert as_moments(pl.Series("x", texts[::-1])).to_list() == alone[::-1]
