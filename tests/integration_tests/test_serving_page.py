"""The server's pages in a real browser: what is served, the form, the problems, the API; nothing from elsewhere."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from mlops_pipeline.inference.faults import REASONS
from tests.conftest import Project
from tests.integration_tests.conftest import serving
from tests.unit_tests.workshop import digest_of

if TYPE_CHECKING:
    from tests.integration_tests.conftest import Server

KEY = "a key of the tests"


@pytest.fixture
def page(browser: Browser, served: Server) -> Iterator[Page]:
    """A tab that fails the test at its end if a script failed, the policy forbade something, or a request left the server."""
    yield from watched(browser, served.url)


def watched(browser: Browser, origin: str) -> Iterator[Page]:
    errors: list[str] = []
    addresses: list[str] = []

    def said(message: ConsoleMessage) -> None:
        # Chromium notes every answer of 400 and above; those are part of what is tested here.
        if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource: the server responded"):
            errors.append(message.text)

    tab = browser.new_page()
    tab.set_default_timeout(60_000)
    tab.on("console", said)
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("request", lambda request: addresses.append(request.url))
    yield tab
    tab.close()
    assert not errors
    assert [address for address in addresses if not address.startswith((f"{origin}/", "data:"))] == []


def test_the_page_shows_what_is_served(page: Page, served: Server) -> None:
    page.goto(served.url)
    model = requests.get(f"{served.url}/status", timeout=120).json()["models"]["champion"]
    expect(page.get_by_role("heading", level=1)).to_have_text(f"small, version {model['version']}")
    expect(page).to_have_title(f"small, version {model['version']} – mlops serve")
    for column in model["columns"]:
        expect(page.locator("#columns").get_by_role("row").filter(has=page.get_by_text(column["name"], exact=True))).to_contain_text(
            column["kind"]
        )
    expect(page.locator("#gate li")).to_have_count(len(model["gate"]))
    expect(page.locator("#metrics tr")).to_have_count(len(model["metrics"]))
    expect(page.locator("#facts")).to_contain_text(model["content_sha256"][:12])


def test_the_page_counts_what_is_asked_while_it_is_open(page: Page, served: Server) -> None:
    page.goto(served.url)
    expect(page.locator("#record")).to_have_text("relaxed")
    before = page.locator("#rows").inner_text()
    assert requests.post(f"{served.url}/predict", json={"records": [served.example] * 7}, timeout=120).ok
    expect(page.locator("#rows")).to_have_text(str(int(before) + 7))
    expect(page.locator("#p50")).to_have_text(re.compile(r"m?s$"))
    expect(page.locator("#spark .over")).to_have_attribute("d", re.compile(r"^M[\d.]+ [\d.]+"))


def test_the_form_predicts_the_example_as_the_model_does(page: Page, served: Server) -> None:
    page.goto(served.url)
    page.get_by_role("button", name="Predict").click()
    answer = page.locator("#answer")
    expect(answer).to_contain_text("version 1")
    best = max(served.expected)
    expect(answer.locator(".bars")).to_contain_text(f"{100 * best:.1f} %")


def test_a_refused_value_is_marked_at_its_column(page: Page, served: Server) -> None:
    page.goto(served.url)
    weight = page.get_by_label("weight", exact=True)
    weight.fill("-5")
    page.get_by_label("kind", exact=True).fill("")
    page.get_by_role("button", name="Predict").click()
    expect(weight).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#fields > div").filter(has=weight)).to_contain_text("-5")
    page.get_by_role("link", name="What to do").click()
    expect(page.locator(":target")).to_contain_text("What to do.")
    page.go_back()
    page.get_by_role("button", name="Predict").click()
    expect(page.get_by_label("weight", exact=True)).not_to_have_attribute("aria-invalid", "true")
    expect(page.locator("#answer .said")).to_be_visible()


def test_the_page_of_the_api_shows_every_route_and_every_problem(page: Page, served: Server) -> None:
    page.goto(f"{served.url}/docs")
    paths = requests.get(f"{served.url}/openapi.json", timeout=120).json()["paths"]
    expect(page.locator("details")).to_have_count(sum(map(len, paths.values())))
    for route in page.locator("details").all():
        if route.get_attribute("open") is None:
            route.locator("summary").click()
        expect(route.get_by_role("heading", name="Answers")).to_be_visible()
    for name in served.example:
        expect(page.locator("details#predict").get_by_role("rowheader", name=name, exact=True)).to_be_visible()
    for reason in REASONS:
        expect(page.locator(f"section#{reason}")).to_be_visible()


def test_the_example_of_the_api_page_can_be_copied_and_works(page: Page, served: Server) -> None:
    page.clock.install(time=0)
    page.goto(f"{served.url}/docs")
    page.clock.pause_at(3_600_000)
    example = page.locator("details#predict .sample").first
    example.get_by_role("button").click()
    expect(example.get_by_role("button")).to_have_text("Copied")
    page.clock.run_for(2000)
    expect(example.get_by_role("button")).to_have_text("Copy")
    done = subprocess.run(["sh", "-c", example.locator("pre").inner_text()], capture_output=True, text=True, timeout=300, check=True)
    assert json.loads(done.stdout)["predictions"][0]["id"] == "a"


def test_a_page_fits_a_telephone(browser: Browser, served: Server) -> None:
    with browser.new_context(viewport={"width": 360, "height": 740}) as context:
        for path in ("/", "/docs"):
            tab = context.new_page()
            tab.goto(served.url + path)
            expect(tab.locator("#fields input, details[open] table").first).to_be_visible()
            assert tab.evaluate("document.documentElement.scrollWidth") <= 360


def test_with_keys_the_pages_ask_for_one(browser: Browser, registered: Project, tmp_path: Path) -> None:
    with serving(registered, tmp_path, api_keys={"tests": digest_of(KEY)}) as locked:
        for tab in watched(browser, locked.url):
            tab.goto(locked.url)
            for key in ("a wrong one", KEY):
                tab.get_by_label("This server asks for an API key").fill(key)
                tab.get_by_role("button", name="Use the key").click()
                if key != KEY:
                    expect(tab.get_by_role("alert")).to_contain_text("does not know this key")
            tab.get_by_role("button", name="Predict").click()
            expect(tab.locator("#answer .said")).to_be_visible()
            tab.goto(f"{locked.url}/docs")
            expect(tab.locator("details[open]")).to_contain_text("Needs an API key")


@pytest.mark.parametrize(("passed", "head"), [(True, "Why it was let through the gate"), (False, "What the gate said")])
def test_no_version_that_the_gate_turned_down_is_called_let_through(browser: Browser, served: Server, passed: bool, head: str) -> None:
    """A person can have it served all the same."""
    status = requests.get(f"{served.url}/status", timeout=120).json()
    status["models"]["champion"]["gate"] = [{"name": "baseline", "passed": passed, "text": "better than the dummy baseline"}]
    for tab in watched(browser, served.url):
        tab.route("**/status", lambda route: route.fulfill(json=status))
        tab.goto(served.url)
        expect(tab.locator("#gate li")).to_have_count(1)
        expect(tab.locator("#gate-head")).to_have_text(head)


def test_a_form_of_many_columns_is_folded_and_a_name_finds_one(browser: Browser, served: Server) -> None:
    """The page with the server's own answer, widened: no model of 130 columns need be trained for it."""
    status = requests.get(f"{served.url}/status", timeout=120).json()
    model = status["models"]["champion"]
    kept = {"kind": "number", "min": None, "max": None, "nullable": True, "private": False, "categories": None}
    names = [f"sensor {k:03d}" for k in range(127)] + ["<script>alert(1)</script>", "a\u202eb\0", "x" * 500]
    model["columns"] = [{"name": name, **kept} for name in names]
    fault = {"row": 0, "column": "sensor 050", "reason": "null", "detail": "row 0, is null"}
    model["important"] = ["sensor 120", "sensor 007"]
    for tab in watched(browser, served.url):
        tab.route("**/status", lambda route: route.fulfill(json=status))
        tab.goto(served.url)
        expect(tab.locator("#fields label")).to_have_count(24)
        expect(tab.locator("#fields label").first).to_have_text("sensor 120")
        expect(tab.locator("#more-count")).to_have_text(re.compile("^106 more columns"))
        expect(tab.get_by_label("sensor 099", exact=True)).to_be_hidden()
        tab.get_by_label("Find a column").fill("099")
        expect(tab.get_by_label("sensor 099", exact=True)).to_be_visible()
        expect(tab.locator("#found")).to_have_text("1 of 130 columns")
        tab.route("**/predict", lambda route: route.fulfill(status=422, json={"title": "Invalid input", "errors": [fault]}))
        tab.get_by_role("button", name="Predict").click()
        expect(tab.get_by_label("sensor 050", exact=True)).to_be_focused()
        expect(tab.get_by_label("Find a column")).to_have_value("")
        expect(tab.locator("#ask label").filter(has_text="<script>alert(1)</script>")).to_have_count(1)
        expect(tab.locator("#ask label").filter(has_text="a\ufffdb␀")).to_have_count(1)
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
