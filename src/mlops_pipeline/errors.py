"""The one error that a user is meant to read, and what no message shows."""

import re
from urllib.parse import unquote


class PipelineError(Exception):
    """Something the user can mend: its text is one line that names the file, the key, the value and the remedy.

    The command line prints it without a traceback and ends with exit code 2.
    """


class ServiceAway(PipelineError):
    """A server that does not answer now: trying again may help."""


_USER = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,40}):/{1,2}\S*@")
"""With one slash where an address was taken for a path."""
_PARAMETER = re.compile(r"([?&;])([^=&;?\s]+)=([^&;\s]+)")
_SPACED = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,40})://[^\s/?#@:\[]*:(?!\d{1,5}(?:[^\w@]|$))\S[^@\n]{0,200}@(?=\S)")
"""An address whose password has spaces; after a port there is none."""
_SPACED_DIGITS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,40})://(?!localhost:)[^\s/?#@:\[.]*:\d{1,5}(?:[ \t]+[^\s@]+){1,3}@(?=\S)")
"""One whose password begins like a port: a user has no dot, as most hosts have, and few words stand before the ``@``."""
_QUOTED = r"""'(?:\\.|[^'\\])*(?:'|$)|"(?:\\.|[^"\\])*(?:"|$)"""
_NAME = (
    r"(?<![\w-])(?:[\w-]*(?:password|passwd|passphrase|pwd|secret|token|signature|(?:api|access|account|private|secret)[_-]?key)"
    r"|(?:[\w-]*[_-])?pass)"
)
_ASSIGNED = re.compile(rf"({_NAME}[ \t]*=(?!=)[ \t]*)(?!…)(?:{_QUOTED}|\{{[^}}]*(?:\}}|$)|(?:\\.|[^&;\s])+)", re.IGNORECASE)
_MAPPED = re.compile(rf"""((["']){_NAME}\2[ \t]*:[ \t]*)(?:{_QUOTED})""", re.IGNORECASE)
_HEADER = re.compile(
    r"""(\bauthorization["']?[ \t]*[:=][ \t]*["']?)(?!…)"""
    r"""(?:digest[ \t].*|(?:(?:basic|bearer|token|negotiate|apikey)[ \t]+)?[^\s"',;)]+)""",
    re.IGNORECASE,
)
_SECRET_WORDS = ("pass", "pwd", "secret", "token", "sig", "key", "credential", "auth")

LONGEST = 20_000
"""Letters of another's message that are looked at."""


def is_secret_name(name: str) -> bool:
    """Whether a parameter is called like one whose value is secret."""
    return any(word in name.lower() for word in _SECRET_WORDS)


def without_secrets(text: str) -> str:
    """A message without the users, passwords and tokens in it, of addresses and of assignments; a quoted one is hidden whole."""

    def parameter(found: re.Match[str]) -> str:
        return f"{found[1]}{found[2]}=…" if is_secret_name(unquote(found[2])) else found[0]

    for secret in (_SPACED, _SPACED_DIGITS, _USER):
        text = secret.sub(r"\1://…@", text)
    for secret in (_HEADER, _ASSIGNED, _MAPPED):
        text = secret.sub(r"\1…", text)
    return _PARAMETER.sub(parameter, text)


def one_line(error: object, limit: int = 200) -> str:
    """What another library says, folded into part of one line, without the users, passwords and tokens in it."""
    said = " ".join(str(error)[:LONGEST].split())
    text = re.sub(r"://\S*@", "://…@", without_secrets(said))
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def first_sentences(error: object, limit: int = 300) -> str:
    """As much of what another library says as are whole sentences within a limit; one that is longer is cut with a sign."""
    text = one_line(error, 10_000)
    if len(text) <= limit:
        return text
    end = text.rfind(". ", 0, limit)
    return text[: end + 1] if end > 0 else one_line(text, limit)
