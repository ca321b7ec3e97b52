"""Where one pipeline's files lie: every path of it is spelled here and nowhere else."""

import os
from dataclasses import dataclass
from glob import has_magic
from pathlib import Path
from urllib.parse import unquote

from mlops_pipeline.config.pipeline import Settings, project_of
from mlops_pipeline.errors import PipelineError

FEATURES_STATE = "MLOPS_FEATURES_STATE"
"""Of the environment: PostgreSQL's address, where all pipelines' commands keep the features' state, whatever their settings say."""

EVENTS = "events.jsonl"
"""What happened, a line each: in a pipeline's ``data`` folder, and beside a server's record, which by default is the same file."""


DVC_FILE = "dvc.yaml"
"""What DVC works by, at a pipeline's root."""


@dataclass(frozen=True)
class StatePlace:
    """Where a features' state is asked of: a folder of versions; or, with PostgreSQL's ``address``, the state ``name`` there.

    Then the folder takes copies of its versions. The address is as it is written: it may name variables of the environment.
    """

    folder: Path
    address: str | None = None
    name: str = ""


@dataclass(frozen=True)
class Layout:
    """Absolute paths of one pipeline; ``project`` holds ``.dvc``, ``root`` is the project or a folder in it."""

    project: Path
    root: Path
    name: str
    config: Path

    @property
    def raw(self) -> Path:
        return self.root / "data/raw" / f"{self.name}.parquet"

    @property
    def snapshot(self) -> Path:
        """The rows that a source's query gave when it was last asked."""
        return self.root / "data/raw" / f"{self.name}.snapshot.parquet"

    @property
    def quarantine(self) -> Path:
        return self.root / "data/raw" / f"{self.name}.quarantine.csv"

    @property
    def ingest_report(self) -> Path:
        return self.root / "data/raw" / f"{self.name}.ingest.json"

    @property
    def state(self) -> Path:
        """The features' state, a folder of versions (:mod:`mlops_pipeline.features.state`)."""
        return self.root / "data/state" / self.name

    def asked_state(self, settings: Settings) -> StatePlace:
        """Where the state is asked of."""
        address = address_of_state(settings)
        return StatePlace(self.state) if address is None else StatePlace(self.state / "copies", address, self.name)

    @property
    def schema(self) -> Path:
        return self.root / "data/validation" / f"{self.name}.schema.yaml"

    @property
    def target_words(self) -> Path:
        return self.root / "data/raw" / f"{self.name}.target.json"

    @property
    def origins(self) -> Path:
        """Which described columns the source holds, and which each lookup gives (:class:`mlops_pipeline.features.rows.Origins`)."""
        return self.root / "data/raw" / f"{self.name}.origins.json"

    @property
    def replay(self) -> Path:
        """Folder of what features are computed again from (:mod:`mlops_pipeline.features.replay`)."""
        return self.root / "data/raw" / self.name / "replay"

    @property
    def validation_json(self) -> Path:
        return self.root / "data/validation" / f"{self.name}.report.json"

    @property
    def validation_html(self) -> Path:
        return self.root / "data/validation" / f"{self.name}.report.html"

    @property
    def columns(self) -> Path:
        """What becomes of each column (:class:`mlops_pipeline.tables.columns.ColumnUse`)."""
        return self.root / "data/validation" / f"{self.name}.columns.json"

    @property
    def train(self) -> Path:
        return self.root / "data/processed" / f"{self.name}.train.parquet"

    @property
    def test(self) -> Path:
        return self.root / "data/processed" / f"{self.name}.test.parquet"

    @property
    def split_report(self) -> Path:
        return self.root / "data/processed" / f"{self.name}.split.json"

    @property
    def model(self) -> Path:
        """A complete MLflow model folder."""
        return self.root / "models/artifacts/model"

    @property
    def training(self) -> Path:
        return self.root / "models/artifacts/training.json"

    @property
    def evaluation(self) -> Path:
        """Folder with the held-out predictions, plots, the HTML report and the ONNX twin."""
        return self.root / "models/artifacts/evaluation"

    @property
    def metrics(self) -> Path:
        return self.root / "models/artifacts/metrics.json"

    @property
    def registration(self) -> Path:
        return self.root / "models/artifacts/registration.json"

    @property
    def report(self) -> Path:
        """The evaluation as a page, the gate's verdict first."""
        return self.root / "models/artifacts/report.html"

    @property
    def best_model(self) -> Path:
        """The champion as a self-contained MLflow model folder, replaced in one step."""
        return self.root / "models/registry/best_model"

    @property
    def model_card(self) -> Path:
        return self.root / "models/registry/MODEL_CARD.md"

    @property
    def events(self) -> Path:
        return self.root / "data" / EVENTS

    @property
    def versions(self) -> Path:
        return self.root / "models/versions"

    @property
    def tuning(self) -> Path:
        return self.root / "models/tuning"

    @property
    def unfinished_fit(self) -> Path:
        """How far a fit in passes was when it was stopped."""
        return self.tuning / f"{self.name}.fit.npz"

    @property
    def embeddings(self) -> Path:
        """Embeddings of texts by their digests, to be made once; it may be deleted."""
        return self.root / "data/processed/embeddings"

    @property
    def mlflow(self) -> Path:
        return self.project / "mlflow"

    @property
    def experiments(self) -> Path:
        """What MLflow says of each experiment."""
        return self.mlflow / "experiments.yaml"

    @property
    def lock(self) -> Path:
        return self.project / "requirements.txt"

    @property
    def dvc_file(self) -> Path:
        return self.root / DVC_FILE

    @property
    def default_tracking_uri(self) -> str:
        return sqlite_uri(self.mlflow / "mlflow.db")

    def source_files(self, source: str) -> list[Path]:
        """The files that a source's path names, in the order of their names; none of the pipeline's own."""
        own = {
            self.raw,
            self.snapshot,
            self.quarantine,
            self.ingest_report,
            self.target_words,
            self.origins,
            self.quarantine.with_suffix(".rejected.csv"),
        }
        return [file for file in files_of(self.project / source) if file not in own]

    def relative(self, path: Path) -> str:
        """A path as the project's files spell it; absolute if it lies elsewhere."""
        return path.relative_to(self.project).as_posix() if path.is_relative_to(self.project) else str(path)


