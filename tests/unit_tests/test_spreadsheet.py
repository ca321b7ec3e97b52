"""What a client wrote is never run by the spreadsheet that somebody opens an export in."""

from __future__ import annotations

import polars as pl
import pytest

from mlops_pipeline.spreadsheet import harmless, harmless_text

RUN = ["=1+1", "+A1", "-2+3", "@SUM(A1)", "\tA1", "\rA1", "\nA1", "=HYPERLINK(1)", "-cmd|' /C calc'!A0", "+49-170", "\uff1d1+1", "-e5"]
RUN += ["-1 days()", "-0:00:01+A1"]
KEPT = [
    "-",
    "--",
    "",
    "a=1",
    "-5",
    "+5.25",
    "-1.5e-7",
    "-1,234.50",
    "-1\u00a0234,5",
    "-5 %",
    "-1 days",
    "-1 day, 23:59:59",
    "-1 days +23:00:00.5",
    "-0:00:01",
    "+7:05",
    "+49 170 1234",
    " =1",
    "'=1",
    "3-4",
    "e=mc2",
    "x;y",
    "1;-5;-2,5 %\t+3",
    "x; =1",
]
WITHIN = {
    "x;=1+1": "x;'=1+1",
    "x\t@A1;-5;-A1": "x\t'@A1;-5;'-A1",
    'x;"=1': "x;'\"=1",
    "x\n+A1": "x\n'+A1",
    "=1;=2": "'=1;'=2",
    "\t=1": "'\t'=1",
}


@pytest.mark.parametrize("text", RUN)
def test_what_would_be_run_gets_an_apostrophe(text: str) -> None:
    assert harmless_text(text) == f"'{text}"


@pytest.mark.parametrize("text", WITHIN)
def test_what_another_separator_would_make_a_cell_is_not_run_either(text: str) -> None:
    assert harmless_text(text) == WITHIN[text]


@pytest.mark.parametrize("text", KEPT)
def test_numbers_and_all_else_stay_as_they_are(text: str) -> None:
    assert harmless_text(text) == text


def test_a_table_keeps_its_numbers_nulls_and_number_of_columns() -> None:
    table = pl.DataFrame({"text": [*RUN, *WITHIN, *KEPT, None], "=n": [-1.5] * (len(RUN) + len(WITHIN) + len(KEPT) + 1), "'=n": "x"})
    shown, cells = harmless(table)
    assert cells == len(RUN) + len(WITHIN)
    assert shown["text"].to_list() == [*(f"'{text}" for text in RUN), *WITHIN.values(), *KEPT, None]
    assert shown.columns == ["text", "''=n", "'=n"]
    assert shown["''=n"].equals(table["=n"].rename("''=n"))
    assert harmless(table.clear())[1] == 0
