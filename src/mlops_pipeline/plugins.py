"""The parts that a pipeline is put together from, one table for each kind: ours, installed ones, and those of a project's own files.

A part is declared as a value in a module: by a decorator on its function (:func:`metric`), or as :class:`Metric` with the place of the
function, ``"module:function"``, which is then imported when the part is used. Every module-level value that is a part (or a tuple of
parts) counts. Ours stand in ``mlops_pipeline.parts`` and in a ``parts`` of ``modelling`` and ``alerts``; others come by the entry point
group ``mlops_pipeline.parts``, whose entries name modules, and by the files and modules that a configuration names under ``plugins``.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import re
import sys
import threading
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, TypeVar

from mlops_pipeline.contract.task import TASKS as TASKS_BY_NAME
from mlops_pipeline.errors import PipelineError, one_line

GROUP = "mlops_pipeline.parts"
OURS = ("mlops_pipeline.parts", "mlops_pipeline.alerts.parts", "mlops_pipeline.modelling.parts")
PACKAGE = "mlops_pipeline"
DISTRIBUTION = "mlops-pipeline"
TASKS = tuple(TASKS_BY_NAME)

Function = Callable[..., Any]
Place = Function | str
"""A function, or where it is: ``"module:function"``."""

FAILURES = (Exception, SystemExit)
"""What another's code may raise: ``sys.exit(0)`` in it must not end a run as if it had done its work."""


