"""A check of one's own: no column is the same in every row."""

from collections.abc import Iterator

from pydantic import Field

from mlops_pipeline.config.tree import Frozen
from mlops_pipeline.plugins import check
from mlops_pipeline.tables.checks import Examined
from mlops_pipeline.tables.schema import Failure


class Varied(Frozen):
    """Its settings, below validate.checks.varied."""

    at_least: int = Field(2, ge=1, description="distinct values of each feature")


@check("varied", settings=Varied)
def varied(examined: Examined, settings: Varied) -> Iterator[Failure]:
    """Every feature has several values."""
    for name in examined.features:
        distinct = examined.table[name].n_unique()
        if distinct < settings.at_least:
            yield Failure(
                column=name,
                rule=f"at least {settings.at_least} distinct values",
                rows=examined.table.height,
                seen=f"{distinct} distinct",
                remedy=f"put {name} under features.exclude, or lower validate.checks.varied.at_least",
            )
