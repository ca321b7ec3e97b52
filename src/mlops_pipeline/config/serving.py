"""What the server is told: one YAML file, frozen and checked, like a pipeline's."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from mlops_pipeline import plugins
from mlops_pipeline.config.addresses import address_beside, check_one_address, is_or_holds_postgresql, is_postgresql, taken_as_it_is
from mlops_pipeline.config.keys import DIGEST, KEYS_REMEDY, Key, ambiguous, check_models, keys_in
from mlops_pipeline.config.pipeline import PIPELINE_KEYS, PastSpan, part_schema, project_of
from mlops_pipeline.config.tree import Frozen, Name, read_yaml, refuse_another_kind, shown, text_beside, tree_of
from mlops_pipeline.errors import PipelineError


def _host(value: str) -> str:
    if not re.fullmatch(r"\*|(\*\.)?[\w-]+(\.[\w-]+)*|[0-9A-Fa-f:]+", value):
        raise ValueError("must be a name or an address without scheme and port, such as models.example.com, *.example.com or *")
    return value


def _origin(value: str) -> str:
    if not re.fullmatch(r"\*|null|https?://[^/\s]+/?", value):
        raise ValueError("must be a site such as https://app.example.com, with its port if it has one, or *")
    return value


Host = Annotated[str, AfterValidator(_host)]
Origin = Annotated[str, AfterValidator(_origin)]


class ServingRegistry(Frozen):
    """Where versions come from; what the pipeline's own settings say is the default."""

    uri: str | None = Field(
        None,
        description="${NAME} in it is taken from the environment; default: the pipeline's; MLFLOW_REGISTRY_URI and MLFLOW_TRACKING_URI win",
    )
    model: Name | None = Field(None, description="registered name; default: the pipeline's")
    poll_s: float = Field(2.0, gt=0, description="seconds between looks at the registry")
    cache: str = Field("models/served", description="folder for fetched versions and what was served last; relative to the project")


class Length(Frozen):
    """How long a text of a client may be, in characters and in bytes of UTF-8."""

    characters: int = Field(1000, ge=1, description="a longer one is refused")
    bytes: int | None = Field(None, ge=1, description="default: as many as the characters take")

    @property
    def most_bytes(self) -> int:
        """Bytes that a text may have: a character takes four at most."""
        return self.bytes or 4 * self.characters


class IdLength(Length):
    """The same of ids."""

    characters: int = Field(256, ge=1, description="a longer one is refused")


class TextLength(Length):
    """The same of free text."""

    characters: int = Field(100_000, ge=1, description="a longer one is refused")
    request: int = Field(2_000_000, ge=1, description="characters of all texts of one request together")


class Limits(Frozen):
    """What one request may ask for, and what may wait."""

    max_body_mb: float = Field(8, gt=0, description="a request's body, in megabytes; a larger one is refused with 413")
    bodies_mb: float = Field(256, gt=0, description="bodies in several pieces that one worker receives at once; above that 429")
    connections: int = Field(
        1000,
        ge=1,
        description="connections to one worker: above that, those that wait longest for their client are closed, and where so many "
        "requests are under way, another gets 503",
    )
    max_rows: int = Field(10_000, ge=1, description="rows of one request")
    id: IdLength = Field(IdLength(), description="a request's id, and the ids of its rows; a longer one gets 400 or 422")
    category: Length = Field(Length(), description="a category that training has not seen, or a moment; a longer one gets 422")
    text: TextLength = Field(TextLength(), description="a value of a text column, in the form NFKC that is read; a longer one gets 422")
    queue_rows: int = Field(20_000, ge=1, description="rows that may wait in one worker; above that 429")
    deadline_ms: int = Field(10_000, ge=1, description="a request not answered by then gets 503")
    head_timeout_s: float = Field(10, gt=0, description="a request's line and headers not received by then get 408")
    body_timeout_s: float = Field(20, gt=0, description="a body not received by then gets 408")
    rest_timeout_s: float = Field(10, gt=0, description="what still comes of a request that is answered already is read for so long")
    unread_timeout_s: float = Field(30, gt=0, description="an answer that its client has not taken by then is broken off")
    idle_timeout_s: float = Field(75, gt=0, description="a connection without a request is closed by then")
    wrong_keys: int = Field(20, ge=1, description="wrong API keys from one address, in each worker, within wrong_keys_s; above that 429")
    wrong_keys_s: float = Field(60, gt=0, description="the seconds that wrong_keys is for")