class Module:
    """A module whose functions are named here (``Module("mine").fit`` is ``"mine:fit"``) and imported when they are used."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, function: str) -> str:
        return f"{self._name}:{function}"


@dataclass(frozen=True)
class Part:
    """One part: its name in the configuration, its function, a line for people, and the model of its settings if it has any."""

    KIND: ClassVar[str] = "part"

    name: str
    function: Place
    summary: str = ""
    settings: type[Any] | None = None


@dataclass(frozen=True)
class Extra:
    """What a part of ours needs beyond the base: the module, what people call it, and the extra of this package that brings it."""

    module: str
    library: str
    name: str

    @property
    def is_here(self) -> bool:
        """Whether it is installed; nothing is imported."""
        return importlib.util.find_spec(self.module) is not None


@dataclass(frozen=True)
class Estimator(Part):
    """``function(task, seed)`` makes an unfitted scikit-learn estimator, whose own parameters ``train.params`` then sets.

    With ``settings`` it is ``function(task, seed, settings)``, and ``train.params`` are those. ``search(trial)`` says where Optuna looks
    for better ones. ``trusted`` are the types, beyond skops's own list, that a fitted one is made of; ``requirements`` the
    distributions that loading it needs. ``format`` is the model format that it is saved in. Of ours alone: with ``race`` it is none
    itself, but ``function(task, shape)`` names candidates, of which the training rows choose one; a fit needs its ``extra``.
    """

    KIND: ClassVar[str] = "estimator"

    tasks: tuple[str, ...] = TASKS
    encoder: str = "ordinal"
    search: Place | None = None
    trusted: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    format: str = "skops"
    race: bool = False
    extra: Extra | None = None


@dataclass(frozen=True)
class Encoder(Part):
    """``function(features)`` makes an unfitted scikit-learn transformer of raw columns to a float matrix.

    With ``settings`` it is ``function(features, settings)``, and ``train.encoder_params`` are those. Of ours alone: it needs its
    ``extra``, and ``reads(settings)`` gives the files that a fit reads besides rows.
    """

    KIND: ClassVar[str] = "encoder"

    trusted: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    extra: Extra | None = None
    reads: Place = ""


@dataclass(frozen=True)
class Metric(Part):
    """``function(made, weights)``: predictions and weights of shape (resamples, rows) to values of shape (resamples,), NaN if undefined.

    With ``settings`` it is ``function(made, weights, settings)``, and what stands below its name in ``evaluate.metric_params`` are those.
    """

    KIND: ClassVar[str] = "metric"

    tasks: tuple[str, ...] = TASKS
    lower_is_better: bool = False


@dataclass(frozen=True)
class Check(Part):
    """``function(examined, settings)`` yields a ``Failure`` for each rule that the table breaks."""

    KIND: ClassVar[str] = "check"


@dataclass(frozen=True)
class GateRule(Part):
    """``function(judged, settings)``: whether the version passes, and why in words; None where the rule has nothing to say."""

    KIND: ClassVar[str] = "gate rule"

    limit: str = ""
    """Of ours: the key under ``gate`` that it goes by; null there switches it off."""


@dataclass(frozen=True)
class ModelFormat(Part):
    """How a fitted model lies in a folder of its own in a version's, and how it is loaded: never by running what lies there.

    ``save(folder, fitted, contract)``, with settings ``(folder, fitted, contract, settings)``, writes all that loading needs.
    ``function(folder, contract, threads)`` loads it as an ``inference.formats.Engine``; twins are made from that engine's ``fitted``,
    the fitted model, if it has one. A version has one format that is the model's own. A ``twin`` is made beside it, is kept if it says
    the same of all held-out rows, and needs none of the parts that the model was made by; what is not convertible raises. ``exports``
    are functions such as ``save`` by which a model in this format becomes another's twin: ``(("onnx", place),)``. ``platform`` is its
    name in the Open Inference Protocol. ``at`` and ``file`` are for ours.
    """

    KIND: ClassVar[str] = "format"

    save: Place = ""
    twin: bool = False
    exports: tuple[tuple[str, Place], ...] = ()
    requirements: tuple[str, ...] = ()
    platform: str = ""
    at: str = ""
    file: str = ""


@dataclass(frozen=True)
class Store(Part):
    """Where the record of predictions is kept.

    ``function(where, worker, token)`` makes what one worker's rows are written to (``records.store.Database``): ``where`` is
    ``record.uri``, or else the path of ``record.folder``. ``reader(where, wanted)`` opens what is recorded there as a context manager of
    ``records.store.Records``. With settings both take them last. ``schemes`` are those of ``record.uri`` that mean this store;
    ``record.store`` names it in any case.
    """

    KIND: ClassVar[str] = "store"

    reader: Place = ""
    schemes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Channel(Part):
    """A way to tell of alerts.

    ``function(alert)``, with settings ``(alert, settings)``, delivers an ``alerts.alert.Alert``; what it raises means that it has not got
    through, and it is tried again until it does not. The same alert may come twice, with the same ``delivery``. With ``repeats`` an alert
    that lasts is told anew at least every ``repeat_s`` seconds: of the settings, if they have a field of that name.
    """

    KIND: ClassVar[str] = "channel"

    repeats: bool = False


KINDS: tuple[type[Part], ...] = (Estimator, Encoder, Metric, Check, GateRule, ModelFormat, Store, Channel)

Kind = TypeVar("Kind", bound=Part)


def estimator(
    name: str,
    *,
    tasks: tuple[str, ...] = TASKS,
    encoder: str = "ordinal",
    search: Place | None = None,
    settings: type[Any] | None = None,
    trusted: tuple[str, ...] = (),
    requirements: tuple[str, ...] = (),
    format: str = "skops",  # noqa: A002  # as the setting is called
) -> Callable[[Function], Estimator]:
    """Make an :class:`Estimator` of a function."""
    _refuse_a_bare("estimator", name)
    return lambda function: Estimator(name, function, _summary(function), settings, tasks, encoder, search, trusted, requirements, format)


def encoder(
    name: str, *, settings: type[Any] | None = None, trusted: tuple[str, ...] = (), requirements: tuple[str, ...] = ()
) -> Callable[[Function], Encoder]:
    """Make an :class:`Encoder` of a function."""
    _refuse_a_bare("encoder", name)
    return lambda function: Encoder(name, function, _summary(function), settings, trusted, requirements)


def metric(
    name: str, *, tasks: tuple[str, ...] = TASKS, lower_is_better: bool = False, settings: type[Any] | None = None
) -> Callable[[Function], Metric]:
    """Make a :class:`Metric` of a function."""
    _refuse_a_bare("metric", name)
    return lambda function: Metric(name, function, _summary(function), settings, tasks, lower_is_better)


def check(name: str, *, settings: type[Any] | None = None) -> Callable[[Function], Check]:
    """Make a :class:`Check` of a function."""
    _refuse_a_bare("check", name)
    return lambda function: Check(name, function, _summary(function), settings)


def gate_rule(name: str, *, settings: type[Any] | None = None) -> Callable[[Function], GateRule]:
    """Make a :class:`GateRule` of a function."""
    _refuse_a_bare("gate_rule", name)
    return lambda function: GateRule(name, function, _summary(function), settings)


def model_format(
    name: str,
    *,
    save: Place,
    twin: bool = False,
    exports: tuple[tuple[str, Place], ...] = (),
    requirements: tuple[str, ...] = (),
    platform: str = "",
    settings: type[Any] | None = None,
) -> Callable[[Function], ModelFormat]:
    """Make a :class:`ModelFormat` of the function that loads it, or of a class that is its engine."""
    _refuse_a_bare("model_format", name)
    return lambda function: ModelFormat(name, function, _summary(function), settings, save, twin, exports, requirements, platform)


def store(name: str, *, reader: Place, schemes: tuple[str, ...] = (), settings: type[Any] | None = None) -> Callable[[Function], Store]:
    """Make a :class:`Store` of a function, or of a class that is a store's writing end."""
    _refuse_a_bare("store", name)
    return lambda function: Store(name, function, _summary(function), settings, reader, schemes)


