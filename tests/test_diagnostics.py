"""Codes: each is one rule's."""

from __future__ import annotations

from importlib import reload

import pytest

import graphtool.merging.problems
from graphtool.diagnostics import Diagnostic, docs_of, rule


def test_a_module_whose_import_was_interrupted_can_be_imported_again() -> None:
    before = docs_of("GT253")
    reload(graphtool.merging.problems)
    assert docs_of("GT253") == before


def test_a_code_is_not_given_twice() -> None:
    def other() -> Diagnostic:
        """Nothing."""
        return Diagnostic(message="")

    with pytest.raises(AssertionError, match="GT253 is taken"):
        rule("GT253")(other)