class Batching(Frozen):
    """How requests share a call of the model."""

    max_rows: int = Field(1024, ge=1, description="rows of one batch; a single larger request is a batch of its own")
    threads: int = Field(1, ge=1, description="the model's threads in each worker: one answers small requests fastest, several large ones")


class Record(Frozen):
    """The record of predictions. Columns marked private in the dataset never enter it."""

    mode: Literal["durable", "relaxed", "off"] = Field(
        "relaxed", description="durable: an answer goes out when its record is on disk; relaxed: a kill loses at most the last loss_ms"
    )
    loss_ms: int = Field(200, ge=1, description="relaxed: answers of the last so many milliseconds may be lost by a kill")
    folder: str = Field("data/records", description="SQLite files, one a worker and day; relative to the project")
    uri: str | None = Field(
        None,
        description="an address instead of the folder: postgresql://… or what another store answers to; ${NAME} in it is taken from the "
        "environment",
    )
    uri_file: str | None = Field(None, description="a file that holds this address, so that no password stands here; relative to this file")
    store: Name | None = Field(None, description="`mlops parts` lists them; default: the one that answers to the address, else sqlite")
    settings: dict[str, Any] = Field(default_factory=dict, description="the store's own")
    max_mb: float = Field(64, gt=0, description="memory for what is not yet written, a worker; above that 503")

    @model_validator(mode="after")
    def _known_store(self) -> Self:
        if self.uri is not None and self.uri_file is not None:
            raise ValueError("give either record.uri or record.uri_file")
        if self.uri is not None and scheme_of(self.uri) is None and not is_or_holds_postgresql(self.uri):
            raise ValueError("record.uri must be an address such as postgresql://…: leave it out to write SQLite files")
        return self


@dataclass(frozen=True)
class RecordStore:
    """A store of records by the name of its part, the address or folder where it keeps them, and its own settings."""

    name: str
    where: str
    settings: dict[str, Any] = field(default_factory=dict)
    of: str = ""
    """The registered model that is behind the names in the address: another pipeline's may be recorded in the same place."""


def scheme_of(where: str) -> str | None:
    """What stands before ``://`` in an address; None for a path."""
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", where)
    return found[1].lower() if found else None


def store_at(where: str, name: str | None = None, settings: dict[str, Any] | None = None, origin: str = "") -> RecordStore:
    """The store that keeps records at an address or in a folder, or the one named; its settings checked, with their defaults.

    Raises :class:`PipelineError` if there is none here, in one line that names ``origin`` and shows no password.
    """
    before, scheme = f"{origin}: " if origin else "", scheme_of(where)
    stores = plugins.parts(plugins.Store)
    if name is not None:
        part = plugins.part(plugins.Store, name, f"{before}record.store")
    elif scheme is None:
        part = stores["sqlite"]
    else:
        fitting = next((each for each in stores.values() if scheme in each.schemes), None)
        if fitting is None:
            known = ", ".join(f"{each}://" for store in stores.values() for each in store.schemes)
            raise PipelineError(
                f"{before}record.uri = {scheme}://…: no store here answers to it: use a folder or one of {known}, name the store under "
                "record.store, or the file that has it under plugins:"
            )
        part = fitting
    if scheme is not None and part.schemes and scheme not in part.schemes:
        raise PipelineError(f"{before}record.uri = {scheme}://…: the store '{part.name}' answers to {', '.join(part.schemes)}: change one")
    if scheme is not None and part.name == "sqlite":
        raise PipelineError(f"{before}record.uri = {scheme}://…: the store 'sqlite' keeps files: name their folder under record.folder")
    if scheme is None and part.name == "postgresql":
        raise PipelineError(
            f"{before}record.store = 'postgresql': record.uri is missing: write postgresql://… there, or in record.uri_file"
        )
    own = tree_of(part.settings or Frozen, settings or {}, origin or part.name, ("record", "settings"))
    return RecordStore(part.name, where, own.model_dump(mode="json"))