def files_of(path: Path) -> list[Path]:
    """The file of a path, the files in it if it is a folder, or those that it matches as a pattern; hidden ones are none of them."""
    if path.is_file():
        return [path]
    if path.is_dir():
        return sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    folder = fixed_part(path)
    pattern = str(path.relative_to(folder))
    found = folder.glob(pattern) if has_magic(pattern) else ()
    return sorted(file for file in found if file.is_file() and not file.name.startswith("."))


def fixed_part(path: Path) -> Path:
    """What there is of a path: itself, or the folder in which its pattern looks, whatever signs that is called by; a file is none."""
    if path.exists() or not any(map(has_magic, path.parts)):
        return path
    return next((folder for folder in path.parents if folder.is_dir()), Path())


SQLITE = "sqlite:///"


def sqlite_uri(path: Path) -> str:
    """The address of a SQLite file as SQLAlchemy reads it: what would mean something to it is escaped."""
    return SQLITE + str(path).replace("%", "%25").replace("?", "%3F")


def sqlite_path(uri: str) -> Path:
    """The file that such an address names."""
    return Path(unquote(uri.removeprefix(SQLITE).partition("?")[0]))


def layout_of(settings: Settings, config: Path, project: Path) -> Layout:
    """The layout of a pipeline whose project folder is known. Raises :class:`PipelineError` if its root is a link out of that."""
    project = project.resolve()
    root = (project / settings.paths.root).resolve()
    if not root.is_relative_to(project):
        raise PipelineError(f"{config}: paths.root = '{settings.paths.root}': leads outside the project, to {root}: name a folder in it")
    return Layout(project=project, root=root, name=settings.name, config=config.resolve())


def find_project(config: Path) -> Path:
    """The nearest folder above the configuration that holds ``.dvc``.

    Raises :class:`PipelineError` if there is none.
    """
    folder = project_of(config)
    if (folder / ".dvc").is_dir():
        return folder
    raise PipelineError(f"{config}: no folder above it holds .dvc: run `git init && dvc init` in your project first")


def address_of_state(settings: Settings) -> str | None:
    """PostgreSQL's address as it is written, where a pipeline keeps its features' state there."""
    return os.environ.get(FEATURES_STATE) or settings.features.state