def channel(name: str, *, settings: type[Any] | None = None, repeats: bool = False) -> Callable[[Function], Channel]:
    """Make a :class:`Channel` of a function."""
    _refuse_a_bare("channel", name)
    return lambda function: Channel(name, function, _summary(function), settings, repeats)


def _refuse_a_bare(decorator: str, name: object) -> None:
    """Raise TypeError for a decorator without its parentheses, which would declare nothing and say nothing of it."""
    if not isinstance(name, str):
        raise TypeError(f'@{decorator} is given no name: write @{decorator}("NAME")')


@dataclass(frozen=True)
class Owner:
    """Who a part is from: this package, a distribution, a module, or a file of the project with the project's files that it imports."""

    name: str
    files: tuple[Path, ...] = ()


@dataclass(frozen=True)
class NamedParts:
    """What one configuration adds: the ``plugins`` it names, relative to its project; ``origin`` is named in errors."""

    project: Path | None = None
    plugins: tuple[str, ...] = ()
    origin: str = ""


Table = Mapping[tuple[type[Part], str], tuple[Part, Owner]]


@dataclass
class _State:
    """What this process works with: one configuration's parts, read when the first is asked for."""

    source: NamedParts = NamedParts()
    table: Table | None = None
    files: dict[Path, str] = field(default_factory=dict)
    """The project's files that the parts are made of, each with the SHA-256 of what it held when it was imported."""
    folders: list[str] = field(default_factory=list)
    """What was put on the path to import them."""
    metrics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The settings of metrics that have some, by name."""


_state = _State()
_reading = threading.RLock()
"""Files are run by one thread, whoever asks first."""


def use(source: NamedParts) -> None:
    """Work with the parts that this configuration names beside ours and the installed ones. They are read when one is asked for.

    What was read stays, unless one of the files that it is made of was edited since.
    """
    with _reading:
        if source != _state.source or any(_sha256(file) != then for file, then in _state.files.items()):
            _state.source, _state.table = source, None


def use_metrics(settings: Mapping[str, Mapping[str, Any]]) -> None:
    """From now on metrics are computed with these settings, by name: a metric is asked for by its name alone, from many places."""
    _state.metrics = settings


def settings_of(metric: Metric) -> tuple[Any, ...]:
    """What the metric's function takes last: its settings, if it has any."""
    return () if metric.settings is None else (metric.settings(**_state.metrics.get(metric.name, {})),)


def source() -> NamedParts:
    """Whose parts this process works with, for one that it starts."""
    return _state.source


def parts(kind: type[Kind]) -> dict[str, Kind]:
    """Every part of a kind, by name: ours first. Raises :class:`PipelineError` if one that is named cannot be read."""
    return {name: part for (of, name), (part, _) in _table().items() if of is kind and isinstance(part, kind)}


def part(kind: type[Kind], name: str, key: str = "") -> Kind:
    """The part of that name; :class:`PipelineError` names those that there are, and the ``key`` that named it."""
    known = parts(kind)
    if name not in known:
        where = f"{key} = '{name}': " if key else f"{kind.KIND} '{name}': "
        raise PipelineError(
            f"{where}there is no such {kind.KIND}: use one of {', '.join(known) or '(none)'}, or name the file that has it under plugins:"
        )
    return known[name]