Inputs = Literal["raw", "features", "either"]
"""What rows hold: the source's columns, the model's own, or whichever it turns out to be."""


def inputs_of(word: str) -> Inputs:
    """What rows hold, as a command line says it; raises :class:`PipelineError`."""
    known: dict[str, Inputs] = {"raw": "raw", "features": "features", "either": "either"}
    if word not in known:
        raise PipelineError(f"--inputs {word}: is none of them: use {', '.join(known)}")
    return known[word]


class FeatureSettings(Frozen):
    """What features are computed from where raw rows are taken: the keyed state that `mlops features refresh` brings up to date."""

    state: str | None = Field(
        None,
        description="folder of the state, relative to the project, or postgresql://…, ${NAME} in it taken from the environment; "
        "default: the pipeline's",
    )
    state_file: str | None = Field(None, description="a file that holds PostgreSQL's address instead; relative to this file")
    name: str | None = Field(None, description="which of PostgreSQL's states; default: the pipeline's name, or the registered model's")
    max_age: PastSpan | None = Field(None, description="how old the state may be: 1d, 12h; default: any age")
    policy: Literal["warn", "null", "refuse"] = Field(
        "warn",
        description="with an older state: warn: answer and say so; null: what comes from it is null; refuse: 503 for raw rows",
    )

    @model_validator(mode="after")
    def _one_state(self) -> Self:
        if self.state is not None and self.state_file is not None:
            raise ValueError("give either features.state or features.state_file")
        return self


class Breaker(Frozen):
    """When a worker asks a challenger no more, by itself and at once."""

    in_a_row: int = Field(5, ge=1, description="so many requests in a row that the champion had to answer for it")
    last: int = Field(100, ge=1, description="or, of the last so many requests that were the challenger's")
    share: float = Field(0.1, gt=0, le=1, description="such a share")


class Shadow(Frozen):
    """What a challenger is asked behind answers that have gone out. What there is no room or time for is left out, and counted."""

    requests: int = Field(1000, ge=1, description="requests that may wait in one worker")
    max_mb: float = Field(16, gt=0, description="and their bodies' size")
    deadline_ms: int = Field(1000, ge=1, description="so long after its answer a request may still be asked")
    share: float = Field(0.1, gt=0, le=1, description="share of one core that a worker spends on it at most")


class Release(Frozen):
    """Releases that `mlops release` starts: which share of what is asked a challenger answers stands in their table."""

    enabled: bool = Field(True, description="false: the champion answers everything, whatever the table says; taken at SIGHUP")
    file: str = Field(
        "data/monitoring/releases.sqlite", description="the table, a SQLite file; relative to the project. No release is there without it"
    )
    uri: str | None = Field(
        None, description="postgresql://… instead of the file, for servers on several machines; ${NAME} in it is taken from the environment"
    )
    uri_file: str | None = Field(None, description="a file that holds this address, so that no password stands here; relative to this file")
    look_ms: int = Field(250, ge=10, le=10_000, description="between two looks at the table")
    patience: float = Field(
        0.1, gt=0, le=0.9, description="share of limits.deadline_ms that a challenger has; then the champion answers in its place"
    )
    breaker: Breaker = Breaker()
    shadow: Shadow = Shadow()
    header: bool = Field(False, description="answers name their arm in the header mlops-arm")

    @model_validator(mode="after")
    def _one_address(self) -> Self:
        check_one_address("release", self.uri, self.uri_file)
        return self

    def at(self, other: Release) -> Release:
        """These settings with the table where others have it."""
        return self.model_copy(update={name: getattr(other, name) for name in ("file", "uri", "uri_file", "look_ms")})


