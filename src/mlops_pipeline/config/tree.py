"""Any settings tree: a frozen model of Pydantic's, read from a YAML file; what is wrong is told in one line."""

import difflib
import json
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mlops_pipeline.errors import PipelineError, one_line, without_secrets

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"


Name = Annotated[str, Field(pattern=NAME_PATTERN)]

MOST_REPEATED = 100_000
"""Values that aliases of a YAML file may add to those that are written in it."""
DEEPEST = 100
"""How deep it may be nested: whatever goes through settings calls itself for each level."""


class Frozen(BaseModel):
    """Base of every settings class: unknown keys are refused and nothing changes after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, allow_inf_nan=False)

    SECRET: ClassVar[tuple[str, ...]] = ()
    """Keys whose values no message shows."""


Tree = TypeVar("Tree", bound=Frozen)

Kind = Literal["a pipeline's", "a server's", "a watch's", "a release's", "a test's"]
KINDS: dict[Kind, frozenset[str]] = {
    "a pipeline's": frozenset({"dataset", "train"}),
    "a server's": frozenset({"record", "port", "workers", "limits", "api_keys", "tls"}),
    "a watch's": frozenset({"windows", "rules", "channels", "retraining"}),
    "a release's": frozenset({"policy", "auto", "lease_s", "look_s"}),
    "a test's": frozenset({"arms", "metrics"}),
}
"""Keys that files of no other kind have."""


def read_yaml(path: Path, remedy: str) -> dict[str, Any]:
    """The mapping that a YAML file holds; raises :class:`PipelineError` in one line."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise PipelineError(f"{path}: cannot be read ({error.strerror}): name an existing file with --config") from error
    except UnicodeDecodeError as error:
        raise PipelineError(f"{path}: is not valid YAML: {error.reason} at byte {error.start}: save it as UTF-8") from error
    return mapping_of(text, str(path), remedy)


def refuse_another_kind(content: dict[str, Any], path: Path, own: Kind) -> None:
    """Raise :class:`PipelineError` for settings of another kind, which would be told key by key to remove what they hold."""
    kind = next((kind for kind, keys in KINDS.items() if kind != own and content.keys() & keys), own)
    if kind != own and not content.keys() & KINDS[own]:
        raise PipelineError(f"{path}: holds {kind} settings, not {own}: name {own} file with --config, or leave it out for this project's")


def in_yaml(name: str) -> str:
    """A list of one name as a line of YAML that somebody is told to write: in quotes where YAML would read another thing."""
    # A dumper would do what other libraries have told PyYAML.
    is_plain = re.fullmatch(r"\w+([ -]\w+)*", name) and yaml.load(name, Loader=yaml.CSafeLoader) == name
    return f"[{name}]" if is_plain else f"[{json.dumps(name, ensure_ascii=False)}]"


def text_beside(path: Path, key: str, name: str, remedy: str) -> str:
    """The text of a file that the settings at ``path`` name under a key; raises :class:`PipelineError` in one line."""
    try:
        return (path.parent / name).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise PipelineError(f"{path}: {key} = '{name}': there is no such file: {remedy}") from error
    except OSError as error:
        raise PipelineError(f"{path}: {key} = '{name}': {error.strerror}: make it a file that this user may read") from error
    except UnicodeDecodeError as error:
        raise PipelineError(f"{path}: {key} = '{name}': is no UTF-8 text: {remedy}") from error


def mapping_of(text: str, origin: str, remedy: str) -> dict[str, Any]:
    """The mapping that YAML text holds; raises :class:`PipelineError` in one line that names ``origin``."""
    try:
        content = yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506  # a safe loader, with one check more
    except yaml.YAMLError as error:
        raise PipelineError(f"{origin}: is not valid YAML: {_of_yaml(error, text)}") from error
    if not isinstance(content, dict):
        raise PipelineError(f"{origin}: holds no mapping: {remedy}")
    return content


