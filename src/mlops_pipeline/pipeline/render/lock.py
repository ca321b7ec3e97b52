"""``mlops.lock``: what results depend on that stands neither in the project's code nor in its settings, for DVC to see."""

import importlib.metadata
import re
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from mlops_pipeline import plugins
from mlops_pipeline.config.pipeline import SECTIONS, Settings, files_read, parts_used
from mlops_pipeline.files import sha256_of_file, text_of
from mlops_pipeline.layout import Layout
from mlops_pipeline.pipeline.code_graph import PACKAGE
from mlops_pipeline.pipeline.definition import STAGES, Stage

FILE = "mlops.lock"
VERSIONS, DEFAULTS, FILES, PACKAGES = "versions", "defaults", "files", "packages"

DECISIVE = ("lightgbm", "numpy", "onnxmltools", "onnxruntime", "optuna", "pandera", "polars", "scikit-learn", "scipy", "skl2onnx", "skops")
"""Libraries by which a result may differ from one version to the next."""

_HEAD = "# Written by `mlops run`; keep it in Git. A stage runs again when these versions, or a default that it takes, change.\n"


def lock_yaml(settings: Settings, layout: Layout) -> str:
    """The text of ``mlops.lock`` as things are installed now: versions, and the default of every section that a file may leave out.

    Files that a fit reads and that lie outside the project, such as an installed package's, stand there with their digests. So do the
    versions of other packages that a stage depends on, those of the project's other pipelines too.
    """
    content: dict[str, Any] = {VERSIONS: _versions((plugins.DISTRIBUTION, *DECISIVE)), DEFAULTS: _defaults()}
    if packages := _packages(settings, layout):
        content[PACKAGES] = packages
    outside = _outside(settings, layout)
    if outside:
        content[FILES] = {"/".join(file.parts[-3:]): sha256_of_file(file) for file in outside}
    return _HEAD + yaml.dump(content, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True, width=120)


def named_settings(stage: Stage, settings: Settings, layout: Layout) -> list[dict[str, list[str]]]:
    """Where DVC finds the settings of a stage: in the configuration, and what it leaves out, and versions, in ``mlops.lock``.

    There, too, for one that ``fits``, are the digests of files outside the project.
    """
    names = stage.settings
    params = [{layout.relative(layout.config): [name for name in names if name not in settings.left_out]}]
    locked = [VERSIONS, *(f"{PACKAGES}.{name}" for name in packages_of(stage, settings))] if is_installed(layout) else []
    locked += [f"{DEFAULTS}.{name}" for name in names if name in settings.left_out]
    locked += [FILES] if stage.fits and _outside(settings, layout) else []
    return [*params, {FILE: locked}] if locked else params


def needs_lock(settings: Settings, layout: Layout) -> bool:
    """Whether anything that this pipeline depends on stands in ``mlops.lock``."""
    return is_installed(layout) or bool(settings.left_out) or bool(_outside(settings, layout))


def _outside(settings: Settings, layout: Layout) -> list[Path]:
    """Files that a fit reads and that are none of the project's."""
    return [file for file in files_read(settings) if not file.is_relative_to(layout.project)]


def is_installed(layout: Layout) -> bool:
    """Whether this package is none of the project's own code, so that its version stands for it."""
    home = Path(str(sys.modules[PACKAGE].__file__)).resolve()
    return not home.is_relative_to(layout.project) or bool({"site-packages", "dist-packages"} & set(home.relative_to(layout.project).parts))


def packages_of(stage: Stage, settings: Settings) -> dict[str, str]:
    """The versions of packages, beside those that every stage depends on, that ship a stage's sources or that its parts need."""
    data, used = settings.dataset, parts_used(settings) if stage.parts else {}
    named = [] if stage.reads else [source.package for source in (data.source, *data.lookups) if source.package is not None]
    named += [name for purpose in stage.parts for part in used[purpose] for name in plugins.distributions(part)]
    return _versions(sorted({re.sub(r"[-_.]+", "-", name).lower() for name in named} - set(DECISIVE)))


def _packages(settings: Settings, layout: Layout) -> dict[str, str]:
    """Those of every stage, and what another pipeline of the project has noted: each finds its own there, whichever wrote last."""
    if not is_installed(layout):
        return {}
    noted: Any = None
    if (layout.project / FILE).is_file():
        with suppress(yaml.YAMLError):
            noted = yaml.load(text_of(layout.project / FILE), Loader=yaml.CSafeLoader)
    others = noted.get(PACKAGES) if isinstance(noted, dict) else None
    own = {name for stage in STAGES for name in packages_of(stage, settings)}
    return _versions(sorted({*own, *map(str, others if isinstance(others, dict) else ())}))


def _versions(names: Iterable[str]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except (importlib.metadata.PackageNotFoundError, ValueError):  # none by that name, or a name that is empty
            continue
    return found


def _defaults() -> dict[str, Any]:
    fields = {field.alias or name: field.default for name, field in Settings.model_fields.items()}
    defaults = {name: fields[name] for name in SECTIONS}
    return {name: value.model_dump(mode="json") if hasattr(value, "model_dump") else value for name, value in defaults.items()}