def parts_of_model(name: str, encoder: str | None) -> tuple[Estimator, Encoder]:
    """The estimator, and the encoder that is named or else is the estimator's own."""
    estimator = part(Estimator, name, "train.estimator")
    return estimator, part(Encoder, encoder or estimator.encoder, "train.encoder")


def owner(part: Part) -> Owner:
    """Who a part is from."""
    found, from_ = _table().get((type(part), part.name), (None, Owner("unknown")))
    return from_ if found is part else Owner("unknown")


def is_ours(part: Part) -> bool:
    """Whether a part is this package's own."""
    return owner(part).name == DISTRIBUTION


def files(parts: Iterable[Part]) -> tuple[Path, ...]:
    """The files of the project that these parts are made of; none for ours and installed ones, which the lock file stands for."""
    return tuple(sorted({file for part in parts for file in owner(part).files}))


def distributions(part: Part) -> list[str]:
    """What a part needs of others that are installed: whose it is, and what it says that loading and fitting need."""
    whose, extra = owner(part), getattr(part, "extra", None)
    # Of a module that is named with dots, the first of them is mostly what is installed.
    named = [] if whose.files or whose.name == DISTRIBUTION else [whose.name, whose.name.partition(".")[0]]
    named += [re.split(r"[^\w.-]", each, maxsplit=1)[0] for each in getattr(part, "requirements", ()) if each != DISTRIBUTION]
    return [*named, *([] if extra is None else [extra.module])]


def our_modules(parts: Iterable[Part]) -> set[str]:
    """The modules of this package that hold the functions of these parts."""
    return {part.function.partition(":")[0] for part in parts if isinstance(part.function, str) and is_ours(part)}


def trusted_types() -> tuple[str, ...]:
    """The types that the parts which are named here say their models are made of."""
    named = (part for kind in (Estimator, Encoder) for part in parts(kind).values())
    return tuple(sorted({each for part in named if isinstance(part, Estimator | Encoder) for each in part.trusted}))


def described(parts: Iterable[Part]) -> list[dict[str, str]]:
    """Parts as a model's ``training.json`` names what it needs."""
    return [{"kind": part.KIND, "name": part.name, "owner": owner(part).name} for part in parts]


def check_extra(part: Estimator | Encoder) -> None:
    """Raise :class:`PipelineError` if what a fit of this estimator, or by this encoder, needs is not installed."""
    extra = part.extra
    if extra is not None and not extra.is_here:
        raise PipelineError(
            f"train.{part.KIND}: {part.name}: needs {extra.library}: pip install '{DISTRIBUTION}[{extra.name}]' or make {extra.name}"
        )


def lacking(needed: Iterable[Mapping[str, str]]) -> str:
    """The first of the parts that a model needs and that is not here, in words; empty if all are."""
    kinds = {kind.KIND: kind for kind in KINDS}
    for wanted in needed:
        kind = kinds.get(str(wanted.get("kind")))
        if kind is None or wanted.get("name") not in parts(kind):
            return f"the {wanted.get('kind')} '{wanted.get('name')}' of {wanted.get('owner')}"
    return ""


def loaded(place: Place) -> Function:
    """The function at a place, imported now if it is named. Raises :class:`PipelineError` if there is none."""
    if callable(place):
        return place
    module, _, name = place.partition(":")
    try:
        found: Function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise PipelineError(f"'{place}': cannot be imported ({one_line(error)}): write module:function of one that can") from error
    return found


def run(part: Part, *arguments: Any) -> Any:
    """What the part's function returns; what goes wrong in another's part is told in one line with its file and line."""
    return run_at(part, part.function, *arguments)


def run_at(part: Part, place: Place, *arguments: Any) -> Any:
    """The same for another function of the part."""
    try:
        return loaded(place)(*arguments)
    except PipelineError:
        raise
    except FAILURES as error:
        if is_ours(part):
            raise
        raise broken(part, error) from error


def run_through(part: Part, said: Any) -> list[Any]:
    """All that a part's function yields, where it may still fail while it does; None is nothing."""
    return list(stepped(part, said if said is not None else ()))


def stepped(part: Part, given: Iterable[Any]) -> Iterator[Any]:
    """What a part's function hands over one by one, where it may fail at each."""
    end = object()
    try:
        each = iter(given)
    except TypeError as error:
        raise broken(part, error) from error
    while (one := run_at(part, next, each, end)) is not end:
        yield one


