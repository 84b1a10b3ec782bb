"""What the reference says, as Markdown."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from enum import Enum
from textwrap import indent
from types import ModuleType
from typing import Any

from tests.guides.running import EXAMPLES
from tests.reference.public import MODULES, attributes, docs_of, members, names
from tests.reference.types import Alias, types

__all__ = ["REFERENCE", "link_of", "reference"]

REFERENCE = EXAMPLES / "reference.md"
_TITLE = """\
# Reference

All public names, as their docstrings have them; `python -m tests.reference` writes this file, and
`help(gt.merge)` shows the same. A signature has the types that no default shows. Paddle's Programs,
Values, Variables, Scopes and Places have no type in common: an argument that is one of them, or its
name, has none here, and elsewhere it is `Paddle`. Types that have no name in `graphtool` are at the
[end](#types). Shapes are lists of dims, -1 where one is not known before the run: N is the batch, C
channels, H and W the height and width of a map, L the length of a sequence. `graphtool explain
GT333` explains GT333, as [troubleshooting](troubleshooting.md) does; the [glossary](glossary.md)
explains words.
"""
_WIDTH = 100
_CODE = re.compile(r"(`[^`]*`)")
# The type of an argument that says no more than that it is Paddle's, or the name of it.
_PADDLES = re.compile(r"_?Paddle( \| (str|None))*")


def reference() -> str:
    """Return the text of the whole file."""
    parts = [_TITLE, *(part for module in MODULES for part in _module(module)), *_types()]
    return "\n".join(part.rstrip() + "\n" for part in parts)


def link_of(heading: str) -> str:
    """Return what a heading is linked by, as GitHub makes it."""
    return "#" + re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _module(module: ModuleType) -> Iterator[str]:
    found = names(module)
    own = [one for one in found if one.alias_of is None]
    yield f"## {module.__name__}"
    yield _prose(docs_of(module))
    yield " · ".join(f"[{one.name}]({link_of(one.full)})" for one in own)
    for one in own:
        yield f"### {one.full}"
        yield from _object(one.name, one.object)
        if aliases := [f"`{alias.name}`" for alias in found if alias.alias_of == one.name]:
            yield f"Also called {', '.join(aliases)}."


def _types() -> Iterator[str]:
    yield "## Types"
    yield "What signatures name and no module has in its `__all__`: it is handed over, or read off."
    found = types()
    yield "\n".join(
        f"- `{name} = {_readable(one.value)}`: {_item(one.meaning)}"
        if isinstance(one, Alias)
        else f"- `{name}`: {_values(one)}. {_item(docs_of(one))}"
        for name, one in found.items()
        if isinstance(one, Alias) or issubclass(one, Enum)
    )
    for name, one in found.items():
        if not isinstance(one, Alias) and not issubclass(one, Enum):
            yield f"### {name}"
            yield from _object(name, one)


def _object(name: str, given: Any) -> Iterator[str]:
    """Yield what is said of one object: its signature, its docstring, its members."""
    if not callable(given):
        yield f"A mapping from {', '.join(f'`{key}`' for key in given)}."
    elif not inspect.isclass(given):
        yield _block(_signature(name, given))
        yield _prose(docs_of(given))
    elif issubclass(given, Enum):
        yield f"{_prose(docs_of(given))} Its values: {_values(given)}."
    else:
        fields = [f"    {name}: {_readable(of)}" for name, of in attributes(given)]
        if fields:
            yield _block("\n".join([f"class {given.__name__}:", *fields]))
        yield _prose(docs_of(given))
        yield from _members(given)


def _values(given: type[Enum]) -> str:
    return ", ".join(f"`{one.value}`" for one in given)


def _members(given: type) -> Iterator[str]:
    listed = [
        f"- `{_line(name, function) if is_called else name}`: {_item(docs_of(function))}"
        for name, function, is_called in members(given)
    ]
    if listed:
        yield "\n".join(listed)


def _item(docs: str) -> str:
    """Return a docstring as it stands in a list: further paragraphs are set in."""
    first, *more = _prose(docs).split("\n")
    return "\n".join([first, *(indent(line, "  ") for line in more)])


def _signature(name: str, function: Callable[..., Any]) -> str:
    """Return a call with types and defaults, on as few lines as ruff formats one in."""
    line = _line(name, function)
    if len(line) <= _WIDTH:
        return line
    given = [_readable(one) for one in _parameters(function)]
    indented = f"    {', '.join(given)}\n"
    if len(indented) > _WIDTH:
        indented = "".join(f"    {one},\n" for one in given)
    return f"{name}(\n{indented}){_result(function)}"


def _line(name: str, function: Callable[..., Any]) -> str:
    return f"{name}({_readable(', '.join(_parameters(function)))}){_result(function)}"


def _result(function: Callable[..., Any]) -> str:
    result = inspect.signature(function).return_annotation
    is_shown = result is inspect.Signature.empty or _PADDLES.fullmatch(str(result))
    return "" if is_shown else _readable(f" -> {result}")


def _parameters(function: Callable[..., Any]) -> Iterator[str]:
    given = inspect.signature(function).parameters.values()
    before = None
    for one in given:
        if one.name in ("self", "cls"):
            continue
        if before is one.POSITIONAL_ONLY and one.kind is not one.POSITIONAL_ONLY:
            yield "/"
        if one.kind is one.KEYWORD_ONLY and before not in (one.KEYWORD_ONLY, one.VAR_POSITIONAL):
            yield "*"
        before = one.kind
        yield _parameter(one)


def _parameter(one: inspect.Parameter) -> str:
    stars = {one.VAR_POSITIONAL: "*", one.VAR_KEYWORD: "**"}.get(one.kind, "")
    is_shown = one.default not in (one.empty, None, ()) or _PADDLES.fullmatch(str(one.annotation))
    typed = "" if one.annotation is one.empty or is_shown else f": {one.annotation}"
    default = "" if one.default is one.empty else f"{' = ' if typed else '='}{one.default!r}"
    return f"{stars}{one.name}{typed}{default}"


def _readable(text: str) -> str:
    """Return types without the `_` of names that are private: `_Paddle` is Paddle's."""
    return re.sub(r"\b_(?=[A-Z])", "", text)


def _block(text: str) -> str:
    return f"```python signature\n{text}\n```"


def _prose(docs: str) -> str:
    """Return a docstring as Markdown: what would be markup there is not."""
    return "\n".join(
        "".join(
            part if place % 2 else re.sub(r"([*<|])", r"\\\1", part)
            for place, part in enumerate(_CODE.split(line))
        )
        if not line.startswith("    ")
        else line
        for line in docs.split("\n")
    )