class Tls(Frozen):
    """Certificate and key, as PEM files beside this one; read again when they change."""

    certificate: str = Field(description="file (PEM) of the server's certificate, and of those between it and the root")
    key: str = Field(description="file (PEM) of its private key")
    client_ca: str | None = Field(
        None, description="only clients with a certificate that one of these signed are let in (mutual TLS), but for probe_port"
    )


class Log(Frozen):
    """Log lines on standard error."""

    requests: Literal["all", "errors", "none"] = Field("errors", description="of which requests a line is written")
    format: Literal["auto", "json", "text"] = Field("auto", description="auto: text on a terminal, else JSON")


class Serving(Frozen):
    """One server."""

    SECRET: ClassVar[tuple[str, ...]] = ("api_keys",)

    pipeline: str | None = Field(None, description="the pipeline's settings, relative to this file: registry and name come from there")
    models: dict[Name, str] = Field({"champion": "champion"}, min_length=1, description="name in the URL: alias, version or model folder")
    default: Name | None = Field(None, description="the model of the routes without a name; default: the first")
    host: str = Field(
        "127.0.0.1", description="the address to listen on; beyond loopback api_keys, tls.client_ca or anonymous has to say who may ask"
    )
    port: int = Field(8000, ge=0, le=65535, description="0: any that is free")
    probe_port: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="a port beside it that answers /live, /ready, /ping, /health and /metrics alone, for probes; no client certificate "
        "is asked for there (tls.client_ca), so keep it, and /metrics with it, within your network",
    )
    workers: int = Field(1, ge=1, le=256, description="processes that share the port")
    unseen_categories: Literal["reject", "pass"] = Field("pass", description="pass: predicted as an unknown category, and counted")
    inputs: Inputs = Field(
        "either",
        description="what rows hold where the model has a recipe: raw: the source's columns; features: the model's own; either: a row "
        "with all of the source's columns that the recipe needs is raw",
    )
    features: FeatureSettings = FeatureSettings()
    extra_columns: Literal["ignore", "refuse"] = Field(
        "ignore", description="columns of a request that are none of the model's; ignore: said in the answer's warnings, and counted"
    )
    registry: ServingRegistry = ServingRegistry()
    limits: Limits = Limits()
    batching: Batching = Batching()
    record: Record = Record()
    release: Release = Release()
    monitoring: str | None = Field(
        None,
        description="the watch's settings, relative to this file: they say where labels that come by HTTP are kept, and where its page is; "
        "default: monitoring_config.yaml beside this file, else the pipeline's usual place",
    )
    api_keys: dict[Name, Key] = Field(
        default_factory=dict, description="who may ask: name and the key's digest, or a mapping with its rights"
    )
    api_keys_file: str | None = Field(None, description="a YAML file with more of them, such as a mounted secret; relative to this file")
    anonymous: bool = Field(False, description="answer whoever can reach the address, with no key: only where a network keeps others out")
    allowed_hosts: tuple[Host, ...] = Field(
        (),
        description="names by which clients may ask, such as models.example.com or *.example.com; default: on a loopback address its own "
        "names alone, elsewhere all; probes answer under any, /metrics too on an address that is no loopback one",
    )
    allowed_origins: tuple[Origin, ...] = Field(
        (), description="sites whose pages may ask from a browser, such as https://app.example.com; default: the server's own"
    )
    open_metrics: bool = Field(False, description="with API keys: /metrics needs none")
    tls: Tls | None = None
    log: Log = Log()
    plugins: tuple[str, ...] = Field((), description="files and modules that declare parts, beside those of the pipeline's settings")
    drain_s: float = Field(0, ge=0, description="after SIGTERM: seconds of not being ready, while requests are still taken")
    stop_s: float = Field(20, gt=0, description="after that: seconds for requests under way")
    stuck_s: float = Field(
        10, gt=0, description="a worker whose loop does not turn for so long, while the server itself is not paused, is replaced"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.default is not None and self.default not in self.models:
            raise ValueError(f"default '{self.default}' is not among 'models': use one of {', '.join(self.models)}")
        if self.probe_port is not None and self.probe_port == self.port:
            raise ValueError(f"probe_port {self.probe_port} is the server's own port: take another, or leave it out")
        if self.anonymous and self.has_keys:
            raise ValueError("anonymous: true and API keys exclude each other: take one of them out")
        if problem := ambiguous(self.api_keys):
            raise ValueError(problem)
        if not (self.is_guarded or is_loopback(self.host)):
            raise ValueError(
                f"host '{self.host}' can be reached from other machines and no API key is set: make one with `mlops key` and put its "
                "digest under api_keys, or listen on 127.0.0.1, or say anonymous: true where a network keeps others out"
            )
        return self

    @property
    def has_keys(self) -> bool:
        """Whether an API key is asked for, even where the file of keys holds none at present."""
        return bool(self.api_keys) or self.api_keys_file is not None

    @property
    def is_guarded(self) -> bool:
        """Whether something else than the address keeps strangers out, or is said to."""
        return self.has_keys or self.anonymous or (self.tls is not None and self.tls.client_ca is not None)

    @property
    def default_model(self) -> str:
        """The model of the routes that name none."""
        return self.default or next(iter(self.models))


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    return host in {"localhost", "::1"} or bool(re.fullmatch(r"127(\.\d{1,3}){3}", host))


def load_serving(path: Path, *, running: bool = False, **changes: Any) -> Serving:
    """Read the server's YAML file; ``changes`` (from the command line) replace keys unless None.

    A server that is ``running`` may be left with no key at all; one that starts may not.
    Raises :class:`PipelineError` in one line that names the file, the key, the value and the remedy.
    """
    content = read_yaml(path, "start from configs/serving_config.yaml")
    if content.keys() & PIPELINE_KEYS and not content.keys() & {"pipeline", "models"}:
        content = {"pipeline": path.name}  # a pipeline's own settings: its champion is served, and all else is as usual
    refuse_another_kind(content, path, "a server's")
    if not isinstance(content.get("api_keys", {}), dict):
        raise PipelineError(f"{path}: api_keys: must be a mapping: write NAME: sha256:… below it, as `mlops key` prints it")
    given = {key: value for key, value in changes.items() if value is not None}
    settings = tree_of(Serving, {**content, **given}, str(path))
    if "models" not in given:
        models = {name: _beside(path, reference) for name, reference in settings.models.items()}
        settings = settings.model_copy(update={"models": models})
    settings = _with_secrets(settings, path)
    if settings.has_keys and not keys_of(settings, path) and not running:
        raise PipelineError(f"{path.parent / (settings.api_keys_file or '')}: holds no key: {KEYS_REMEDY}")
    for key, name in tls_settings(settings).items():
        if not (path.parent / name).is_file():
            raise PipelineError(f"{path}: {key} = '{name}': there is no such file beside it: give a PEM file")
    return settings


def keys_of(settings: Serving, path: Path) -> dict[str, Key]:
    """The keys in the settings, which lie at ``path``, and in the file that they name, as it is now.

    Raises :class:`PipelineError` in one line.
    """
    keys = settings.api_keys
    if settings.api_keys_file is not None:
        origin = str(path.parent / settings.api_keys_file)
        more = keys_in(text_beside(path, "api_keys_file", settings.api_keys_file, KEYS_REMEDY), origin)
        for name in sorted(more.keys() & keys.keys()):
            raise PipelineError(f"{path}: api_keys.{name}: stands in api_keys_file = '{settings.api_keys_file}' too: take one of them out")
        keys = {**keys, **more}
        if problem := ambiguous(keys):
            raise PipelineError(f"{path}: api_keys: {problem}")
    check_models(keys, settings.models, str(path))
    return keys


RELOADED = ("api_keys", "api_keys_file", "anonymous", "open_metrics", "limits", "release", "tls", "log")
"""What a running server takes from its settings when it is told to read them again (SIGHUP)."""


def reloaded(now: Serving, found: Serving, origin: str) -> tuple[Serving, list[str]]:
    """The settings of a running server with what it may take from those found, and the keys whose change has to wait for a restart.

    Raises :class:`PipelineError` where the two do not go together.
    """
    fields = [name for name in Serving.model_fields if getattr(now, name) != getattr(found, name)]
    moved = now.release.at(found.release) != now.release
    found = found.model_copy(update={"release": found.release.at(now.release)})
    # Whether a client is asked for its certificate is settled by what listens, as TLS itself is.
    listens = _certificates(now) != _certificates(found)
    taken = {name for name in fields if name in RELOADED and not (name == "tls" and listens)}
    mixed = {**now.model_dump(), **found.model_dump(include=taken)}
    return tree_of(Serving, mixed, origin), [name for name in fields if name not in taken or (name == "release" and moved)]


def _certificates(settings: Serving) -> tuple[bool, bool]:
    """Whether the server shows a certificate, and whether it asks for one."""
    tls = settings.tls
    return tls is not None, tls is not None and tls.client_ca is not None


def tls_settings(settings: Serving) -> dict[str, str]:
    """The files that TLS needs, by the key that names them; none without TLS."""
    named = settings.tls.model_dump(exclude_none=True) if settings.tls is not None else {}
    return {f"tls.{key}": name for key, name in named.items()}


def _with_secrets(settings: Serving, path: Path) -> Serving:
    """The settings with what lies in files of its own, so that it need not stand in this one."""
    for section, key, is_address, example in (
        ("record", "uri", scheme_of, "such as postgresql://…"),
        ("release", "uri", is_postgresql, "postgresql://…"),
        ("features", "state", scheme_of, "such as postgresql://…"),
    ):
        own, filed = getattr(settings, section), f"{key}_file"
        name = getattr(own, filed)
        if name is None:
            continue
        address = address_beside(path, f"{section}.{filed}", name, is_address, example)
        if section != "features":  # in whose file variables were always read
            address = taken_as_it_is(address)
        settings = settings.model_copy(update={section: own.model_copy(update={key: address, filed: None})})
    return settings


def _beside(path: Path, reference: str) -> str:
    """A model folder as the file that names it means it; anything else as it stands."""
    return str(path.resolve().parent / reference) if is_folder(reference) else reference


def only_model(reference: str | None) -> dict[str, Any]:
    """The keys that serve one model under a name made from its reference; none for None."""
    if reference is None:
        return {}
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", Path(reference).name).strip("-.") or "model"
    return {"models": {name: reference}, "default": name}


def serving_schema(path: Path | None = None) -> str:
    """The JSON schema that editors check the YAML file with, with the parts that the file at ``path``, if there is one, names."""
    if path is not None and path.is_file():
        content = read_yaml(path, "start from configs/serving_config.yaml")
        pipeline = path.parent / str(content.get("pipeline", ""))
        beside = read_yaml(pipeline, "start from `mlops init`").get("plugins") if pipeline.is_file() else ()
        named = [str(each) for given in (beside, content.get("plugins")) if isinstance(given, list) for each in given]
        plugins.use(plugins.NamedParts(project_of(pipeline if pipeline.is_file() else path), tuple(dict.fromkeys(named)), str(path)))
    schema = Serving.model_json_schema()
    schema["$defs"]["Key"] = {"anyOf": [{"type": "string", "pattern": f"^{DIGEST}$"}, schema["$defs"]["Key"]]}
    record, stores = schema["$defs"]["Record"], plugins.parts(plugins.Store)
    record["properties"]["store"]["anyOf"][0]["enum"] = list(stores)
    with_own = {name: part_schema(part, schema["$defs"]) for name, part in stores.items() if part.settings is not None}
    if with_own:
        record["allOf"] = [
            {"if": {"properties": {"store": {"const": name}}, "required": ["store"]}, "then": {"properties": {"settings": own}}}
            for name, own in with_own.items()
        ]
    return json.dumps(schema, indent=2)


def shown_serving(settings: Serving) -> dict[str, Any]:
    """Every setting as plain values, without the passwords that addresses may hold."""
    return dict(shown(settings.model_dump(mode="json")))


def is_folder(reference: str) -> bool:
    """Whether a reference is a folder's path: MLflow's aliases are made of letters, digits, ``_`` and ``-`` alone."""
    return re.fullmatch(r"[\w-]+", reference) is None