def not_ours(parts: Iterable[Kind]) -> list[Kind]:
    """Those that are not this package's own."""
    return [part for part in parts if not is_ours(part)]


def sought(part: Estimator, trial: Any) -> dict[str, Any]:
    """The parameters that an estimator's search asks a trial for; none if it has no search. What Optuna itself raises is for Optuna."""
    if part.search is None:
        return {}
    try:
        said = loaded(part.search)(trial)
    except FAILURES as error:
        if isinstance(error, PipelineError) or type(error).__module__.partition(".")[0] == "optuna":
            raise
        raise broken(part, error) from error
    if not isinstance(said, Mapping):
        raise broken(part, f"its search gives a {type(said).__name__}, not a mapping of parameters")
    return dict(said)


def broken(part: Part, error: object) -> PipelineError:
    """That a part does not do what it should, as one line."""
    raised = f"{type(error).__name__}: {one_line(error)}" if isinstance(error, BaseException) else one_line(error)
    return PipelineError(f"{owner(part).name}: {part.KIND} '{part.name}' fails: {raised}{_line_in(part, error)}: mend it there")


def place_in(parts: Iterable[Part], error: BaseException) -> str:
    """Where in the project's own files an error comes from, of all that these parts are made of; empty if in none."""
    passed = _passed(error, {str(file) for part in parts for file in owner(part).files})
    return f"{Path(passed[-1][0]).name}, line {passed[-1][1]}" if passed else ""


def _line_in(part: Part, error: object) -> str:
    """The last line of the part's own files that an error passed through."""
    passed = _passed(error, {str(file) for file in owner(part).files}) if isinstance(error, BaseException) else []
    if not passed:
        return ""
    file, line = passed[-1]
    return f" (line {line})" if file.endswith(owner(part).name) else f" ({Path(file).name}, line {line})"


def _passed(error: BaseException, files: Collection[str]) -> list[tuple[str, int]]:
    """The places in these files that an error passed through, the innermost last."""
    return [(frame.filename, frame.lineno or 0) for frame in traceback.extract_tb(error.__traceback__) if frame.filename in files]


def _table() -> Table:
    table = _state.table
    if table is None:
        with _reading:
            table = _state.table = _state.table or _read(_state.source)
    return table


def _read(source: NamedParts) -> Table:
    """Every part that is there. Raises :class:`PipelineError` for what cannot be read, and for a name that two have."""
    _leave()
    table: dict[tuple[type[Part], str], tuple[Part, Owner]] = {}
    for module, who in _modules(source):
        for part in _parts_in(module):
            key = (type(part), part.name)
            former, whose = table.get(key, (part, who))
            # A file may import what another has declared.
            _check_declaration(part, whose if former is part else who)
            if former is not part:
                raise PipelineError(f"{part.KIND} '{part.name}' is declared by both {whose.name} and {who.name}: rename one of them")
            table.setdefault(key, (part, who))
    return table


def _modules(source: NamedParts) -> Iterator[tuple[ModuleType, Owner]]:
    from importlib.metadata import entry_points

    for ours in OURS:
        yield importlib.import_module(ours), Owner(DISTRIBUTION)
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: (entry.dist.name if entry.dist else "", entry.name)):
        who = Owner(entry.dist.name if entry.dist else entry.value)
        try:
            module = importlib.import_module(entry.module)
        except FAILURES as error:
            raise PipelineError(
                f"{who.name}: its parts cannot be loaded: {type(error).__name__}: {one_line(error)}: mend or remove it"
            ) from error
        yield module, who
    for place, plugin in enumerate(source.plugins):
        where = f"{source.origin}: plugins.{place} = '{plugin}'"
        if plugin in source.plugins[:place]:
            raise PipelineError(f"{where}: is named twice: take one of them out")
        yield _of_project(plugin, source, where) if source.project and plugin.endswith(".py") else _of_path(plugin, source, where)


