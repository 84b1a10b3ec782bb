"""What the built wheel and sdist hold, and what they say of themselves."""

from __future__ import annotations

import tarfile
from email.message import Message
from email.parser import Parser
from importlib.metadata import version
from pathlib import PurePosixPath
from zipfile import ZipFile

import pytest

from noxfile import PYTHONS
from tests.install.conftest import Built

pytestmark = pytest.mark.slow


def names(built: Built) -> list[PurePosixPath]:
    return [PurePosixPath(name) for name in ZipFile(built.wheel).namelist()]


def metadata(built: Built) -> Message:
    wheel = ZipFile(built.wheel)
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return Parser().parsestr(wheel.read(name).decode())


def test_the_wheel_has_the_package_and_nothing_beside_it(built: Built) -> None:
    tops = {name.parts[0] for name in names(built)}

    assert tops == {"graphtool", f"paddle_graphtool-{version('paddle-graphtool')}.dist-info"}
    assert {name.suffix for name in names(built) if name.parts[0] == "graphtool"} == {
        *(".py", ".js", ".css", ".typed")
    }


def test_the_wheel_says_that_it_is_typed_and_under_which_licence(built: Built) -> None:
    found = set(map(str, names(built)))

    assert "graphtool/py.typed" in found
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in found)
    assert metadata(built)["License-Expression"] == "Apache-2.0"


def test_the_wheel_is_small(built: Built) -> None:
    assert built.wheel.stat().st_size < 700_000


def test_the_metadata_is_complete_and_needs_no_build_of_paddle(built: Built) -> None:
    found = metadata(built)
    needed = [text for text in found.get_all("Requires-Dist", []) if "extra ==" not in text]

    assert (found["Name"], found["Requires-Python"]) == ("paddle-graphtool", ">=3.10")
    assert found["Description-Content-Type"] == "text/markdown"
    assert found.get_payload().startswith("# graphtool\n")
    assert len(found["Summary"]) <= 120
    assert not any("paddle" in text for text in needed)
    assert {"paddle", "dot", "examples", "dev"} == set(found.get_all("Provides-Extra", []))


def test_the_classifiers_name_each_python_that_is_tested(built: Built) -> None:
    listed = metadata(built).get_all("Classifier", [])
    pythons = {text.rpartition(" ")[2] for text in listed if ":: 3." in text}

    # That an index knows them is checked where they are built.
    assert pythons == set(PYTHONS)
    assert "Typing :: Typed" in listed


def test_the_sdist_has_what_the_wheel_is_built_from_and_no_tests(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        inside = {str(PurePosixPath(*PurePosixPath(name).parts[1:])) for name in archive.getnames()}
    sources = {str(name) for name in names(built) if name.parts[0] == "graphtool"}

    assert sources <= inside
    assert {"LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml"} <= inside
    assert not any(name.startswith(("tests", "examples")) for name in inside)
