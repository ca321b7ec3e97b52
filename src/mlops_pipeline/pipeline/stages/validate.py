"""Validate: enforce the committed schema and look for what would make a model lie, before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from numbers import Integral
from typing import TYPE_CHECKING, Any

from mlops_pipeline import plugins
from mlops_pipeline.config.pipeline import Settings, checks_of, feature_columns, part_settings
from mlops_pipeline.contract.label import in_owners_words
from mlops_pipeline.contract.privacy import UNTOLD, private_names
from mlops_pipeline.contract.task import has_classes
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.events import Listener, Warned, ignored
from mlops_pipeline.files import read_json, write_json, write_text
from mlops_pipeline.inference.ngrams import words_of
from mlops_pipeline.layout import Layout
from mlops_pipeline.modelling.text_facts import facts_of, remarks
from mlops_pipeline.pages import page
from mlops_pipeline.tables.checks import Examined
from mlops_pipeline.tables.columns import (
    FEATURE,
    SUSPECTED,
    ColumnUse,
    described_use,
    judged,
    never_all_left_out,
    noted,
    told_by,
    write_columns,
)
from mlops_pipeline.tables.kinds import described
from mlops_pipeline.tables.leakage import single_feature_aucs, strong_features
from mlops_pipeline.tables.profile import profile_of
from mlops_pipeline.tables.schema import Failure, infer_schema, is_as_inferred, other_columns, read_schema, tells_private, write_schema

if TYPE_CHECKING:
    import pandera.polars as pa
    import polars as pl
    from rich.console import Console


def validate(settings: Settings, layout: Layout, console: Console, tell: Listener = ignored) -> None:
    """Check ``data/raw`` and write the HTML and JSON reports and what becomes of each column, whatever the outcome.

    The schema is inferred where there is none, or where nobody has edited the one that an earlier run inferred of other columns.
    Raises :class:`PipelineError` if a check failed that stops the run: one of those that always do, or any with
    ``validate.on_failure: stop``.
    """
    import polars as pl

    table, rules = pl.read_parquet(layout.raw, glob=False), settings.validate_
    schema, inferred = _schema(table, settings, layout, console)
    duplicates = table.height - table.hash_rows().n_unique()
    features = tuple(feature_columns(settings))
    aucs = single_feature_aucs(table, list(features), settings.dataset, words_of)
    words = read_json(layout.target_words) if layout.target_words.is_file() else []
    by_check = _failures(settings, Examined(table, settings.dataset, features, schema, duplicates, aucs, tuple(words)))
    found = [failure for failures in by_check.values() for failure in failures]
    stopping = [failure for failure in found if failure.stops or rules.on_failure == "stop"]
    columns = _columns(table, settings, layout, aucs)
    report = {
        "dataset": settings.name,
        "rows": table.height,
        "passed": not stopping,
        "checks": [
            {"name": check.name, "owner": plugins.owner(check).name, "summary": check.summary, "failures": len(by_check[check.name])}
            for check in checks_of(settings)
        ],
        "failures": [asdict(failure) for failure in found],
        "columns": _column_facts(table, settings),
        "uses": [asdict(use) for use in columns],
        "single_feature_auc": {name: round(value, 4) for name, value in aucs.items()},
        "target": _target_facts(table, settings, words),
        "duplicate_rows": duplicates,
        "texts": {name: facts_of(table[name]) for name, column in feature_columns(settings).items() if column.kind == "text"},
    }
    write_columns(layout.columns, columns)
    write_json(layout.validation_json, report)
    write_text(layout.validation_html, page("validation.html", title=f"Validation of {settings.name}", report=report))
    for check in plugins.not_ours(checks_of(settings)):
        broken = len(by_check[check.name])
        console.print(f"            check {check.name}: {f'{broken} failed' if broken else 'passed'}")
    if found:
        console.print(_failure_table(found))
    if stopping:
        raise PipelineError(_why_stopped(stopping, layout))
    if inferred:
        write_schema(schema, layout.schema)
        console.print(f"            schema inferred: read and commit {layout.relative(layout.schema)}")
    for text in (*_remarks(found, columns, duplicates, table.height), *_of_texts(table, settings)):
        tell(Warned(pipeline=settings.name, stage="validate", text=text))
    kept = " keep the schema" if not by_check["schema"] else ""
    used = sum(use.use == FEATURE for use in columns)
    console.print(f"            {table.height:,} rows × {table.width} columns{kept} · {used} features")


def _schema(table: pl.DataFrame, settings: Settings, layout: Layout, console: Console) -> tuple[pa.DataFrameSchema, bool]:
    """The schema that the table has to keep, and whether it was inferred of this table just now."""
    schema = read_schema(layout.schema) if layout.schema.exists() else None
    other = None if schema is None else other_columns(table, schema)
    if schema is not None and not other and (private := tells_private(schema, settings.dataset)):
        other = f"'{private}' is private now"
    if schema is not None and not (other and is_as_inferred(layout.schema)):
        return schema, False
    if other:
        console.print(f"            {layout.relative(layout.schema)} was inferred of other columns ({other}): inferred anew")
    return infer_schema(table, settings.dataset, settings.validate_, settings.name), True


def _columns(table: pl.DataFrame, settings: Settings, layout: Layout, aucs: dict[str, float]) -> list[ColumnUse]:
    """What becomes of each column: those that nobody described too, and features that are suspected to leak."""
    data, rules = settings.dataset, settings.validate_
    held = described(profile_of(table), data.target)
    trusted = {*rules.trusted, *(settings.features.include or ())}
    strong = strong_features(table, aucs, data, rules.max_single_feature_auc, settings.seed, words_of)
    uses = []
    for name in data.columns:
        one = held.get(name)
        use = described_use(name, settings, why=one.left_out if one is not None else "")
        if use.use == FEATURE and one is not None and one.left_out:
            use = replace(use, note=one.left_out)
        use = judged(use, strong.get(name) if rules.on_failure == "warn" else None, trusted=name in trusted)
        if use.kind == "text" and aucs.get(name, 0.0) > rules.max_single_feature_auc and name not in trusted:
            use = noted(use, told_by(table[name], table[data.target], settings, name, words_of))
        uses.append(use)
    uses = never_all_left_out(uses)
    undescribed = read_json(layout.ingest_report).get("columns_not_described", ()) if layout.ingest_report.exists() else ()
    return [*uses, *(described_use(name, settings) for name in undescribed)]


def _remarks(found: list[Failure], columns: list[ColumnUse], duplicates: int, rows: int) -> Iterator[str]:
    """What a person should know of a table that is merely unusual."""
    for use in columns:
        if use.why.startswith(SUSPECTED):
            yield f"'{use.name}' is left out as a {use.why}{'; ' if use.note else ''}{use.note}"
        elif use.use == FEATURE and use.note:
            yield f"'{use.name}' is a feature: {use.note}"
    if duplicates:
        kept = "a random split keeps equal rows on one side, but for many that few values make equal"
        yield f"{duplicates:,} of {rows:,} rows repeat another: {kept}"
    for failure in found[:5]:
        if "duplicate" not in failure.rule:
            yield f"{failure.column}: {failure.rule}: {failure.seen}"
    if len(found) > 5:
        yield f"{len(found) - 5} more checks failed: they are in the validation report"


def _of_texts(table: pl.DataFrame, settings: Settings) -> Iterator[str]:
    """What a person should know of texts that may give the target away; no word of them is told."""
    data = settings.dataset
    target = table[data.target]
    labels = {str(value) for value in target.drop_nulls().unique().to_list()} if has_classes(data.task) else set()
    for name, column in feature_columns(settings).items():
        if column.kind == "text":
            yield from remarks(name, table[name], target, labels=labels)


def _why_stopped(stopping: list[Failure], layout: Layout) -> str:
    """One line: what failed first, and what goes on all the same."""
    first = stopping[0]
    failed = f"{len(stopping)} check{'s' if len(stopping) > 1 else ''} failed"
    # The file is named once, here: rules of the configuration know only its key.
    remedy = (
        f"{first.remedy} in {layout.relative(layout.config)}"
        if first.remedy
        else f"mend the data, or widen {layout.relative(layout.schema)}"
    )
    if not first.stops:
        remedy = f"{remedy}, or go on all the same with validate.on_failure: warn"
    return (
        f"{layout.relative(layout.raw)}: {failed}, first {first.column}: {first.rule} ({first.seen}): {remedy}; "
        f"all failures in {layout.relative(layout.validation_html)}"
    )


def _failures(settings: Settings, examined: Examined) -> dict[str, list[Failure]]:
    """What each check found, ours first: those that the settings name are asked with settings of their own."""
    rules = settings.validate_
    found: dict[str, list[Failure]] = {}
    for check in checks_of(settings):
        own = part_settings(check, rules.checks.get(check.name, {}), "validate", "checks")
        given = examined if plugins.is_ours(check) else replace(examined, table=examined.table.clone())
        said = plugins.run(check, given, own if check.name in rules.checks else rules)
        found[check.name] = [_shown(_sound(check, failure), settings) for failure in plugins.run_through(check, said)]
    return found


def _sound(check: plugins.Check, failure: Any) -> Failure:
    """A failure with a remedy, whoever's check found it."""
    if not isinstance(failure, Failure):
        raise plugins.broken(check, f"it gives a {type(failure).__name__}, not Failures (mlops_pipeline.tables.schema)")
    if plugins.is_ours(check):
        return failure
    for key in ("column", "rule", "seen", "remedy"):
        if not isinstance(getattr(failure, key), str):
            raise plugins.broken(check, f"{key} of its Failure is {getattr(failure, key)!r}, not text")
    rows: Any = failure.rows
    if not isinstance(rows, Integral):
        raise plugins.broken(check, f"rows of its Failure is {rows!r}, not a whole number")
    # Who names a check of one's own asks for it to be kept.
    return replace(
        failure, rows=int(failure.rows), stops=True, remedy=failure.remedy or f"mend the data, or change validate.checks.{check.name}"
    )


