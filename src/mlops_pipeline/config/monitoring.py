"""What the watching job is told: one YAML file, frozen and checked, every key of it with a default."""

from __future__ import annotations

import json
from collections.abc import Collection
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_origin

from pydantic import AwareDatetime, Field, model_validator

from mlops_pipeline import plugins
from mlops_pipeline.config.addresses import address_beside, check_one_address, filled, is_postgresql, taken_as_it_is
from mlops_pipeline.config.dataset import Share
from mlops_pipeline.config.pipeline import PastSpan, Then, part_schema
from mlops_pipeline.config.tree import Frozen, Name, read_yaml, refuse_another_kind, shown, text_beside, tree_of
from mlops_pipeline.errors import PipelineError, is_secret_name

Severity = Literal["info", "warning", "critical"]
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "critical")


class WatchStateSettings(Frozen):
    """Where windows, labels, alerts and what is to be delivered are kept."""

    file: str = Field("data/monitoring/state.sqlite", description="a SQLite file; relative to the pipeline's root")
    uri: str | None = Field(None, description="postgresql://… instead of the file; ${NAME} in it is taken from the environment")
    uri_file: str | None = Field(None, description="a file that holds this address, so that no password stands here; relative to this file")

    @model_validator(mode="after")
    def _one_address(self) -> Self:
        check_one_address("state", self.uri, self.uri_file)
        return self


class Windows(Frozen):
    """How the record is cut: by time or by count; each row is in one window."""

    every: PastSpan | None = Field(None, description="so long each: 1d, 12h, 1w, 1mo, in UTC; default: 1w, unless rows is given")
    rows: int | None = Field(None, ge=1, description="or so many predicted rows each")
    settle_s: float = Field(
        30, ge=0, description="what arrived in the last so many seconds may still be being written: it is left for later"
    )
    look_back: PastSpan = Field("2h", description="so long after it was counted, a window is measured again if rows of it are written late")
    probe: bool = Field(True, description="ask of each window with labels whether retraining would help")
    least_rows: int = Field(100, ge=1, description="a window of fewer rows raises nothing but what counts rows")
    slices: tuple[str, ...] | None = Field(None, description="columns by whose values quality is told; default: the pipeline's")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.every is not None and self.rows is not None:
            raise ValueError("give either windows.every or windows.rows")
        return self

    @property
    def span(self) -> str:
        """How long each is, where they are cut by time."""
        return self.every or "1w"


class Texts(Frozen):
    """From when on texts have drifted, in windows and in `mlops monitor report`; chance is ruled out besides."""

    distance: float = Field(0.1, ge=0, description="of mean embeddings, over the spread of the model's own texts")
    unseen_words: float = Field(0.02, ge=0, le=1, description="by how much the share of words that training had not must grow")
    embedded: int = Field(400, ge=30, description="texts of a column that are embedded: a pretrained encoder takes some ms for each")


class Labels(Frozen):
    """What came of the predictions, which is known later."""

    wait: PastSpan = Field("35d", description="labels that come later than this after their prediction count as late")
    look_back: PastSpan = Field("1y", description="windows that ended longer ago are not computed again, whatever label comes")
    least_share: Share = Field(0.0, description="rules look at quality and the probe from this share of labelled rows on")
    entity_within: PastSpan = Field("35d", description="by entity and time: how long before the label its prediction may lie")


FIGURES = (
    "rows", "requests", "refused", "labels", "quality", "estimated", "probe", "drift", "domain", "missing", "new_categories",
    "unseen_words", "embedding", "out_of_bounds", "calibration", "skew", "model", "versions", "release",
)  # fmt: skip
"""What the name of a window's figure begins with."""


