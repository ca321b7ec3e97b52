"""A version's summary of its own rows: read from its folder, and written there for versions of before."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mlops_pipeline.config.pipeline import Settings
from mlops_pipeline.contract.evaluation import FILE as EVALUATION
from mlops_pipeline.contract.reference import FILE, Reference, decoded
from mlops_pipeline.contract.spec import FILE as CONTRACT
from mlops_pipeline.contract.spec import JUDGED, Unreadable
from mlops_pipeline.errors import PipelineError, one_line
from mlops_pipeline.files import replacing, sha256_of_file
from mlops_pipeline.inference.scorer import contract_at, evaluation_at, load_scorer, scorer_of
from mlops_pipeline.inference.texts import frozen_encoders
from mlops_pipeline.layout import Layout
from mlops_pipeline.registry.versions import Version, holds

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["FILE", "Reference", "reference_at"]


def reference_at(folder: Path) -> Reference:
    """The summary beside a version; raises :class:`PipelineError` if there is none, or it cannot be read."""
    path = folder / FILE
    if not path.is_file():
        raise PipelineError(f"{path}: does not exist: `mlops monitor reference` writes it for a version of before")
    try:
        return decoded(path.read_bytes())
    except (Unreadable, OSError) as error:
        raise PipelineError(f"{path}: {one_line(error)}: write it again with `mlops monitor reference`") from error


def write_reference(settings: Settings, layout: Layout, number: int | None, console: Console) -> Path:
    """Have a version's folder on this machine with its summary, made from the pipeline's rows if it is not there; its path.

    ``number``: None is the champion. A summary that is made is put into the version's stored files too. Raises :class:`PipelineError`,
    also for a version whose digest covers every file: none is added to it.
    """
    from mlops_pipeline.registry.champion import RegistryWriter
    from mlops_pipeline.registry.runs import Tracking

    settings.use_parts()
    registry = RegistryWriter(Tracking(settings, layout).open())
    version = registry.champion() if number is None else registry.get(number)
    if version is None:
        raise PipelineError(registry.without_champion())
    folder = registry.fetch(version)
    what = f"{registry.name} version {version.number}"
    try:
        there = reference_at(folder)
    except PipelineError:
        if version.is_sealed and not (folder / FILE).exists():
            what = f"{what}: was registered without a summary of its rows, and its digest covers every file, so none is added"
            raise PipelineError(f"{what}: `mlops run --from evaluate`, and have another version registered") from None
        if version.is_sealed:
            raise
        with console.status(f"summing the rows of {what} up"):
            there = summary_for(settings, layout, folder, what)
            _write(folder, there)
            registry.add_file(version, folder / FILE)
        console.print(f"reference   written for {what}: {_told(there)}")
    else:
        console.print(f"reference   {what} has one: {_told(there)}")
    _copy_to_champion(layout, version, there)
    return folder / FILE


def summary_for(settings: Settings, layout: Layout, folder: Path, what: str) -> Reference:
    """A version's summary from the rows of its pipeline; raises :class:`PipelineError` where these are others now."""
    import polars as pl

    from mlops_pipeline.modelling.evaluation import predictions_of
    from mlops_pipeline.modelling.summary import again_on, summary_of

    served = contract_at(folder / CONTRACT)
    own = folder / JUDGED if served.judged_sha256 and (folder / JUDGED / CONTRACT).is_file() else folder
    contract, evaluation = contract_at(own / CONTRACT), evaluation_at(folder / EVALUATION)
    for path, digest in ((layout.train, contract.train_sha256), (layout.test, evaluation.test_sha256)):
        if not path.is_file() or sha256_of_file(path) != digest:
            raise PipelineError(
                f"{layout.relative(path)}: holds other rows than those that {what} was made of: "
                "check the commit out that made it and `mlops run` there, or register a new version"
            )
    train, test = (pl.read_parquet(path, glob=False) for path in (layout.train, layout.test))
    scorer = load_scorer(own, only=contract.own_format)
    predicted = scorer_of(contract, scorer.engine).taking_nulls().predict(test)
    ours = predictions_of(test, predicted, contract.classes, settings)
    made = summary_of(contract, train, test, ours, evaluation, frozen_encoders(own))
    return made if own == folder else again_on(made, served, pl.concat([train, test]), frozen_encoders(folder))


def _copy_to_champion(layout: Layout, version: Version, reference: Reference) -> None:
    place = layout.best_model
    if (place / CONTRACT).is_file() and not (place / FILE).is_file() and holds(place, version.content_sha256):
        _write(place, reference)


def _write(folder: Path, reference: Reference) -> None:
    with replacing(folder / FILE) as temporary:
        temporary.write_bytes(reference.encoded())


def _told(reference: Reference) -> str:
    return f"{len(reference.columns)} columns over {reference.rows:,} rows, quality on {reference.held_out:,} held out"
