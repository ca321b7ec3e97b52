"""Where a server's files lie: its models, its cache and its record.

Apart from :mod:`~mlops_pipeline.layout`, which every stage imports: an edit of the server's settings must make no stage stale.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from mlops_pipeline import plugins
from mlops_pipeline.config.addresses import filled, is_or_holds_postgresql, resolved
from mlops_pipeline.config.pipeline import Settings, load_settings, project_of, registry_uri, tracking_uri
from mlops_pipeline.config.serving import RecordStore, Serving, is_folder, scheme_of, store_at
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.layout import FEATURES_STATE, StatePlace, find_project, layout_of


@dataclass(frozen=True)
class Place:
    """Where this server finds its models and writes its record; ``artifacts`` is the MLflow server that hands out files, or empty."""

    registry: str
    artifacts: str
    model: str
    versions: Path
    cache: Path
    records: Path
    store: RecordStore
    base: Path
    """What paths are relative to: the pipeline's root, or the folder of the server's settings."""
    pipeline: Settings | None
    """The pipeline's own settings, where the server's name them."""
    state: StatePlace
    """Where the features' state is, whose versions are looked at."""
    releases: str
    """The table of releases: a file, which need not be there, or an address."""
    parts: plugins.NamedParts
    """What the settings add to ours, for models and records that need them."""


def place_of(settings: Serving, config: Path) -> Place:
    """Paths and addresses, with what the pipeline's own settings say as defaults."""
    given = settings.registry
    stated = os.environ.get("MLFLOW_REGISTRY_URI") or os.environ.get("MLFLOW_TRACKING_URI") or filled(given.uri or "", "registry.uri")
    if settings.pipeline is not None:
        path = config.parent / settings.pipeline
        pipeline: Settings | None
        pipeline = load_settings(path, with_parts=False)
        layout = layout_of(pipeline, path, find_project(path))
        base, versions, state, parts = layout.root, layout.versions, layout.asked_state(pipeline), plugins.source()
        registry = stated or registry_uri(pipeline, layout.default_tracking_uri)
        artifacts = tracking_uri(pipeline, layout.default_tracking_uri)
        name = given.model or pipeline.registry.model or pipeline.name
    else:
        pipeline, base, parts = None, config.resolve().parent, plugins.NamedParts(project_of(config), (), str(config))
        state = StatePlace(base / "data/state", os.environ.get(FEATURES_STATE) or None)
        versions = base / given.cache
        registry, name = stated or "", given.model or ""
        artifacts = os.environ.get("MLFLOW_TRACKING_URI") or registry
        named = [reference for reference in settings.models.values() if not is_folder(reference)]
        missing = "registry.uri" if not registry else "registry.model" if not name else ""
        if named and missing:
            raise PipelineError(
                f"{config}: {missing} is missing, which says where '{named[0]}' is: add it, or the pipeline's settings under 'pipeline'"
            )
    if settings.plugins:
        parts = replace(parts, plugins=tuple(dict.fromkeys((*parts.plugins, *settings.plugins))), origin=str(config))
    plugins.use(parts)
    record = settings.record
    where = filled(record.uri, "record.uri") if record.uri else str(base / record.folder)
    if record.uri and scheme_of(where) is None:
        raise PipelineError(f"{config}: record.uri: the variable in it holds no address such as postgresql://…")
    store = replace(store_at(where, record.store, record.settings, str(config)), of=name)
    return Place(
        registry,
        artifacts if artifacts.startswith("http") else "",
        name,
        versions,
        base / given.cache,
        base / settings.record.folder,
        store,
        base,
        pipeline,
        _state_of(settings, base, name, state),
        resolved(settings.release.uri, "release.uri") if settings.release.uri else str(base / settings.release.file),
        parts,
    )


def _state_of(settings: Serving, base: Path, name: str, known: StatePlace) -> StatePlace:
    """Where the features' state is, by the server's settings or, where these say nothing, as it is ``known``; copies lie in the cache."""
    given, asked = settings.features.state or known.address, settings.features.name
    if given is None:
        return known
    if not is_or_holds_postgresql(given):
        return StatePlace(base / given)
    return StatePlace(base / settings.registry.cache / "features", given, asked or known.name or name)