class Rule(Frozen):
    """When a figure of a window is wrong. Exactly one of above, below, rises_by, falls_by and worsens_by is given."""

    figure: str = Field(description="a window's figure, such as quality.roc_auc; quality and estimated alone mean the pipeline's metric")
    above: float | None = Field(None, description="wrong where the figure is larger than this")
    below: float | None = Field(None, description="wrong where the figure is smaller than this")
    rises_by: float | None = Field(None, ge=0, description="wrong where it is larger by more than this than what it is held against")
    falls_by: float | None = Field(None, ge=0, description="wrong where it is smaller by more than this than what it is held against")
    worsens_by: float | None = Field(None, ge=0, description="falls_by or rises_by, as the metric is better high or low")
    relative: bool = Field(False, description="changes are shares of what they are changes of")
    against: Literal["reference"] | Annotated[int, Field(ge=1)] = Field(
        "reference", description="changes against the held-out rows' figure, or the mean of so many windows before"
    )
    surely: bool = Field(False, description="judge by the end of the figure's interval that is nearest to all being well, if it has one")
    and_surely: float | None = Field(None, description="with above or below: that end must be beyond this, too")
    windows: int = Field(1, ge=1, description="it has to be so in so many windows in a row that have the figure")
    severity: Severity = Field("warning", description="how bad it is, for whoever is told")
    owner: str = Field("", description="who is to look after it")
    runbook: str = Field("", description="a link: what to do about it")
    text: str = Field("", description="what to say of it, in your own words")
    channels: tuple[Name, ...] | None = Field(None, description="who is told; default: every channel")
    silent_until: AwareDatetime | None = Field(None, description="nobody is told before this moment; it is kept all the same")

    @model_validator(mode="after")
    def _one_condition(self) -> Self:
        given = [key for key in ("above", "below", "rises_by", "falls_by", "worsens_by") if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError("give exactly one of 'above', 'below', 'rises_by', 'falls_by' and 'worsens_by'")
        if self.and_surely is not None and self.above is None and self.below is None:
            raise ValueError("'and_surely' goes with 'above' or 'below'")
        if self.worsens_by is not None and self.figure.partition(".")[0] not in ("quality", "estimated"):
            raise ValueError(f"'worsens_by' is for a metric, and '{self.figure}' is none: write 'rises_by' or 'falls_by'")
        first = self.figure.partition(".")[0]
        if first not in FIGURES:
            close = get_close_matches(first, FIGURES, 1)
            remedy = f"did you mean '{close[0]}{self.figure[len(first) :]}'?" if close else f"they begin with {', '.join(FIGURES)}"
            raise ValueError(f"'{self.figure}' is no figure of a window, so it would never be wrong: {remedy}")
        return self


USUAL_RULES = {
    "quality_fell": Rule(figure="quality", worsens_by=0.04, relative=True, surely=True),
    "retraining_helps": Rule(figure="probe.gain.relative", above=0.01, severity="info"),
    "model_is_old": Rule(figure="model.age_days", above=180, severity="info"),
    "features_skew": Rule(figure="skew.share", above=0.05),
    "requests_refused": Rule(figure="refused.share", above=0.05),
    "no_requests": Rule(figure="rows", below=1),
}
"""Drift is none of them: on real tables it is nearly always there, and says little of quality."""


class ChannelSettings(Frozen):
    """One way to tell of alerts."""

    channel: Name | None = Field(None, description="the part; default: the one of this name; `mlops parts` lists them")
    least: Severity = Field("info", description="nothing less severe goes this way")
    settings: dict[str, Any] = Field(
        default_factory=dict, description="the part's own; KEY_file: a file, relative to this one, that holds the value of KEY"
    )


class Retraining(Frozen):
    """What may start a training, and how often. A version that it makes goes through the gate; drift alone starts nothing."""

    by: tuple[Name, ...] = Field(("retraining_helps", "model_is_old"), description="rules; any of them that is broken asks for a training")
    start: Literal["process", "prefect", "nothing"] = Field(
        "process", description="`mlops run --as-of END_OF_WINDOW`, an event for a Prefect automation, or only a word of it"
    )
    then: Then | None = Field(
        None,
        description="what a new version that passes the gate becomes: champion, challenger, or it waits for approval; "
        "default: as the pipeline's gate.then says",
    )
    see_until: Literal["window", "newest"] = Field("window", description="rows up to the window's end, or all")
    cool_down: PastSpan | None = Field(None, description="none within this time of the last")
    cool_down_windows: int = Field(1, ge=0, description="nor before so many windows have ended since")
    budget: int | None = Field(4, ge=0, description="at most so many within budget_per; null: no limit")
    budget_per: PastSpan = Field("30d", description="the span of time that budget is for")
    stopped: bool = Field(False, description="the stop switch of this file; `mlops monitor stop` is another")
    hours: float = Field(6, gt=0, description="one that takes longer has failed")
    prefect_url: str | None = Field(None, description="Prefect's API; default: PREFECT_API_URL of the environment")

    @model_validator(mode="after")
    def _who_says_then(self) -> Self:
        if self.then is not None and self.start == "prefect":
            raise ValueError("'then' goes with start: process; a flow of Prefect's does what gate.then of the pipeline's settings says")
        return self


class Monitoring(Frozen):
    """One pipeline's watch."""

    pipeline: str | None = Field(None, description="the pipeline's settings, relative to this file; default: this project's")
    serving: str | None = Field(None, description="the server's, whose record is watched; default: this project's")
    models: tuple[Name, ...] | None = Field(None, description="names in the URL that are watched; default: the server's default model")
    state: WatchStateSettings = WatchStateSettings()
    windows: Windows = Windows()
    texts: Texts = Texts()
    labels: Labels = Labels()
    rules: dict[Name, Rule] = Field(default_factory=lambda: dict(USUAL_RULES), description="by name; given, they replace the usual ones")
    channels: dict[Name, ChannelSettings] = Field(
        default_factory=lambda: {"log": ChannelSettings()}, description="by name; given, they replace the usual one, log"
    )
    retraining: Retraining = Retraining()
    plugins: tuple[str, ...] = Field((), description="files and modules that declare channels, beside those of the pipeline's settings")

    @model_validator(mode="after")
    def _known_names(self) -> Self:
        for name, rule in self.rules.items():
            unknown = [channel for channel in rule.channels or () if channel not in self.channels]
            if unknown:
                raise ValueError(f"rules.{name}.channels names '{unknown[0]}', which is not among 'channels'")
        given = "retraining" in self.model_fields_set and "by" in self.retraining.model_fields_set
        for name in self.retraining.by if given else ():
            if name not in self.rules:
                raise ValueError(f"retraining.by names '{name}', which is not among 'rules': use some of {', '.join(self.rules)}")
        return self


def load_monitoring(path: Path | None) -> Monitoring:
    """Read the file; None means every default. Secrets that lie in files or in the environment are put in their places.

    Raises :class:`PipelineError` in one line that names the file, the key, the value and the remedy.
    """
    if path is None:
        return Monitoring()
    content = read_yaml(path, "start from configs/monitoring_config.yaml")
    refuse_another_kind(content, path, "a watch's")
    settings = tree_of(Monitoring, content, str(path))
    if settings.state.uri_file is not None:
        uri = taken_as_it_is(address_beside(path, "state.uri_file", settings.state.uri_file, is_postgresql, "postgresql://…"))
        settings = settings.model_copy(update={"state": settings.state.model_copy(update={"uri": uri, "uri_file": None})})
    return settings


def channels_of(settings: Monitoring, path: Path | None) -> dict[str, tuple[plugins.Channel, list[Frozen], ChannelSettings]]:
    """Each channel's part and its own settings, checked, with what lies in files and in the environment.

    Raises :class:`PipelineError` in one line without a secret.
    """
    origin = str(path or "monitoring")
    made = {}
    for name, given in settings.channels.items():
        part = plugins.part(plugins.Channel, given.channel or name, f"{origin}: channels.{name}.channel")
        at = ("channels", name, "settings")
        own = {key: _from_environment(value, f"{origin}: {'.'.join((*at, key))}", key) for key, value in given.settings.items()}
        fields = getattr(part.settings, "model_fields", {})
        for key in [key for key in own if key.endswith("_file") and key not in fields and key.removesuffix("_file") in fields]:
            field, place, name_of_file = key.removesuffix("_file"), ".".join((*at, key)), str(own.pop(key))
            text = _filed(path or Path(), place, name_of_file)
            own[field] = _pairs(text, f"{origin}: {place} = '{name_of_file}'") if get_origin(fields[field].annotation) is dict else text
        tree = tree_of(part.settings or Frozen, own, origin, at)
        made[name] = (part, [] if part.settings is None else [tree], given)
    return made


def _from_environment(value: Any, key: str, own: str) -> Any:
    """A value in whose texts each ``${VARIABLE}`` is replaced by what the environment holds."""
    if isinstance(value, dict):
        return {name: _from_environment(each, f"{key}.{name}", own) for name, each in value.items()}
    if isinstance(value, list):
        return [_from_environment(each, f"{key}.{place}", own) for place, each in enumerate(value)]
    return filled(value, key, f"set it, or give {own}_file") if isinstance(value, str) else value


def _filed(path: Path, key: str, name: str) -> str:
    return text_beside(path, key, name, f"name a file that this user may read, relative to {path.name}").strip()


def _pairs(text: str, origin: str) -> dict[str, str]:
    """The mapping in a file of lines such as ``Authorization: Bearer …``; raises :class:`PipelineError` without showing one."""
    pairs = [line.partition(":") for line in text.splitlines() if line.strip()]
    if not all(name.strip() and colon for name, colon, _ in pairs):
        raise PipelineError(f"{origin}: has a line without a colon: write lines of NAME: VALUE")
    return {name.strip(): value.strip() for name, _, value in pairs}


def monitoring_schema() -> str:
    """The JSON schema that editors check the YAML file with."""
    schema = Monitoring.model_json_schema()
    channel, parts = schema["$defs"]["ChannelSettings"], plugins.parts(plugins.Channel)
    channel["properties"]["channel"]["anyOf"][0]["enum"] = list(parts)
    with_own = {name: _lenient(part_schema(part, schema["$defs"])) for name, part in parts.items() if part.settings is not None}
    channel["allOf"] = [
        {"if": {"properties": {"channel": {"const": name}}, "required": ["channel"]}, "then": {"properties": {"settings": own}}}
        for name, own in with_own.items()
    ]
    return json.dumps(schema, indent=2)


def _lenient(schema: dict[str, Any]) -> dict[str, Any]:
    """A channel's settings as they may stand in the file: each key too as ``KEY_file``."""
    filed = {f"{name}_file": {"type": "string", "description": f"a file that holds {name}"} for name in schema["properties"]}
    return {**{key: value for key, value in schema.items() if key != "required"}, "properties": {**schema["properties"], **filed}}


def shown_monitoring(settings: Monitoring) -> dict[str, Any]:
    """Every setting as plain values, without the secrets that channels may hold."""
    content = dict(shown(settings.model_dump(mode="json")))
    parts = plugins.parts(plugins.Channel)
    for name, channel in content["channels"].items():
        part = parts.get(channel["channel"] or name)
        channel["settings"] = _told(channel["settings"], getattr(part and part.settings, "SECRET", ()))
    return content


def _told(value: Any, secret: Collection[str] = ()) -> Any:
    """A channel's own settings, with a sign instead of each secret; the names of files are none."""
    if isinstance(value, list):
        return [_told(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {key: _hidden_whole(each) if key in secret or _may_be_secret(str(key)) else _told(each) for key, each in value.items()}


def _may_be_secret(key: str) -> bool:
    """Of a part that is not loaded here, or does not say which are secrets."""
    return not key.endswith("_file") and (is_secret_name(key) or any(word in key.lower() for word in ("url", "header")))


def _hidden_whole(value: Any) -> Any:
    return {name: _hidden_whole(each) for name, each in value.items()} if isinstance(value, dict) else "…"
