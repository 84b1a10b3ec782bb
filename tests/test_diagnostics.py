"""Codes: each is one rule's."""

from __future__ import annotations

from importlib import reload

import pytest

import graphtool.matching.problems
from graphtool.diagnostics import Diagnostic, registered_docs, rule


def test_a_module_whose_import_was_interrupted_can_be_imported_again() -> None:
    before = registered_docs()["GT301"]
    reload(graphtool.matching.problems)
    assert registered_docs()["GT301"] == before


def test_a_code_is_not_given_twice() -> None:
    def other() -> Diagnostic:
        """Nothing."""
        return Diagnostic(message="")

    with pytest.raises(AssertionError, match="GT301 is taken"):
        rule("GT301")(other)
