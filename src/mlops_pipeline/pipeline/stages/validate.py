"""Validate: enforce the committed schema and look for what would make a model lie, before anything is trained."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mlops_pipeline.config.pipeline import Settings, feature_columns
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.files import write_json, write_text
from mlops_pipeline.layout import Layout
from mlops_pipeline.pages import page
from mlops_pipeline.tables.leakage import single_feature_aucs
from mlops_pipeline.tables.schema import Failure, failures, infer_schema, read_schema, write_schema

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
    aucs = single_feature_aucs(table, list(feature_columns(settings)), settings.dataset)
    found = [*failures(table, read_schema(layout.schema)), *_table_failures(table, settings, aucs, duplicates)]
    report = {
        "dataset": settings.name,
        "rows": table.height,
        "passed": not found,
        "failures": [asdict(failure) for failure in found],
        "columns": _column_facts(table),
        "single_feature_auc": {name: round(value, 4) for name, value in aucs.items()},
        "target": _target_facts(table, settings),
        "duplicate_rows": duplicates,
    }
    write_json(layout.validation_json, report)
    write_text(layout.validation_html, page("validation.html", title=f"Validation of {settings.name}", report=report))
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


def _table_failures(table: pl.DataFrame, settings: Settings, aucs: dict[str, float], duplicates: int) -> list[Failure]:
    rules, data = settings.validate_, settings.dataset
    found = []
    if duplicates > rules.max_duplicate_share * table.height:
        found.append(
            Failure(
                "(table)",
                f"at most {rules.max_duplicate_share:.1%} duplicate rows",
                duplicates,
                f"{duplicates / table.height:.1%}",
                "take the repeated rows out, or raise validate.max_duplicate_share",
            )
        )
    if data.entity_key:
        repeated = table.height - table.n_unique(list(data.entity_key))
        if repeated:
            remedy = "mend the data, or name more columns under dataset.entity_key"
            found.append(Failure(", ".join(data.entity_key), "entity_key is unique", repeated, f"{repeated} repeated", remedy))
    another = "add rows with other values, or name another dataset.target"
    if data.task != "regression":
        shares = table[data.target].value_counts(normalize=True, sort=True)
        if shares.height < 2:
            found.append(Failure(data.target, "at least two classes", table.height, str(shares[data.target].to_list()), another))
        for value, share in shares.iter_rows():
            if share < rules.min_class_share:
                found.append(
                    Failure(
                        data.target,
                        f"each class at least {rules.min_class_share:.1%}",
                        round(share * table.height),
                        f"{value}: {share:.2%}",
                        f"add rows of class {value}, or lower validate.min_class_share",
                    )
                )
    elif table[data.target].n_unique() < 2:
        found.append(Failure(data.target, "target varies", table.height, "one value", another))
    if table.height >= 100:
        found += [
            Failure(
                name,
                f"no leakage: alone predicts the target with AUC of at most {rules.max_single_feature_auc}",
                table.height,
                f"AUC {value:.3f}",
                f"put {name} under dataset.known_after_outcome if only the outcome tells it, or raise validate.max_single_feature_auc",
            )
            for name, value in aucs.items()
            if value > rules.max_single_feature_auc
        ]
    return found


def _column_facts(table: pl.DataFrame) -> list[dict[str, Any]]:
    facts = []
    for column in table:
        numeric = column.dtype.is_numeric()
        facts.append(
            {
                "name": column.name,
                "type": str(column.dtype),
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
    if settings.dataset.task == "regression":
        return {"mean": _plain(target.mean()), "std": _plain(target.std())}
    counts = target.value_counts(sort=True)
    return {str(value): count for value, count in sorted(counts.iter_rows(), key=lambda item: str(item[0]))}


def _failure_table(found: list[Failure]) -> Any:
    from rich.table import Table

    table = Table(title="Checks that failed", title_justify="left")
    for heading in ("column", "rule", "rows", "seen"):
        table.add_column(heading, justify="right" if heading == "rows" else "left", overflow="fold")
    for failure in found[:20]:
        table.add_row(failure.column, failure.rule[:120], f"{failure.rows:,}", failure.seen[:60])
    return table
