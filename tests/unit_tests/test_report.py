"""The evaluation report: what a reader must see, and that no name of a user's is markup."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from mlops_pipeline import plugins
from mlops_pipeline.config.pipeline import Settings, Split
from mlops_pipeline.contract.evaluation import Evaluation
from mlops_pipeline.contract.spec import Column, Contract
from mlops_pipeline.modelling.by_class import by_class
from mlops_pipeline.modelling.card import model_card
from mlops_pipeline.modelling.gate import Rule
from mlops_pipeline.modelling.metrics import Predictions, wilson
from mlops_pipeline.modelling.plots import draw_all
from mlops_pipeline.modelling.report import Outcome, looked_at, next_steps, race_drawn, report, run_note, standing, warnings
from mlops_pipeline.pages import as_code, figure, in_markdown, percent, short
from mlops_pipeline.registry.runs import described
from tests.conftest import SMALL_SETTINGS
from tests.unit_tests.workshop import layout_in

HOSTILE = ["<script>alert(1)</script>", "a\0b", "\u202egnp", "x" * 5000, "$x_{1}$ & `tick` | pipe", '" onmouseover="x', "مرحبا"]


def made(y: list[int], said: list[int], size: int) -> Predictions:
    predicted = np.full((len(y), size), 0.1)
    predicted[np.arange(len(y)), said] = 0.9
    return Predictions("multiclass", np.array(y), predicted)


def scored(y: list[int], said: list[int], names: list[str], trained: list[int] | None = None) -> dict[str, Any]:
    truth = [names[k] if k >= 0 else "new" for k in y]
    return by_class(made(y, said, len(names)), truth, names, np.array(trained or [50] * len(names)), 0.95)


def evaluation(classes: dict[str, Any] | None, **changes: Any) -> Evaluation:
    good = {"value": 0.8, "low": 0.7, "high": 0.9}
    told = {
        "metric": "accuracy",
        "confidence": 0.95,
        "resamples": 100,
        "test_rows": 300,
        "test_span": "300 rows",
        "train_span": "900 rows",
        "split": "stratified",
        "warning": None,
        "metrics": {"accuracy": good, "log_loss": {"value": 0.9, "low": 0.8, "high": 1.0}},
        "baseline": {"accuracy": 0.5, "log_loss": 0.6},
        "improvement_over_baseline": {"value": 0.3, "low": 0.2, "high": 0.4},
        "calibration": [{"predicted": 0.2, "observed": 0.3, "rows": 10}],
        "calibration_error": 0.1,
        "slices": [],
        "worst_slice": None,
        "champion": None,
        "importance": [],
        "random_split": None,
        "onnx": {"accepted": True, "reason": "agrees"},
        "classes": classes,
        "table": {"rows_read": 10, "rows_without_target": 0, "rows_broken": 1, "duplicate_rows": 0, "columns": [], "failures": []},
        **changes,
    }
    return msgspec.convert(told, Evaluation)


def contract(names: list[str]) -> Contract:
    return Contract(task="multiclass", classes=names, columns={name: Column("number") for name in names}, model_sha256="0" * 64)


def settings(**dataset: Any) -> Settings:
    return Settings.model_validate({**SMALL_SETTINGS, "dataset": {**SMALL_SETTINGS["dataset"], **dataset}})


def test_each_class_is_counted_by_hand() -> None:
    found = scored([0, 0, 0, 1, 1, -1], [0, 0, 1, 1, 0, 1], ["a", "b"])
    a, b = found["scores"]
    assert (a["test_rows"], a["predicted_rows"], b["test_rows"], b["predicted_rows"]) == (3, 3, 2, 3)
    assert a["recall"]["value"] == a["precision"]["value"] == pytest.approx(2 / 3, abs=1e-6)
    assert a["f1"] == pytest.approx(2 / 3, abs=1e-6)
    assert b["precision"]["value"] == pytest.approx(1 / 3, abs=1e-6)
    assert (a["recall"]["low"], a["recall"]["high"]) == pytest.approx((0.2077, 0.9385), abs=1e-4)  # Wilson's, by statsmodels
    assert found["confusion"] == [[2, 1], [1, 1]]
    assert found["unseen"] == [{"label": "new", "test_rows": 1}]
    assert [(m["true"], m["predicted"], m["rows"]) for m in found["mistakes"]] == [("a", "b", 1), ("b", "a", 1)]


def test_classes_that_no_score_can_be_given_for_are_named() -> None:
    told = " ".join(warnings(evaluation(scored([0] * 20 + [1] * 3 + [-1], [0] * 24, ["a", "few", "absent"]))))
    assert "Only the held-out rows have the class “new”" in told
    assert "1 held-out row is counted as wrong" in told
    assert "Fewer than 10 rows" in told
    assert "No held-out row has the class “absent”" in told
    assert "never says the class “few”" in told


@pytest.mark.parametrize(
    ("gain", "word", "how"),
    [
        ((0.3, 0.2), "beaten", "good"),
        ((0.1, -0.1), "not clearly beaten: the interval", "warn"),
        ((0.5, None), "too few for an interval", "warn"),
        ((0.0, 0.0), "not beaten", "bad"),
        ((-0.1, -0.2), "the dummy is better", "bad"),
        ((None, None), "could not be compared", "bad"),
    ],
)
def test_a_dummy_that_is_not_beaten_is_said_in_a_word(gain: tuple[float | None, float | None], word: str, how: str) -> None:
    said, level = standing(evaluation(None, improvement_over_baseline={"value": gain[0], "low": gain[1], "high": 1.0}))
    assert word in said
    assert level == how


def test_the_verdict_comes_first_with_what_to_do_next(tmp_path: Path) -> None:
    rules = [Rule("held_out", True, "evaluated on 300 held-out rows"), Rule("baseline", False, "accuracy better by more than 0: -0.01")]
    page = report(settings(), contract(["a", "b"]), evaluation(None), tmp_path, Outcome("small", 3, False, False, rules))
    assert page.index("Did not pass the gate") < page.index("held-out rows</span>")
    assert "small version 3 was registered and not promoted" in page
    assert "accuracy better by more than 0</td>" in page
    assert ">-0.01</td>" in page
    assert "<code>train.estimator</code>" in page
    assert "mlops models promote 3 --override" in page
    assert "<b>worse</b>" in page  # log_loss, where less is better
    waiting = report(settings(), contract(["a", "b"]), evaluation(None), tmp_path, None)
    assert "has not judged yet" in waiting


def test_what_to_do_next_is_said_of_every_rule_of_ours_by_keys_and_names_that_there_are() -> None:
    named = set()
    for rule in plugins.parts(plugins.GateRule):
        (step, _) = next_steps(Outcome("m", 1, passed=False, is_champion=False, rules=[Rule(rule, False, "no")]))
        assert "gate.rules" not in step, rule
        named |= set(re.findall(r"`([\w.]+)`", step))
    known = {f"{name}.{key}" for name, field in Settings.model_fields.items() for key in getattr(field.annotation, "model_fields", ())}
    assert named - known <= set(plugins.parts(plugins.Estimator))
    assert named & known


@pytest.mark.parametrize("option", ["", " --config configs/mine.yaml"])
def test_what_it_says_to_type_is_whole_and_means_this_pipeline(option: str) -> None:
    rules = [Rule("baseline", True, "yes")]
    said = [
        command
        for then in ("challenger", "approval")
        for step in next_steps(Outcome("m", 2, passed=True, is_champion=False, rules=rules, then=then, option=option))
        for command in re.findall(r"`([^`]+)`", step)
    ]
    released = [] if option else ["mlops release start 2"]  # the settings of another pipeline's releases are not known
    assert said == [
        *released,
        f"mlops models promote 2{option}",
        f'mlops models approve 2 --reason "why"{option}',
        f'mlops models reject 2 --reason "why"{option}',
    ]


def test_of_columns_that_were_shuffled_once_no_spread_is_drawn_but_said(tmp_path: Path) -> None:
    importance = [{"feature": "size", "drop": 0.1, "spread": None}, {"feature": "age", "drop": 0.05, "spread": None}]
    ours = made([0, 1] * 20, [0, 1] * 20, 2)
    draw_all(tmp_path, ours, ["no", "yes"], [{"predicted": 0.2, "observed": 0.3, "rows": 10}] * 2, importance)
    assert (tmp_path / "importance.png").is_file()
    shown = evaluation(by_class(ours, ["no", "yes"] * 20, ["no", "yes"], np.full(2, 50), 0.95), importance=importance)
    page = report(settings(), contract(["no", "yes"]), shown, tmp_path, None)
    assert "shuffled once only" in page


def test_no_name_is_markup_and_every_picture_is_drawn(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = [*HOSTILE, *(f"class {k}" for k in range(40))]
    y = rng.integers(0, len(names), 400)
    ours = made(y.tolist(), rng.integers(0, len(names), 400).tolist(), len(names))
    importance = [{"feature": name, "drop": 0.1, "spread": 0.01} for name in HOSTILE]
    draw_all(tmp_path, ours, names, [{"predicted": 0.2, "observed": 0.3, "rows": 10}] * 2, importance)
    assert {file.name for file in tmp_path.iterdir()} == {
        "roc.png", "roc.svg", "confusion.png", "calibration.png", "calibration.svg", "importance.png",
    }  # fmt: skip
    classes = by_class(ours, [names[k] for k in y], names, np.full(len(names), 50), 0.95)
    columns = [
        {
            "name": n,
            "kind": "number",
            "use": "feature",
            "why": n,
            "note": "",
            "private": False,
            "null_share": 0,
            "distinct": 1,
            "alone": 0.5,
        }
        for n in HOSTILE
    ]
    table = {"rows_read": 1, "rows_without_target": 0, "rows_broken": 0, "duplicate_rows": 0, "columns": columns, "failures": []}
    slices = [{"column": name, "value": name, "rows": 1, "metric": 0.5} for name in HOSTILE]
    shown = evaluation(classes, importance=importance, table=table, slices=slices)
    rules = [Rule(name, False, f"{name}: {name}") for name in HOSTILE]
    page = report(settings(), contract(names), shown, tmp_path, Outcome(HOSTILE[0], 1, False, False, rules))
    assert "<script" not in page
    assert '" onmouseover' not in page
    assert "\0" not in page
    assert "\u202e" not in page
    assert "x" * 401 not in page
    assert "default-src 'none'" in page
    assert "http://" not in page.replace("http://www.w3.org/", "")
    assert len(page) < 2_000_000


def test_no_name_is_markup_on_the_card(tmp_path: Path) -> None:
    rules = [Rule("worst_slice", False, f"accuracy in the worst slice ({name} = {name}) at least 0.6: 0.5") for name in HOSTILE]
    for name in HOSTILE:
        worst = {"column": name, "value": name, "rows": 300, "metric": 0.5, "low": 0.4, "high": 0.6}
        shown = evaluation(None, worst_slice=worst, onnx={"accepted": False, "reason": f"'{name}' is no number"})
        training = msgspec.structs.replace(contract(HOSTILE), target=name, params={name: name}, estimator="ridge")
        card = model_card(settings(), layout_in(tmp_path, settings()), training, shown, rules, "0" * 64, {})
        bare = re.sub(r"(?<!`)(`+)(?!`).+?(?<!`)\1(?!`)", "", re.sub(r"\\.", "", card))  # without what is code, or escaped
        assert "<script" not in bare, bare
        assert "tick" not in bare.partition("target, ")[2].partition("\n")[0]
        assert "\0" not in card and "\u202e" not in card and "x" * 401 not in card
    assert as_code("a `b` c") == "``a `b` c``"
    assert as_code("`") == "`` ` ``"


def test_a_confidence_is_not_rounded_to_certainty(tmp_path: Path) -> None:
    shown = evaluation(scored([0, 1] * 10, [0, 1] * 10, ["a", "b"]), confidence=0.995)
    outcome = Outcome("small", 3, True, True, [Rule("held_out", True, "evaluated on 300 held-out rows")])
    page = report(settings(), contract(["a", "b"]), shown, tmp_path, outcome)
    card = model_card(settings(), layout_in(tmp_path, settings()), contract(["a"]), shown, [], "0" * 64, {})
    note = run_note(settings(), contract(["a"]), shown, outcome, config="pipeline.yaml", lock=None, tags={})
    for text in (page, card, note):
        assert "99.5 % interval" in text
        assert "100 % interval" not in text


@pytest.mark.parametrize(("split", "word"), [("time", "is the future"), ("stratified", "equal rows on both sides")])
def test_what_a_random_split_would_have_flattered_by_is_said_of_the_split_that_was_made(split: str, word: str, tmp_path: Path) -> None:
    page = report(settings(), contract(["a", "b"]), evaluation(None, split=split, random_split=0.9), tmp_path, None)
    assert word in page
    assert page.count("the future") == (split == "time")


def test_what_a_random_split_parts_is_what_this_one_keeps_together(tmp_path: Path) -> None:
    kept = settings().model_copy(update={"split": Split(together=("kind",))})
    shown = evaluation(None, split="stratified", random_split=0.9)
    page = report(kept, contract(["a", "b"]), shown, tmp_path, None)
    card = model_card(kept, layout_in(tmp_path, kept), contract(["a"]), shown, [], "0" * 64, {})
    for text in (page, card):
        assert "may put rows of one kind on both sides" in text
        assert "equal rows" not in text


def test_rows_that_belong_together_are_told_by_what_they_belong_to(tmp_path: Path) -> None:
    kept = settings().model_copy(update={"split": Split(together=("kind",))})
    shown = evaluation(scored([0, 1] * 10, [0, 1] * 10, ["a", "b"]), split="stratified", test_things=41)
    outcome = Outcome("small", 1, False, False, [])
    page = report(kept, contract(["a", "b"]), shown, tmp_path, outcome)
    card = model_card(kept, layout_in(tmp_path, kept), contract(["a"]), shown, [], "0" * 64, {})
    note = run_note(kept, contract(["a"]), shown, outcome, config="pipeline.yaml", lock=None, tags={})
    assert "in 41 groups by <bdi>kind</bdi>" in page and "all rows of one <bdi>kind</bdi> are drawn together" in page
    assert "single rows" not in page and "the truth may lie further out" not in page
    assert "in 41 groups by kind" in card and "in 41 groups by kind" in note
    alone = report(settings(), contract(["a", "b"]), evaluation(None), tmp_path, outcome)
    assert "resamples of single rows" in alone and "groups" not in alone.partition("<h2>Metrics")[0].partition("<h1>")[2]
    unknown = evaluation(None, metrics={"accuracy": {"value": 1.0, "low": None, "high": None}}, test_things=7)
    for text in (
        report(kept, contract(["a"]), unknown, tmp_path, outcome),
        run_note(kept, contract(["a"]), unknown, outcome, config="p", lock=None, tags={}),
    ):
        assert "95 % interval unknown: too few groups, or most rows are of few" in text


def test_precision_and_recall_are_no_surer_than_things_are_many() -> None:
    y = np.repeat([0, 1], 200)
    said = np.where(np.arange(400) % 200 < 150, y, 1 - y)
    alone = made(y.tolist(), said.tolist(), 2)
    names = ["a", "b"]
    of_rows, of_things = (
        by_class(each, [names[k] for k in y], names, np.array([50, 50]), 0.95)["scores"][1]["recall"]
        for each in (alone, replace(alone, things=np.arange(400) // 10))
    )
    assert of_rows["value"] == of_things["value"] == 0.75
    assert of_things["low"] == pytest.approx(wilson(15, 20)[0], abs=0.01)  # each patient's ten rows are all right or all wrong
    assert of_rows["low"] == pytest.approx(wilson(150, 200)[0], abs=1e-6)


def test_an_interval_that_is_not_known_is_called_so(tmp_path: Path) -> None:
    alone = {"value": 1.0, "low": None, "high": None}
    shown = evaluation(
        None, metrics={"accuracy": alone}, improvement_over_baseline=alone, worst_slice={"column": "a", "value": "b", "metric": 1.0}
    )
    outcome = Outcome("small", 1, False, False, [])
    page = report(settings(), contract(["a"]), shown, tmp_path, outcome)
    card = model_card(settings(), layout_in(tmp_path, settings()), contract(["a"]), shown, [], "0" * 64, {})
    note = run_note(settings(), contract(["a"]), shown, outcome, config="pipeline.yaml", lock=None, tags={})
    assert "95 % interval unknown: the rows are too few" in page and "95 % interval unknown: the rows are too few" in note
    assert not any("– to –" in text for text in (page, card, note))


def test_of_one_class_alone_no_curve_is_drawn(tmp_path: Path) -> None:
    ours = Predictions("binary", np.zeros(12, dtype=int), np.tile([0.7, 0.3], (12, 1)), 1)
    draw_all(tmp_path, ours, ["no", "yes"], [{"predicted": 0.3, "observed": 0.0, "rows": 12}], [])
    assert {file.name for file in tmp_path.iterdir()} == {"confusion.png"}


def test_a_curve_names_the_area_that_the_table_of_classes_has(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 6_000)
    said = rng.dirichlet([1, 1, 1], size=6_000) + 0.4 * np.eye(3)[y] * rng.integers(0, 2, (6_000, 1))
    ours = Predictions("multiclass", y, said / said.sum(axis=1, keepdims=True))
    draw_all(tmp_path, ours, ["a", "b", "c"], [{"predicted": 0.3, "observed": 0.3, "rows": 12}], [])
    picture = (tmp_path / "roc.svg").read_text()
    for row in by_class(ours, y.tolist(), ["a", "b", "c"], np.full(3, 50), 0.95)["scores"]:
        assert f"{row['label']} ({row['roc_auc']:.3f})" in picture


def test_nothing_of_a_private_columns_values_is_shown() -> None:
    private = settings(columns={**SMALL_SETTINGS["dataset"]["columns"], "kind": {"kind": "category", "nullable": False, "private": True}})
    facts = [{"name": "kind", "null_share": 0.0, "distinct": 3}, {"name": "size", "null_share": 0.1, "distinct": 400}]
    uses = [
        {"name": "kind", "kind": "category", "use": "feature"},
        {"name": "size", "kind": "number", "use": "feature"},
        {"name": "late", "kind": "boolean", "use": "target"},
    ]
    found = looked_at(private, {"columns": facts, "single_feature_auc": {"size": 0.7}, "uses": uses})
    by_name = {each["name"]: each for each in found["columns"]}
    assert by_name["kind"]["distinct"] is None
    assert by_name["size"] == {
        "name": "size", "kind": "number", "use": "feature", "why": "", "note": "", "private": False,
        "null_share": 0.1, "distinct": 400, "alone": 0.7,
    }  # fmt: skip
    assert by_name["late"]["use"] == "target"


def test_what_validation_says_of_a_column_is_shown() -> None:
    use = {"name": "row", "kind": "integer", "use": "left out", "why": "it counts the rows", "note": "", "alone": 0.99, "others": 0.7}
    found = looked_at(settings(), {"columns": [], "single_feature_auc": {}, "uses": [use]})
    assert found["columns"] == [{
        "name": "row", "kind": "integer", "use": "left out", "why": "it counts the rows", "note": "", "private": False,
        "null_share": None, "distinct": None, "alone": 0.99,
    }]  # fmt: skip


def test_a_race_is_drawn_on_one_scale() -> None:
    one = {"name": "linear", "mean": 0.8, "standard_error": 0.1}
    drawn = race_drawn(
        {
            "chosen": "linear",
            "candidates": [
                one,
                {"name": "forest", "mean": 0.9, "standard_error": None},
                {"name": "slow", "mean": None, "standard_error": None},
            ],
        }
    )
    assert drawn is not None
    assert [each["chosen"] for each in drawn["candidates"]] == [True, False, False]
    assert drawn["candidates"][2]["drawn"] is None
    assert (
        0 <= drawn["candidates"][0]["drawn"]["left"] < drawn["candidates"][0]["drawn"]["at"] < drawn["candidates"][1]["drawn"]["at"] <= 100
    )
    assert race_drawn({}) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.12345, "0.1235"), (25839.53, "25,839.5"), (123.456, "123.46"), (0.000042, "4.2e-05"), (0.0, "0.0000"), (None, "–")],
)
def test_figures_have_as_many_digits_as_can_be_used(value: float | None, text: str) -> None:
    assert figure(value) == text


@pytest.mark.parametrize(
    ("share", "digits", "text"),
    [
        (0.0, 0, "0 %"), (0.0004, 0, "< 1 %"), (0.006, 0, "1 %"), (0.5, 0, "50 %"), (0.994, 0, "99 %"), (0.9996, 0, "> 99 %"),
        (1.0, 0, "100 %"), (0.0004, 1, "< 0.1 %"), (0.0006, 1, "0.1 %"), (0.99996, 1, "> 99.9 %"), (0.206, 1, "20.6 %"),
    ],
)  # fmt: skip
def test_a_share_is_not_rounded_to_all_or_nothing(share: float, digits: int, text: str) -> None:
    assert percent(share, digits) == text


def test_a_share_lies_within_its_interval_as_it_is_printed(tmp_path: Path) -> None:
    y, said = [0] * 998 + [1] * 2, [0] * 1000
    page = report(settings(), contract(["no", "yes"]), evaluation(scored(y, said, ["no", "yes"])), tmp_path, None)
    assert "0.998 <small>0.993 to 0.999</small>" in page


def test_words_of_others_are_cut_and_harmless() -> None:
    assert len(short("x" * 500)) == 80
    assert in_markdown("[a](b) <i> |\n`x` _y_ pet_length") == "\\[a\\](b) \\<i\\> \\| \\`x\\` \\_y\\_ pet_length"


def test_mlflow_shows_the_verdict_the_figures_and_how_to_make_it_again() -> None:
    outcome = Outcome("small", 3, False, False, [Rule("baseline", False, "accuracy better than 0: -0.01")])
    tags = {"mlops.git_commit": "abcdef0123456789", "mlops.git_dirty": "true"}
    shown = evaluation(scored([0, 1, -1], [0, 1, 0], HOSTILE[:2]), test_sha256="1" * 64)
    note = run_note(settings(), contract(["a"]), shown, outcome, config="pipeline.yaml", lock=None, tags=tags)
    assert note.startswith("**Did not pass the gate**: small version 3 was registered and not promoted.")
    assert "accuracy **0.8000** (95 % interval 0.7000 to 0.9000) on 300 held-out rows; a dummy has 0.5000: **beaten**" in note
    assert "Commit abcdef012345, **with changes that were not committed**; then `mlops run --config pipeline.yaml`" in note
    assert "\\<script\\>" in note
    assert "<script" not in note.replace("\\<", "")


def test_a_description_that_a_person_wrote_stays() -> None:
    ours = described(None, "first")
    assert described(ours, "second").startswith("second\n")
    assert described("Mine.", "second") == "Mine."
    assert len(described(None, "a line\n" * 2000)) <= 5000
