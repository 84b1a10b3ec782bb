"""What is said to those who carry on holds: files, commands, layers, codes."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from graphtool.cli._arguments import parse
from graphtool.cli._explain import all_docs
from tests.guides.markdown import Guide

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_ROOT = Path(__file__).parents[2]
_GITHUB = _ROOT / ".github"
_PAGES = sorted(_GITHUB.glob("*.md"))
_FORMS = sorted((_GITHUB / "ISSUE_TEMPLATE").glob("*.yml"))
_CONTRIBUTING = _GITHUB / "CONTRIBUTING.md"


def loaded(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", _PAGES, ids=lambda path: path.name)
def test_what_a_page_names_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    modules = re.findall(r"python -m (tests[.\w]*)", text)
    paths = re.findall(r"`((?:graphtool|tests|examples|\.ci)/[\w/.-]+)`", text)

    assert Guide(page).broken_links == []
    assert [
        one
        for one in modules
        if not _ROOT.joinpath(*one.split(".")).exists()
        and not _ROOT.joinpath(*one.split(".")).with_suffix(".py").exists()
    ] == []
    assert [one for one in paths if "NAME" not in one and not (_ROOT / one).exists()] == []
    assert set(re.findall(r"GT\d{3}", text)) <= all_docs().keys()


def test_it_is_set_up_as_readme_and_ci_do() -> None:
    said, readme = _CONTRIBUTING.read_text(encoding="utf-8"), Guide(_ROOT / "README.md")
    set_up = [line.replace(" --quiet", "") for line in readme.blocks[1].text.splitlines()]

    assert [line for line in set_up if " install " in line and line not in said] == []
    run = (_ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for tool in re.findall(r"^\.venv/bin/((?!python).*)$", run, re.MULTILINE):
        assert f".venv/bin/{tool}" in said


def test_tests_are_chosen_by_the_same_marks_everywhere() -> None:
    pyproject = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    options = pyproject["tool"]["pytest"]["ini_options"]
    run = (_ROOT / ".ci" / "run").read_text(encoding="utf-8")
    said = _CONTRIBUTING.read_text(encoding="utf-8")
    *_, typed = Guide(_ROOT / "README.md").blocks[1].text.splitlines()

    assert options["addopts"][-2:] == ["-m", "not slow and not nightly"]
    assert typed == '.venv/bin/python -m pytest -m "not nightly"'
    assert typed in said
    marks = {mark.partition(":")[0] for mark in options["markers"]}
    chosen = re.findall(r'pytest -m "?([a-z ]+)', f"{run}{said}{typed}")
    assert {word for one in chosen for word in one.split()} - {"not", "and"} <= marks
    assert "MKL_CBWR=COMPATIBLE" in run


def test_the_layers_are_those_that_are_checked() -> None:
    table = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contract = next(one for one in table["tool"]["importlinter"]["contracts"] if "layers" in one)
    drawn = re.findall(r"^    (.*)$", Guide(_CONTRIBUTING).prose, re.MULTILINE)

    checked = [re.findall(r"graphtool\.(\w+)", layer) for layer in contract["layers"]]
    assert [re.findall(r"\w+", line) for line in drawn] == checked


def test_forms_of_issues_ask_for_what_is_needed() -> None:
    forms = {path.stem: loaded(path) for path in _FORMS}

    assert forms.pop("config") == {"blank_issues_enabled": False}
    assert set(forms) == {"bug", "question", "wrong-pairs"}
    for form in forms.values():
        assert {"name", "description", "body"} <= form.keys()
        fields = [field for field in form["body"] if field["type"] != "markdown"]
        assert all(field["attributes"]["label"] and field["id"] for field in fields)
        assert any(field.get("validations") == {"required": True} for field in fields)
    asked = [field["attributes"].get("label", "") for field in forms["bug"]["body"]]
    assert any("graphtool doctor --json" in label for label in asked)
    assert parse(["doctor", "--json"]).format == "json"


def test_hooks_before_a_commit_are_what_ci_runs() -> None:
    (local,) = loaded(_ROOT / ".pre-commit-config.yaml")["repos"]
    run = (_ROOT / ".ci" / "run").read_text(encoding="utf-8")

    assert [hook["id"] for hook in local["hooks"]] == ["lint", "format", "types", "layers"]
    assert all(hook["language"] == "system" for hook in local["hooks"])
    assert [hook["entry"] for hook in local["hooks"] if f"bin/{hook['entry']}" not in run] == []