def _of_project(plugin: str, source: NamedParts, where: str) -> tuple[ModuleType, Owner]:
    """A file of the project as a module of its own name, which must be nobody else's: a saved model's types are found by it."""
    project = Path(str(source.project)).resolve()
    path = (project / plugin).resolve()
    if not path.is_relative_to(project):
        raise PipelineError(f"{where}: lies outside the project {project}: move it inside")
    if not path.is_file():
        raise PipelineError(f"{where}: there is no such file in {project}: paths are relative to the project's folder")
    name = path.stem
    if not name.isidentifier():
        raise PipelineError(f"{where}: '{name}' is no module's name: rename the file, with letters, digits and _ alone")
    if not _is(name, path):
        raise PipelineError(f"{where}: another module is called '{name}': rename the file")
    _enter(path.parent)
    _enter(project)
    files = _remembered(path, project)
    who = Owner(path.relative_to(project).as_posix(), files)
    if name in sys.modules:  # another of the files has just imported it
        return sys.modules[name], who
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PipelineError(f"{where}: cannot be loaded as Python: name a .py file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except FAILURES as error:
        sys.modules.pop(name, None)
        raise _not_loaded(where, error, path) from error
    return module, who


def _of_path(plugin: str, source: NamedParts, where: str) -> tuple[ModuleType, Owner]:
    """A dotted module, installed or in the project's folder."""
    if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", plugin):
        raise PipelineError(f"{where}: is neither a .py file nor a dotted module: write src/mine.py or package.module")
    project = Path(source.project).resolve() if source.project else None
    if project is not None:
        _enter(project)
        for file in _files_of_module(project, plugin):
            _remembered(file, project)
    try:
        module = importlib.import_module(plugin)
    except FAILURES as error:
        raise _not_loaded(where, error, None) from error
    if module.__file__ is None and hasattr(module, "__path__"):
        _forget(plugin)
        raise PipelineError(f"{where}: is a folder, in which nothing is looked for: name its files, {plugin.replace('.', '/')}/mine.py")
    path = Path(str(module.__file__)).resolve() if module.__file__ else None
    if project is not None and path is not None and path.is_relative_to(project) and "site-packages" not in path.parts:
        return module, Owner(path.relative_to(project).as_posix(), _remembered(path, project))
    return module, Owner(plugin)


def _leave() -> None:
    """Forget the files that were imported last: they may have been edited, and another project may have a ``mine.py`` too."""
    names = {file.name for file in _state.files}
    for name, module in list(sys.modules.items()) if names else ():
        file = Path(getattr(module, "__file__", None) or "")
        if file.name in names and file.resolve() in _state.files:
            _forget(name)
    for file in _state.files:
        # Python takes bytecode for current where an edit keeps the file's length within one second.
        with suppress(OSError, NotImplementedError):
            Path(importlib.util.cache_from_source(str(file))).unlink()
    sys.path[:] = [folder for folder in sys.path if folder not in _state.folders]
    _state.files, _state.folders = {}, []
    importlib.invalidate_caches()


def _forget(name: str) -> None:
    """Take a module out, and with it the folders without ``__init__.py`` that it is in, which would hand it out again."""
    sys.modules.pop(name, None)
    above, _, own = name.rpartition(".")
    package = sys.modules.get(above)
    if package is not None:
        vars(package).pop(own, None)
        if getattr(package, "__file__", None) is None and len(package.__path__) == 1:
            _forget(above)


def _remembered(path: Path, project: Path) -> tuple[Path, ...]:
    """The file and the project's files that it imports, whose edits are seen from now on."""
    files = _local_files(path, project)
    for file in files:
        _state.files.setdefault(file, _sha256(file))
    return files


def _enter(folder: Path) -> None:
    """Let modules of a folder be imported; it comes last, so that none takes the place of a library."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
        _state.folders.append(str(folder))


def _is(name: str, path: Path) -> bool:
    """Whether a module of that name would be this file, or there is none."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return False
    return spec is None or (spec.origin is not None and Path(spec.origin).resolve() == path)


def _not_loaded(where: str, error: BaseException, path: Path | None) -> PipelineError:
    line = error.lineno if isinstance(error, SyntaxError) else None
    if line is None and path is not None:
        line = next((f.lineno for f in reversed(traceback.extract_tb(error.__traceback__)) if f.filename == str(path)), None)
    at = f" (line {line})" if line else ""
    # In its own words a file that is no Python has its name and line once more.
    what = error.msg if isinstance(error, SyntaxError) and error.filename == str(path) else error
    return PipelineError(f"{where}: cannot be loaded: {type(error).__name__}: {one_line(what)}{at}: mend it there")


def _parts_in(module: ModuleType) -> list[Part]:
    values = [value for name, value in vars(module).items() if not name.startswith("__")]
    nested = [each for value in values for each in (value if isinstance(value, tuple | list) else (value,))]
    found: list[Part] = []
    for each in nested:
        if isinstance(each, Part) and not any(each is other for other in found):
            found.append(each)
    return found


def _check_declaration(part: Part, who: Owner) -> None:
    """Raise :class:`PipelineError` for a declaration that could not work."""
    what = f"{who.name}: {part.KIND} '{part.name}'"
    if type(part) not in KINDS:
        raise PipelineError(f"{what}: is of no kind: use one of {', '.join(kind.KIND for kind in KINDS)}")
    if isinstance(part, ModelFormat) and not part.save:
        raise PipelineError(f"{what}: nothing writes it: name the function that does, save=...")
    if isinstance(part, ModelFormat) and (part.at or part.file) and who.name != DISTRIBUTION:
        raise PipelineError(f"{what}: it has a folder of its own, formats/{part.name}: take at and file out")
    if isinstance(part, Store) and not part.reader:
        raise PipelineError(f"{what}: nothing reads what it keeps: name the function that does, reader=...")
    if not isinstance(part.name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", part.name):
        raise PipelineError(f"{what}: use letters, digits, '.', '_' and '-' for its name, a letter or digit first")
    for key in ("tasks", "trusted", "requirements", "schemes"):
        value = getattr(part, key, ())
        if not isinstance(value, tuple | list):
            raise PipelineError(f"{what}: {key} = {value!r}: write a tuple: ({value!r},)")
    tasks = getattr(part, "tasks", TASKS)
    if not tasks or any(task not in TASKS for task in tasks):
        raise PipelineError(f"{what}: tasks = {tasks}: use some of {', '.join(TASKS)}")
    if part.settings is not None and not (
        getattr(part.settings, "model_config", {}).get("frozen") and part.settings.model_config.get("extra") == "forbid"
    ):
        raise PipelineError(
            f"{what}: its settings {part.settings.__name__} can be changed: derive them from mlops_pipeline.config.tree.Frozen"
        )


def _local_files(path: Path, project: Path) -> tuple[Path, ...]:
    """A file and the project's files that its imports run, directly or not, found without running them."""
    found: set[Path] = set()
    waiting = [path]
    while waiting:
        file = waiting.pop()
        if file in found:
            continue
        found.add(file)
        try:
            tree = ast.parse(file.read_text(encoding="utf-8"))
        except (OSError, SyntaxError, ValueError):
            continue
        for name in _imported(tree, file, project):
            if name.split(".")[0] == PACKAGE:
                continue  # what a stage needs of this package is known from the stage
            folders = dict.fromkeys((path.parent, project, *_installed_in(project, name)))
            waiting += [each for folder in folders for each in _files_of_module(folder, name)]
    return tuple(sorted(found))


def _installed_in(project: Path, name: str) -> Iterator[Path]:
    """The folder of the project from which a module is imported that is none of its top: ``src``, of a package installed in place."""
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names:
        return  # Python's own lie in the project where its environment does, as Conda makes one
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return
    if spec is None:
        return
    for place in spec.submodule_search_locations or filter(None, [spec.origin]):
        folder = Path(place).resolve().parent
        if folder.is_relative_to(project) and not {"site-packages", "dist-packages"} & set(folder.parts):
            yield folder


def _imported(tree: ast.AST, file: Path, project: Path) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                folder = file.parents[node.level - 1]
                inside = folder.relative_to(project).parts if folder.is_relative_to(project) else ()
                base = ".".join([*inside, *([base] if base else [])])
            yield from (f"{base}.{alias.name}" if base else alias.name for alias in node.names)


def _files_of_module(folder: Path, name: str) -> Iterator[Path]:
    """The files that importing a dotted name, or something in it, runs."""
    place = folder
    for word in name.split("."):
        place = place / word
        for candidate in (place.with_suffix(".py"), place / "__init__.py"):
            if candidate.is_file():
                yield candidate.resolve()


def _sha256(file: Path) -> str:
    """Of what a file holds; of none where it is gone."""
    return hashlib.sha256(file.read_bytes() if file.is_file() else b"").hexdigest()


def _summary(function: Function) -> str:
    return (function.__doc__ or "").strip().split("\n", maxsplit=1)[0].rstrip(".")
