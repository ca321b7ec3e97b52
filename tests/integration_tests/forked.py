"""A process that has imported what a run of the pipeline needs, and forks for each program it is given: imports are half of a small run.

It is run as a program, `python forked.py MODULE …`; each line of its input is a program, each line it prints an exit code.
"""

from __future__ import annotations

import importlib
import json
import os
import sys


def become(program: dict[str, str | list[str]]) -> None:
    """What a fresh Python does with `-c`: the program's folder, arguments and output, and its text run as the main module."""
    output = os.open(str(program["output"]), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(str(program["folder"]))
    sys.argv = ["-c", *program["arguments"]]
    exec(compile(str(program["text"]), "-c", "exec"), {"__name__": "__main__"})  # noqa: S102 - the text is the test's own


def main() -> None:
    for module in sys.argv[1:]:
        importlib.import_module(module)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            become(json.loads(line))
            return
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
