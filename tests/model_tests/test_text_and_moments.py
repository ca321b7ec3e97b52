"""Dates and free text as features: learned from by every estimator, saved without pickle, and the same by every way in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_pipeline.config.dataset import Column
from mlops_pipeline.contract.moments import EXACTLY, WRITTEN, exact_moment_of, moment_of, read_moment
from mlops_pipeline.contract.spec import Column as InContract
from mlops_pipeline.contract.spec import Contract
from mlops_pipeline.contract.values import MISSING
from mlops_pipeline.inference.faults import Refused
from mlops_pipeline.inference.frames import as_moments, judged
from mlops_pipeline.inference.signature import Signature
from mlops_pipeline.modelling.encoders import Moments
from mlops_pipeline.modelling.estimators import build_model, fit, predict
from mlops_pipeline.modelling.formats.skops import load_model, save_model
from mlops_pipeline.modelling.frame import model_input
from mlops_pipeline.tables.cast import as_moments as cast_moments
from mlops_pipeline.tables.cast import cast_columns, first_reason, unparsed
from mlops_pipeline.tables.profile import MOMENT_FORMS, MONTH_FORMS, WEEKDAY_FORMS
from tests.model_tests.workbench import make_twin

FEATURES = {
    "size": Column(kind="number"),
    "kind": Column(kind="category"),
    "when": Column(kind="datetime"),
    "words": Column(kind="text"),
}
CASES = (
    ("logistic_regression", "one_hot"),
    ("logistic_regression", "target_mean"),
    ("lightgbm", "ordinal"),
    ("lightgbm", "native"),
    ("random_forest", "ordinal_imputed"),
    ("hist_gradient_boosting", "ordinal"),
)


def table(rows: int = 300) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    made = pl.DataFrame(
        {
            "size": rng.normal(size=rows),
            "kind": rng.choice(["a", "b"], size=rows),
            "hours": rng.integers(0, 24_000, rows),
            "words": rng.choice(["red apple pie", "green pear", "an old boot"], size=rows),
        }
    )
    made = made.with_columns(when=pl.datetime(2020, 1, 1) + pl.duration(hours=pl.col("hours"))).drop("hours")
    return made.with_columns(pl.when(pl.int_range(pl.len()) % 9 != k).then(pl.col(name)).alias(name) for k, name in enumerate(FEATURES))


def target(rows: pl.DataFrame) -> Any:
    late, boot = rows["when"].dt.hour().fill_null(0) > 12, rows["words"].fill_null("").str.contains("boot")
    return (late | boot).to_numpy().astype(int)


@pytest.mark.parametrize(("estimator", "encoder"), CASES)
def test_they_are_learned_from_saved_without_pickle_and_said_to_have_no_twin(estimator: str, encoder: str, tmp_path: Path) -> None:
    rows = table()
    x, y = model_input(rows, FEATURES), target(rows)
    model = fit(build_model(estimator, "binary", FEATURES, {}, 0, encoder), x, y, 1)
    assert (model.predict(x) == y).mean() > 0.95
    save_model(tmp_path / "model", model, x.head(20), x.head(3), "binary", ["scikit-learn"])
    assert np.array_equal(predict(load_model(tmp_path / "model"), x, "binary"), predict(model, x, "binary"))
    strange = x.assign(words="\u2603 never seen", when="no moment at all", kind=MISSING)
    assert np.isfinite(predict(model, strange, "binary")).all()
    twin = make_twin(model, {name: column.kind for name, column in FEATURES.items()}, x, predict(model, x, "binary"), "binary", 1e-4)
    assert not twin.accepted
    assert twin.reason == "not convertible, 'when' is a moment: served by scikit-learn"


MOMENTS = {
    "2024-01-31": "2024-01-31 00:00:00",
    " 2024-01-31 13:45 ": "2024-01-31 13:45:00",
    "2024-01-31T13:45:07": "2024-01-31 13:45:07",
    "2024-01-31 13:45:07.25": "2024-01-31 13:45:07",
    "2024-01-31T13:45:07Z": "2024-01-31 13:45:07",
    "2024-01-31 13:45:07+02:00": "2024-01-31 11:45:07",
    # as PostgreSQL writes it, as RFC 3339 lets it be, as Python's log has it
    "2024-01-31 13:45:07+00": "2024-01-31 13:45:07",
    "2024-01-31 13:45:07.25+02": "2024-01-31 11:45:07",
    "2024-01-31 13:45-11": "2024-02-01 00:45:00",
    "2024-01-31t13:45:07z": "2024-01-31 13:45:07",
    "2024-01-31 13:45:07,250": "2024-01-31 13:45:07",
    "2024-01-31 +02": None,
    "2024-01-31 13:45:07+2": None,
    "2024-01-31 13:45:07+24": None,
    "2024-01-31 13:45,5": None,
    "0987-01-31": "0987-01-31 00:00:00",
    "2024-02-30": None,
    "31.01.2024": None,
    "noon": None,
    "9999-12-31 23:59:59Z": "9999-12-31 23:59:59",
    "0001-01-01T01:00:00+01:00": "0001-01-01 00:00:00",
    # in UTC they lie outside the years 1 to 9999
    "0001-01-01T00:00:00+01:00": None,
    "9999-12-31 23:59:59-10:00": None,
    "0000-05-01": None,
    "12024-01-31": None,
    "45": None,
}


@pytest.mark.parametrize("text", MOMENTS)
def test_a_request_and_a_table_read_a_moment_alike(text: str) -> None:
    assert moment_of(text) == MOMENTS[text]
    assert as_moments(pl.Series("when", [text]), InContract("datetime"), ()).to_list() == [MOMENTS[text]]


@pytest.mark.parametrize(
    ("text", "form", "moment"),
    [
        ("01.01.0001 00:00 +0100", "%d.%m.%Y %H:%M %z", None),
        ("31.12.9999 23:59 -1000", "%d.%m.%Y %H:%M %z", None),
        ("31.12.9999 23:59 +1000", "%d.%m.%Y %H:%M %z", "9999-12-31 13:59:00"),
    ],
)
def test_a_moment_in_its_owners_writing_lies_in_the_same_years(text: str, form: str, moment: str | None) -> None:
    assert moment_of(text, form) == moment
    assert as_moments(pl.Series("when", [text]), InContract("datetime", format=form), ()).to_list() == [moment]


@pytest.mark.parametrize(
    ("given", "form", "moment"),
    [
        ("2021-03", "%Y-%m", "2021-03-01 00:00:00"),
        ("Mar 2021", "%b %Y", "2021-03-01 00:00:00"),
        ("2021-Q3", "%Y-Q%q", "2021-07-01 00:00:00"),
        ("2021Q1", "%YQ%q", "2021-01-01 00:00:00"),
        ("Q4 2021", "Q%q %Y", "2021-10-01 00:00:00"),
        ("2Q21", "%qQ%y", "2021-04-01 00:00:00"),
        ("2021-Q5", "%Y-Q%q", None),
        ("2021-Q", "%Y-Q%q", None),
        ("2021-W05", "%G-W%V", "2021-02-01 00:00:00"),
        ("2021-W53", "%G-W%V", None),
        ("2020-W53", "%G-W%V", "2020-12-28 00:00:00"),
        ("20210315", "%Y%m%d", "2021-03-15 00:00:00"),
        (20210315, "%Y%m%d", "2021-03-15 00:00:00"),
        (20210230, "%Y%m%d", None),
        ("1615766400", "%s", "2021-03-15 00:00:00"),
        (1615766400, "%s", "2021-03-15 00:00:00"),
        (1615766400.5, "%s", "2021-03-15 00:00:00"),
        (1615766400123, "%Q", "2021-03-15 00:00:00"),
        ("-1", "%s", "1969-12-31 23:59:59"),
        ("1e400", "%s", None),
        (10**17, "%s", None),
        ("2021-03-15", "%s", "2021-03-15 00:00:00"),
        ("soon", "%s", None),
        (2021, None, None),
    ],
)
def test_months_weeks_and_numbers_are_moments_alike_in_a_request_and_a_table(given: Any, form: str | None, moment: str | None) -> None:
    column = InContract("datetime", format=form)
    assert as_moments(pl.Series("when", [given]), column, ()).to_list() == [moment]
    signature = Signature.of(Contract(task="regression", columns={"when": column}))
    try:
        rows = signature.from_records([{"when": given}])
    except Refused as refusal:
        assert moment is None and [fault.reason for fault in refusal.faults] == ["wrong_type"]
    else:
        assert rows.categories is not None and rows.categories.tolist() == [[moment]]


PARTS = {
    "%Y": ["2024", "987", "0987", "1", "+2024", "12024", " 2024"],
    "%y": ["24", "5", "69", "70", "00", "1999"],
    "%m": ["1", "01", "12", "13", " 2", "0", "002"],
    "%d": ["1", "29", "30", "31", " 7", "0", "32"],
    "%H": ["0", "23", "24", "7", " 8"],
    "%I": ["0", "12", "1", "13", "07"],
    "%M": ["0", "59", "60", "5", " 3"],
    "%S": ["0", "59", "60", "61", "7"],
    "%.f": ["", ".5", ",5", ",123", ".123456789", ".1234567891", ".", "0.5"],
    "%z": ["+02:00", "-0530", "+25:00", "Z", " +01:00", "+0160", "+2", "+02 :00", "+02", " -07", "+25"],
    "%p": ["am", "PM", "Pm", "x"],
    "%q": ["1", "4", "0", "5", "03", " 2"],
    "%G": ["2024", "987", "1", "+2024", "12024", " 2024"],
    "%V": ["1", "05", "52", "53", "54", "0", " 7"],
    "%b": ["Jan", "feb", "MAR", "January", "Sept"],
    "%B": ["Jan", "february", "MARCH", "Sept", "may"],
    "%a": ["Mon", "tue", "WED", "Thu", "Fri", "Sat", "Sun", "Monday", "Xyz"],
    "%A": ["Mon", "tuesday", "WEDNESDAY", "Thurs", "Friday", "sat", "Sunday"],
}
"""What may stand for each part of a form, right or wrong."""

ISO = ["%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dt%H:%M:%S", "%Y-%m-%d %H:%M:%S%.f%z", "%Y-%m-%dT%H:%M%z"]


@st.composite
def written(draw: st.DrawFn) -> tuple[str | None, list[str]]:
    """A form, or None, with texts that are nearly of it."""
    ours = [*MOMENT_FORMS, *MONTH_FORMS, *WEEKDAY_FORMS, *ISO]
    form = draw(st.sampled_from([*ours, "%d.%m.%Y %H:%M:%S%.f", "%d.%m.%Y %H:%M %z", "%Y%m%d%H%M%S", "%F %T"]))
    plain = form.replace("%F", "%Y-%m-%d").replace("%T", "%H:%M:%S")
    parts = re.findall(r"%\.f|%.|.", plain)
    cells = [st.sampled_from(PARTS[part]) if part in PARTS else st.sampled_from([part] * 9 + ["", " "]) for part in parts]
    ends = st.sampled_from(["", "", "", " ", "\u00a0", " UTC", "Z", "z", "+02", ".5", "x"])
    texts = draw(st.lists(st.tuples(*cells, ends).map("".join), min_size=40, max_size=40))
    return draw(st.sampled_from([form, None])), texts


@settings(max_examples=60, deadline=None)
@given(of_a_form=written())
def test_however_a_moment_is_written_it_means_the_same_alone_and_in_a_table(of_a_form: tuple[str | None, list[str]]) -> None:
    form, texts = of_a_form
    table = cast_moments(pl.Series("when", texts), form)
    assert [read_moment(text, form) for text in texts] == table.to_list()
    assert [exact_moment_of(text, form) for text in texts] == table.dt.to_string(EXACTLY).str.strip_suffix(".000000").to_list()
    assert [moment_of(text, form) for text in texts] == table.dt.to_string(WRITTEN).to_list()


def test_a_tables_own_moments_lie_in_the_same_years() -> None:
    days = pl.Series("when", [-800_000, 0, 3_000_000]).cast(pl.Date)
    for values in (days, days.cast(pl.Datetime("ms")), days.cast(pl.Datetime("us", "UTC"))):
        assert as_moments(values, InContract("datetime"), ()).to_list() == [None, "1970-01-01 00:00:00", None]


@pytest.mark.parametrize(
    ("form", "number", "moment"),
    [
        ("%Y%m%d", 20240131, "2024-01-31 00:00:00"),
        ("%Y%m%d%H%M", 202401311345, "2024-01-31 13:45:00"),
        ("%Y%m%d", 20240231, None),
        ("%d%m%Y", 1112024, None),  # the first of November without its zero, and no eleventh of December
        (None, 20240131, None),
    ],
)
def test_a_number_is_a_moment_by_every_way_where_its_year_comes_first(form: str | None, number: int, moment: str | None) -> None:
    made = Signature.of(Contract(task="regression", columns={"v": InContract("datetime", format=form)}))
    wanted = [] if moment is None else [[moment]]
    for value in (number, float(number)):
        try:
            asked = made.from_columns({"v": [value]}).categories
        except Refused as refused:
            assert (refused.reason, moment) == ("wrong_type", None)
        else:
            assert asked is not None and asked.tolist() == wanted
    for held in (pl.Int64(), pl.Float64(), pl.Decimal(38, 2)):
        table = pl.DataFrame({"v": pl.Series([number]).cast(held)})
        found = judged(table, made)
        assert [fault.reason for fault in found.faults] == (["wrong_type"] if moment is None else [])
        assert found.rows.categories is not None and found.rows.categories.tolist() == wanted
        trained = cast_columns(table, {"v": Column(kind="datetime", format=form)})["v"]
        assert trained.dt.to_string(WRITTEN).to_list() == [moment]


SAID = {
    # what a cell holds; what it means as text and as a moment: the value, None for null, or why it is refused
    "": (None, None),
    "NA": (None, None),
    " NA ": (" NA ", None),
    " nan": (" nan", None),
    "1900-01-01": (None, None),
    MISSING: (MISSING, "wrong_type"),
    "2024-01-31": ("2024-01-31", "2024-01-31 00:00:00"),
}


@pytest.mark.parametrize("nullable", [True, False])
@pytest.mark.parametrize("kind", ["text", "datetime"])
@pytest.mark.parametrize("own", [True, False])
def test_what_is_null_is_so_in_training_in_a_request_and_in_a_table(own: bool, kind: str, nullable: bool) -> None:
    words = ("", "NA", "1900-01-01")
    for value, meanings in SAID.items():
        meaning = meanings[kind == "datetime"]
        typed = pl.DataFrame({"v": [value]})
        described = Column(kind=kind, nullable=nullable, null_values=words if own else None)  # type: ignore[arg-type]
        trained = cast_columns(typed, {"v": described}, () if own else words)
        refused = first_reason(unparsed(trained, typed, {"v": described}, () if own else words), 1)[0] is not None
        assert (refused, trained["v"].is_null()[0]) == (meaning == "wrong_type", meaning in (None, "wrong_type")), value
        column = InContract(kind, nullable=nullable, null_values=words if own else None)
        contract = Contract(task="regression", columns={"v": column}, null_values=("none",) if own else words)
        found = judged(typed, Signature.of(contract))
        reason = meaning if meaning == "wrong_type" else "null" if meaning is None and not nullable else None
        assert [fault.reason for fault in found.faults] == ([] if reason is None else [reason]), value
        if reason is not None:
            with pytest.raises(Refused) as refusal:
                Signature.of(contract).from_columns({"v": [value]})
            assert refusal.value.reason == reason, value
            continue
        asked = Signature.of(contract).from_columns({"v": [value]}).categories
        assert asked is not None and found.rows.categories is not None
        assert asked.tolist() == found.rows.categories.tolist() == [[MISSING if meaning is None else meaning]], value


def signature() -> Signature:
    columns = {name: InContract(column.kind, nullable=name != "when") for name, column in FEATURES.items()}
    return Signature.of(Contract(task="regression", columns=columns, categories={"kind": ["a", "b"]}))


def test_the_same_row_is_the_same_arrays_as_json_and_in_a_table() -> None:
    record = {"size": 1.5, "kind": "a", "when": "2024-01-31T13:45:00Z", "words": "An old boot, or 2"}
    empty = {"size": None, "kind": None, "when": "2024-01-31", "words": "NA"}
    asked = signature().from_records([record, empty])
    in_table = judged(pl.DataFrame([record, empty]), signature()).rows
    assert asked.numbers is not None and in_table.numbers is not None
    assert asked.numbers.tobytes() == in_table.numbers.tobytes()
    assert asked.categories is not None and in_table.categories is not None
    assert asked.categories.tolist() == in_table.categories.tolist()
    assert asked.categories.tolist() == [["a", "2024-01-31 13:45:00", "An old boot, or 2"], [MISSING, "2024-01-31 00:00:00", MISSING]]
    assert asked.unseen == 0


@pytest.mark.parametrize(("when", "reason"), [("soon", "wrong_type"), (None, "null")])
def test_what_is_no_moment_is_refused_alike(when: str | None, reason: str) -> None:
    record = {"size": 1.0, "kind": "a", "when": when, "words": "boot"}
    with pytest.raises(Refused) as refused:
        signature().from_records([record])
    fault = refused.value.faults[0]
    assert (fault.reason, fault.column) == (reason, "when")
    found = judged(pl.DataFrame([record], schema_overrides={"when": pl.String}), signature())
    assert found.faults == [fault]


@pytest.mark.parametrize("column", ["size", "kind", "when", "words"])
def test_values_that_their_maker_alone_can_read_are_of_the_wrong_type_in_a_frame(column: str) -> None:
    record = {"size": 1.0, "kind": "a", "when": "2024-01-31", "words": "boot"}
    months = pl.Series([420]).ext.to(pl.Extension("theirs.period", pl.Int64, "{}"))
    [fault] = judged(pl.DataFrame([record]).with_columns(months.alias(column)), signature()).faults
    assert (fault.reason, fault.column) == ("wrong_type", column)


@pytest.mark.parametrize("when", ["soon", 20240231, True, None])
def test_of_two_faults_of_a_row_the_first_is_the_same_by_a_request_and_by_a_table(when: Any) -> None:
    columns = {"size": InContract("number", max=3), "when": InContract("datetime", nullable=False, format="%Y%m%d")}
    made = Signature.of(Contract(task="regression", columns=columns))
    for size in (9, "high"):
        with pytest.raises(Refused) as refused:
            made.from_columns({"size": [size], "when": [when]})
        found = judged(pl.DataFrame({"size": [size], "when": [when]}, schema_overrides={"when": pl.String} if when is None else {}), made)
        fault = refused.value.faults[0]
        assert [(one.reason, one.column) for one in found.faults] == [(fault.reason, fault.column)]


def test_parts_of_the_calendar_count_once_training_has_seen_them_turn() -> None:
    days = Moments().fit([["2024-01-01"], ["2024-01-05"]])
    assert days.parts_ == [[]]
    assert days.transform([["2024-01-03"], [MISSING]])[:, 0].tolist()[0] == 2.0
    assert np.isnan(days.transform([[MISSING]])).all()
    years = Moments().fit([["2020-01-01 00:00:00"], ["2024-01-05 12:30:00"]])
    assert years.parts_ == [["month", "weekday", "hour"]]
    assert years.transform([["2024-02-05 18:30:00"]]).tolist() == [[1496.0 + 18.5 / 24, 2.0, 0.0, 18.5]]  # a Monday
    assert list(years.get_feature_names_out(["when"])) == ["when days", "when month", "when weekday", "when hour"]
    assert Moments(cyclic=True).fit_transform([["2020-01-01 06:00:00"]]).shape == (1, 3)
