"""Resolve ``pyproject.toml`` into a lock that every pip can install: python cicd/lock.py FILE [uv pip compile's options].

A package that is wanted with an extra stands in the lock twice, bare and with the extra. uv names it once, bare, which is all that
uv and pip from 23.3 on need; older ones, such as Python 3.11's own, look for ``pandas[parquet]`` among all versions and then
find it without a hash.
"""

import re
import subprocess
import sys
from pathlib import Path

OPTIONS = ["--quiet", "--universal", "--python-version", "3.11", "--generate-hashes", "--no-annotate", "--no-header"]


def blocks(text: str) -> dict[str, str]:
    """The requirements of a lock, each with its hashes, by what stands before ``==`` and by its marker."""
    found = re.split(r"\n(?=[A-Za-z0-9])", text.strip())
    return {re.split(r" *\\\n", block, maxsplit=1)[0]: block for block in found}


def resolved(words: list[str], output: Path | None = None) -> dict[str, str]:
    """What uv resolves; with a file, moving no version in it that need not move."""
    to = ["--output-file", str(output)] if output else []
    said = subprocess.run(["uv", "pip", "compile", *OPTIONS, *words, *to], stdout=subprocess.PIPE, text=True, check=True).stdout
    return blocks(output.read_text(encoding="utf-8") if output else said)


def main(output: Path, options: list[str]) -> None:
    """Write the lock."""
    bare = resolved(options, output)
    settled = [word for word in options if word != "--upgrade"]
    extras = resolved([*settled, "--no-strip-extras", "--constraint", str(output)])
    both = bare | {line: block for line, block in extras.items() if "[" in line.split("==")[0]}
    output.write_text("".join(f"{both[line]}\n" for line in sorted(both)), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("error: cicd/lock.py: say which file to write, and what to resolve: python cicd/lock.py requirements.txt pyproject.toml")
    main(Path(sys.argv[1]), sys.argv[2:])