def _of_yaml(error: yaml.YAMLError, text: str) -> str:
    """What is wrong with a YAML text, and where."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return one_line(error)
    mark = error.problem_mark
    line = text.splitlines()[mark.line : mark.line + 1]
    tab = ": indent it by blanks, not by a tab" if line and "\t" in line[0][: len(line[0]) - len(line[0].lstrip())] else ""
    problem = one_line(" ".join(filter(None, (error.context, error.problem))))
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}{tab}"


def tree_of(tree: type[Tree], content: dict[str, Any], origin: str, at: tuple[str, ...] = ()) -> Tree:
    """Build any settings tree from a mapping, which stands ``at`` some key; raises :class:`PipelineError` in one line."""
    try:
        return tree.model_validate(content)
    except ValidationError as error:
        raise PipelineError(_one_line(error, origin, tree, at)) from error


def hidden(address: str) -> str:
    """An address without its user, password and tokens, whatever signs they are made of."""
    head, at, tail = address.rpartition("@")
    return without_secrets(f"{head.split('://')[0]}://…@{tail}" if at and "://" in head else address)


def shown(value: Any) -> Any:
    """A plain value, such as a settings tree's, with every text in it :func:`hidden`."""
    if isinstance(value, dict):
        return {key: shown(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shown(item) for item in value]
    return hidden(value) if isinstance(value, str) else value


class BoundedLoader(yaml.CSafeLoader):
    """PyYAML's safe loader, which refuses what comes to no end, or to none soon, by aliases or depth, as any other mistake in a file."""

    def construct_document(self, node: yaml.Node) -> Any:
        _check_size(node)
        return super().construct_document(node)


class _UniqueKeyLoader(BoundedLoader):
    """Refuses a key given twice, which YAML would silently settle for the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue  # the keys of another mapping, which its own ones go before
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a word", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key}' is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _check_size(root: yaml.Node) -> None:
    """Refuse what holds itself, is read as millions of values or nested without end; each node is looked at once, whatever repeats it."""
    values: dict[int, int] = {}  # as how many each node is read, itself among them
    depths: dict[int, int] = {}
    above: set[int] = set()
    waiting = [(root, False)]
    while waiting:
        node, is_done = waiting.pop()
        key, within = id(node), _within(node)
        if is_done:
            above.discard(key)
            values[key] = 1 + sum(values[id(each)] for each in within)
            depths[key] = 1 + max((depths[id(each)] for each in within), default=0)
            if depths[key] > DEEPEST:
                what = f"it is nested more than {DEEPEST} deep: write it flatter"
                raise yaml.constructor.ConstructorError(None, None, what, node.start_mark)
            # No fewer have been looked at than a file without aliases has within this node.
            if values[key] > len(values) + MOST_REPEATED:
                what = f"its aliases (*NAME) make more than {MOST_REPEATED:,} values of it: write out those that are meant"
                raise yaml.constructor.ConstructorError(None, None, what, node.start_mark)
        elif key in above:
            what = "something in it holds itself: take the alias (*NAME) out of what it names (&NAME)"
            raise yaml.constructor.ConstructorError(None, None, what, node.start_mark)
        elif key not in values:
            above.add(key)
            waiting += [(node, True), *((each, False) for each in within)]


def _within(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _one_line(error: ValidationError, origin: str, tree: type[Frozen], at: tuple[str, ...]) -> str:
    # A misspelt key is also a missing one: the misspelling is what the user wants to hear of.
    problems = sorted(error.errors(include_url=False), key=lambda problem: problem["type"] != "extra_forbidden")
    first = problems[0]
    if first["loc"][-1:] == ("[key]",) and first["type"] == "string_type":
        where, what = _key({"loc": first["loc"][:-2]}, at), _unquoted(first) or "put it in quotes: a key is text"
        return f"{origin}: {where}: the key {first['input']}: {what}"
    key = _key(first, at)
    value = first["input"]
    # What stands under an unknown key may be meant for a secret one.
    untold = first["type"] in ("missing", "extra_forbidden") or first["loc"][:1] in [(key,) for key in tree.SECRET]
    tellable = isinstance(value, str | int | float | bool | None) and not untold
    shown = f" = {(hidden(value) if isinstance(value, str) else value)!r}" if tellable else ""
    if first["type"] == "extra_forbidden":
        close = difflib.get_close_matches(str(first["loc"][-1]), _known_keys(tree, first["loc"][:-1]), n=1)
        what = f"unknown key: {f'did you mean {close[0]!r}?' if close else 'remove it'}"
    elif first["type"] == "missing":
        missing = [_key(each, at) for each in problems if each["type"] == "missing"]
        key = ", ".join(missing)
        problems = [first, *(each for each in problems if each["type"] != "missing")]
        what = "is missing: add it" if len(missing) == 1 else "are missing: add them"
    else:
        what = _unquoted(first) or _remedy(first["type"], first.get("ctx", {})) or first["msg"].removeprefix("Value error, ")
    if first["type"] in ("missing", "model_type") and len(first["loc"]) == 1 and _has_defaults(tree, str(first["loc"][0])):
        what += " (an empty mapping {} takes every default)"
    others = list(dict.fromkeys(_key(each, at) for each in problems[1:]))
    more = f" (see to {', '.join(others)} too)" if others else ""
    return f"{origin}: {key}{shown}: {what}{more}"


def _key(problem: Any, at: tuple[str, ...]) -> str:
    return ".".join(str(part) for part in (*at, *problem["loc"])) or "(whole file)"


def _unquoted(problem: Any) -> str | None:
    """What to do about a word that YAML has taken for a truth, where text is asked for."""
    if problem["type"] == "string_type" and isinstance(problem["input"], bool):
        return "put it in quotes: YAML takes yes, no, on and off for true and false"
    return None


def _remedy(kind: str, given: dict[str, Any]) -> str | None:
    """What to write instead, for the commonest of pydantic's error types."""
    told = {
        "less_than": "give a number below {lt}",
        "less_than_equal": "give a number of at most {le}",
        "greater_than": "give a number above {gt}",
        "greater_than_equal": "give a number of at least {ge}",
        "finite_number": "give a finite number",
        "int_parsing": "give a whole number",
        "int_type": "give a whole number",
        "int_from_float": "give a whole number",
        "float_parsing": "give a number",
        "float_type": "give a number",
        "bool_parsing": "give true or false",
        "bool_type": "give true or false",
        "string_type": "give text, a number in quotes",
        "literal_error": "give one of {expected}",
        "list_type": "give a list: [A, B]",
        "tuple_type": "give a list: [A, B]",
        "dict_type": "give a mapping: KEY: VALUE, indented below it",
        "model_type": "give a mapping: KEY: VALUE, indented below it",
        "too_short": "name at least {min_length}",
    }
    if kind == "string_pattern_mismatch" and given["pattern"] == NAME_PATTERN:
        return "use letters, digits, '.', '_' and '-', a letter or digit first"
    return told[kind].format_map(given) if kind in told else None


def _known_keys(tree: type[Frozen], location: tuple[int | str, ...]) -> list[str]:
    model: Any = tree
    for part in location:
        field = next((f for n, f in model.model_fields.items() if part in (n, f.alias)), None) if _is_model(model) else None
        model = field.annotation if field else model
        arguments = getattr(model, "__args__", ())
        model = next((a for a in arguments if _is_model(a)), model)
    return [f.alias or n for n, f in model.model_fields.items()] if _is_model(model) else []


def _has_defaults(tree: type[Frozen], name: str) -> bool:
    """Whether a section takes every default when it is given empty."""
    field = next((f for n, f in tree.model_fields.items() if name in (n, f.alias)), None)
    section: Any = field.annotation if field else None
    return _is_model(section) and not any(f.is_required() for f in section.model_fields.values())


def _is_model(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, BaseModel)
