"""What `import graphtool` brings, and what it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import graphtool


def in_a_new_process(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_importing_graphtool_imports_neither_paddle_numpy_networkx_nor_rich() -> None:
    heavy = "{'paddle', 'numpy', 'networkx', 'rich', 'msgspec', 'google.protobuf'}"
    script = f"import sys, graphtool; print({heavy} & set(sys.modules))"

    assert in_a_new_process(script) == "set()"


@pytest.mark.parametrize("name", graphtool.__all__)
def test_every_public_name_resolves_and_stays(name: str) -> None:
    assert getattr(graphtool, name) is getattr(graphtool, name)
    assert name in dir(graphtool)


def test_public_names_are_sorted_and_unique() -> None:
    assert graphtool.__all__ == sorted(set(graphtool.__all__))


def test_what_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'graphtool' has no attribute 'no_such_name'"):
        _ = graphtool.no_such_name


def test_the_version_is_that_of_the_distribution() -> None:
    assert graphtool.__version__ == "0.1.0"