def _shown(failure: Failure, settings: Settings) -> Failure:
    """The failure without what a private column holds."""
    if private_names(settings.dataset.columns).isdisjoint((failure.column, *failure.column.split(", "))):
        return failure
    remedy = f"mend {failure.column}" if failure.remedy else ""
    return replace(failure, seen=UNTOLD, rule=failure.rule.partition("(")[0], remedy=remedy)


def _column_facts(table: pl.DataFrame, settings: Settings) -> list[dict[str, Any]]:
    """What each column holds; of a private one how much of it is null, and no value."""
    facts = []
    for column in table:
        told = settings.dataset.columns.get(column.name)
        private = told is not None and told.private
        numeric = column.dtype.is_numeric() and not private
        facts.append(
            {
                "name": column.name,
                "type": f"{column.dtype}, private" if private else str(column.dtype),
                "null_share": round(column.null_count() / max(len(column), 1), 4),
                "distinct": column.n_unique(),
                "min": _plain(column.min()) if numeric else "",
                "mean": _plain(column.mean()) if numeric else "",
                "max": _plain(column.max()) if numeric else "",
            }
        )
    return facts


def _plain(value: Any) -> str:
    return "" if value is None else f"{value:.6g}"


def _target_facts(table: pl.DataFrame, settings: Settings, words: list[Any]) -> dict[str, Any]:
    """What its values are and how often each is there, as its owner writes them; of a quantity, mean and spread."""
    target = table[settings.dataset.target]
    if settings.dataset.columns[target.name].private:
        return {UNTOLD: len(target)}
    if not has_classes(settings.dataset.task):
        return {"mean": _plain(target.mean()), "std": _plain(target.std())}
    counts = sorted(target.value_counts(sort=True, name="\0count").iter_rows(), key=lambda item: str(item[0]))
    values = [value for value, _ in counts]
    return {str(label): count for label, (_, count) in zip(in_owners_words(values, words) or values, counts, strict=True)}


def _failure_table(found: list[Failure]) -> Any:
    from rich.table import Table

    table = Table(title="Checks that failed", title_justify="left")
    for heading in ("column", "rule", "rows", "seen"):
        table.add_column(heading, justify="right" if heading == "rows" else "left", overflow="fold")
    for failure in found[:20]:
        table.add_row(failure.column, failure.rule[:120], f"{failure.rows:,}", failure.seen[:60])
    return table
