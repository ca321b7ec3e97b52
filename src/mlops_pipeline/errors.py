"""The one error that a user is meant to read."""

import re


class PipelineError(Exception):
    """Something the user can mend: its text is one line that names the file, the key, the value and the remedy.

    The command line prints it without a traceback and ends with exit code 2.
    """


class ServiceAway(PipelineError):
    """A server that does not answer now: trying again may help."""


def one_line(error: object, limit: int = 200) -> str:
    """What another library says, folded into part of one line, without the passwords of the addresses in it."""
    text = re.sub(r"://\S*@", "://…@", " ".join(str(error).split()))
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def first_sentences(error: object, limit: int = 300) -> str:
    """As much of what another library says as are whole sentences within a limit; one that is longer is cut with a sign."""
    text = one_line(error, 10_000)
    if len(text) <= limit:
        return text
    end = text.rfind(". ", 0, limit)
    return text[: end + 1] if end > 0 else one_line(text, limit)
