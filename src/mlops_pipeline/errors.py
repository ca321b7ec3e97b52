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
    return re.sub(r"://\S*@", "://…@", " ".join(str(error).split()))[:limit]
