"""Validate: enforce the committed schema and look for what would make a model lie, before anything is trained."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from mlops_pipeline import plugins
from mlops_pipeline.config.pipeline import Settings, checks_of, feature_columns, part_settings
from mlops_pipeline.contract.task import has_classes
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.files import write_json, write_text
from mlops_pipeline.layout import Layout
from mlops_pipeline.pages import page
from mlops_pipeline.tables.checks import Examined
from mlops_pipeline.tables.leakage import single_feature_aucs
from mlops_pipeline.tables.schema import Failure, infer_schema, read_schema, write_schema

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console


def validate(settings: Settings, layout: Layout, console: Console) -> None:
    """Check ``data/raw`` and write the HTML and JSON reports, whatever the outcome.

    The schema is inferred and written if there is none yet. Raises :class:`PipelineError` if anything failed.
    """
    import polars as pl

    table = pl.read_parquet(layout.raw, glob=False)
    inferred = not layout.schema.exists()
    if inferred:
        write_schema(infer_schema(table, settings.dataset, settings.validate_, settings.name), layout.schema)
        console.print(f"            schema inferred: read and commit {layout.relative(layout.schema)}")
    duplicates = table.height - table.hash_rows().n_unique()
    features = tuple(feature_columns(settings))
    aucs = single_feature_aucs(table, list(features), settings.dataset)
    by_check = _failures(settings, Examined(table, settings.dataset, features, read_schema(layout.schema), duplicates, aucs))
    found = [failure for failures in by_check.values() for failure in failures]
    report = {
        "dataset": settings.name,
        "rows": table.height,
        "passed": not found,
        "checks": [
            {"name": check.name, "owner": plugins.owner(check).name, "summary": check.summary, "failures": len(by_check[check.name])}
            for check in checks_of(settings)
        ],
        "failures": [asdict(failure) for failure in found],
        "columns": _column_facts(table, settings),
        "single_feature_auc": {name: round(value, 4) for name, value in aucs.items()},
        "target": _target_facts(table, settings),
        "duplicate_rows": duplicates,
    }
    write_json(layout.validation_json, report)
    write_text(layout.validation_html, page("validation.html", title=f"Validation of {settings.name}", report=report))
    for check in plugins.not_ours(checks_of(settings)):
        broken = len(by_check[check.name])
        console.print(f"            check {check.name}: {f'{broken} failed' if broken else 'passed'}", highlight=False, markup=False)
    if found:
        console.print(_failure_table(found))
        first = found[0]
        failed = f"{len(found)} check{'s' if len(found) > 1 else ''} failed"
        # The file is named once, here: rules of the configuration know only its key.
        remedy = (
            f"{first.remedy} in {layout.relative(layout.config)}"
            if first.remedy
            else f"mend the data, or widen {layout.relative(layout.schema)}"
        )
        raise PipelineError(
            f"{layout.relative(layout.raw)}: {failed}, first {first.column}: {first.rule} ({first.seen}): {remedy}; "
            f"all failures in {layout.relative(layout.validation_html)}"
        )
    console.print(f"            {table.height:,} rows × {table.width} columns keep the schema")


def _failures(settings: Settings, examined: Examined) -> dict[str, list[Failure]]:
    """What each check found, ours first: those that the settings name are asked with settings of their own."""
    rules = settings.validate_
    found: dict[str, list[Failure]] = {}
    for check in checks_of(settings):
        own = part_settings(check, rules.checks.get(check.name, {}), "validate", "checks")
        said = plugins.run(check, examined, own if check.name in rules.checks else rules)
        found[check.name] = [_shown(_sound(check, failure), settings) for failure in plugins.run_through(check, said)]
    return found


def _sound(check: plugins.Check, failure: Any) -> Failure:
    """A failure with a remedy, whoever's check found it."""
    if not isinstance(failure, Failure):
        raise plugins.broken(check, f"it gives a {type(failure).__name__}, not Failures (mlops_pipeline.tables.schema)")
    if failure.remedy or plugins.is_ours(check):
        return failure
    return replace(failure, remedy=f"mend the data, or change validate.checks.{check.name}")


def _shown(failure: Failure, settings: Settings) -> Failure:
    """The failure without what a private column holds."""
    column = settings.dataset.columns.get(failure.column)
    if column is None or not column.private:
        return failure
    return replace(failure, seen="private", rule=failure.rule.partition("(")[0])


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


def _target_facts(table: pl.DataFrame, settings: Settings) -> dict[str, Any]:
    target = table[settings.dataset.target]
    if not has_classes(settings.dataset.task):
        return {"mean": _plain(target.mean()), "std": _plain(target.std())}
    counts = target.value_counts(sort=True, name="\0count")
    return {str(value): count for value, count in sorted(counts.iter_rows(), key=lambda item: str(item[0]))}


def _failure_table(found: list[Failure]) -> Any:
    from rich.table import Table

    table = Table(title="Checks that failed", title_justify="left")
    for heading in ("column", "rule", "rows", "seen"):
        table.add_column(heading, justify="right" if heading == "rows" else "left", overflow="fold")
    for failure in found[:20]:
        table.add_row(failure.column, failure.rule[:120], f"{failure.rows:,}", failure.seen[:60])
    return table
