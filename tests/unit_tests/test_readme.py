"""The README in two languages says the same: its commands, its figures, its pictures and its links."""

from __future__ import annotations

import re
from calendar import month_name
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

ENGLISH, CHINESE = REPOSITORY / "README.md", REPOSITORY / "README.zh-CN.md"


def sections(path: Path) -> list[str]:
    """The text under each heading of the second level, the head first; without the line that leads to the other language."""
    text = re.sub(r"^\[English\].*\n|^English · .*\n", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return re.split(r"^## .*$", text, flags=re.MULTILINE)


def commands(section: str) -> list[str]:
    """Lines of code blocks without their comments."""
    fenced = re.findall(r"^```\w*\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    indented = re.findall(r"^    (.+)$", re.sub(r"^```.*?^```", "", section, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    lines = [line for block in fenced for line in block.splitlines()] + indented
    return [re.sub(r"\s+#.*", "", line) for line in lines]


def prose(section: str) -> str:
    return re.sub(r"^    [^\n]*$|^```.*?^```", "", section, flags=re.MULTILINE | re.DOTALL)


def spans(section: str) -> Counter[str]:
    """What stands in code font."""
    return Counter(re.findall(r"`([^`\n]+(?:\n[^`\n]+)?)`", prose(section)))


MONTHS = {name: f"{number} 月" for number, name in enumerate(month_name) if name not in {"", "May"}}


def figures(section: str) -> Counter[str]:
    """Every number outside of code, as it is written; months have names in English and numbers in Chinese."""
    text = re.sub(r"`[^`]+`", "", prose(section))
    text = re.sub(rf"\b({'|'.join(MONTHS)})\b", lambda found: MONTHS[found[0]], text)
    return Counter(re.findall(r"\d[\d,.]*\d|\d+ 月|\d", text))


def tables(section: str) -> list[int]:
    """How many cells each line of a table has, line by line."""
    return [line.count("|") for line in prose(section).splitlines() if line.startswith("|")]


def references(section: str) -> list[str]:
    """Where pictures and links lead."""
    return sorted(re.findall(r"\]\(([^)]+)\)", section))


PAIRS = list(zip(sections(ENGLISH), sections(CHINESE), strict=False))


def test_both_have_the_same_sections() -> None:
    assert len(sections(ENGLISH)) == len(sections(CHINESE))


@pytest.mark.parametrize("part", [commands, spans, figures, references, tables])
@pytest.mark.parametrize("number", range(len(PAIRS)))
def test_both_say_the_same(part: object, number: int) -> None:
    english, chinese = PAIRS[number]
    assert callable(part)
    assert part(english) == part(chinese)


def test_each_leads_to_the_other_and_their_links_to_what_is_there() -> None:
    for path, other in ((ENGLISH, CHINESE), (CHINESE, ENGLISH)):
        text = path.read_text(encoding="utf-8")
        assert f"]({other.name})" in text
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            assert target.startswith("http") or (REPOSITORY / target).exists(), target
