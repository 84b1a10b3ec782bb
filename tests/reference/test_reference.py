"""The reference is in step, and every public name is documented as far as it has to be."""

from __future__ import annotations

import builtins
import inspect
import re
from collections.abc import Callable
from enum import Enum
from typing import Any

import pytest

from graphtool.cli._explain import all_docs
from tests.reference.public import MODULES, all_names, callables, docs_of
from tests.reference.types import ELSEWHERE, Alias, types
from tests.reference.writing import REFERENCE, link_of, reference

_FIRST_LINE = re.compile(r"[A-Z`].*[.:]")
_SHAPE = re.compile(r"\[(N|C|H|\.\.\.)[^\]]*\]|of any (one )?shape|`resize`")
_SOURCE = re.compile(r"arXiv[ \n]\d{4}\.\d{4,5}|PaddleSlim|tutorial|`similarity`")
_RAISES = re.compile(r"Raises |[Rr]aises (what|as)|Never raises")
# No member of an Enum, no word of a text.
_TYPE = re.compile(r"(?<![\w.'\"])[A-Z][a-z]\w*")
_UNITS = re.compile(r"second|step")
# What takes tensors takes them by these names.
_TENSORS = re.compile(r"(teacher|student)(_var\d?_name|\d|_start|_end)?|value")


@pytest.mark.slow
def test_the_reference_is_what_the_docstrings_say() -> None:
    assert REFERENCE.read_text(encoding="utf-8") == reference(), "python -m tests.reference"


def test_every_public_name_has_a_heading_that_its_index_leads_to() -> None:
    text = REFERENCE.read_text(encoding="utf-8")
    headings = re.findall(r"^### (.*)$", text, re.MULTILINE)

    public = [name.full for name in all_names() if name.alias_of is None]
    classes = [
        name
        for name, one in types().items()
        if not isinstance(one, Alias) and not issubclass(one, Enum)
    ]
    assert headings == [*public, *classes]
    assert set(re.findall(r"\]\((#[^)]+)\)", text)) == {*map(link_of, public), "#types"}


def test_every_type_that_a_signature_names_has_an_entry() -> None:
    text, _, _ = REFERENCE.read_text(encoding="utf-8").partition("\n## Types\n")
    calls = re.findall(r"^```python signature\n(.*?)\n```|^- `(\w+\([^\n]*?)`: ", text, re.M | re.S)
    named = {name for call in calls for name in _TYPE.findall("".join(call))}
    public = {name.name for name in all_names()}

    assert len(named) > 50
    assert named - public - types().keys() - ELSEWHERE - {*dir(builtins), "Enum"} == set()


def shortcomings(name: str, docs: str, parameters: list[str]) -> list[str]:
    """Return what a docstring of a public function lacks."""
    of_tensors = ".losses." in name or ".compat." in name
    taken = [one for one in parameters if _TENSORS.fullmatch(one)] if of_tensors else []
    missing = [
        (_FIRST_LINE.fullmatch(docs.partition("\n")[0]), "a sentence first"),
        (_RAISES.search(docs), "what it raises"),
        (not taken or _SHAPE.search(docs), "shapes"),
        (not taken or _SOURCE.search(docs), "a source"),
        (not any("timeout" in one for one in parameters) or _UNITS.search(docs), "units"),
        *(
            (re.search(f"`{one}[`=]", docs), f"`{one}`")
            for one in parameters
            if one in _WORTH_A_WORD
        ),
        *((code in all_docs(), f"a code that exists for {code}") for code in _codes(docs)),
    ]
    return [f"{name}: {lack}" for found, lack in missing if not found]


# Options that no name explains.
_WORTH_A_WORD = {"from_probs", "share", "shared", "options", "label", "restored", "built", "mask"}


def _codes(docs: str) -> list[str]:
    return re.findall(r"GT\d{3}", docs)


def test_every_public_function_says_shapes_units_errors_and_source() -> None:
    functions = [(name, one) for name, one in callables() if _is_called(name)]

    assert len(functions) > 40
    assert [
        lack
        for name, one in functions
        for lack in shortcomings(name, docs_of(one), list(inspect.signature(one).parameters))
    ] == []


def test_every_class_method_and_property_has_a_docstring_and_says_what_it_raises() -> None:
    classes = [one for one in all_names() if inspect.isclass(one.object)]
    bare = [one.full for one in classes if not _FIRST_LINE.match(docs_of(one.object))]
    bare += [name for name, one in callables() if not _FIRST_LINE.match(docs_of(one))]
    silent = [name for name, one in callables() if _raises(one) and "aises" not in docs_of(one)]

    assert bare == []
    assert silent == []


def _is_called(name: str) -> bool:
    return name.rpartition(".")[0] in [module.__name__ for module in MODULES]


def _raises(function: Callable[..., Any]) -> bool:
    code = inspect.getsource(function).replace(function.__doc__ or "", "")
    return re.search(r"^\s+raise ", code, re.MULTILINE) is not None
