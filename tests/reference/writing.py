"""What the reference says, as Markdown."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from textwrap import indent
from types import ModuleType
from typing import Any

from tests.guides.running import EXAMPLES
from tests.reference.public import MODULES, Name, attributes, docs_of, members, names
from tests.reference.types import Alias, types

__all__ = ["REFERENCE", "link_of", "reference"]

REFERENCE = EXAMPLES / "reference.md"
_TITLE = """\
# Reference

All public names, as their docstrings have them; `python -m tests.reference` writes this file, and
`help(gt.merge)` shows the same. In signatures `Paddle` is what Paddle has no one type for: its
Programs, Values, Variables, Scopes and Places; other types that have no name in `graphtool` stand
at the [end](#types). Shapes are lists of dims, -1 where one is not known before the run: N is the
batch, C channels, H and W the height and width of a map, L the length of a sequence. A code such as
GT333 is explained by `graphtool explain GT333`, and in [troubleshooting](troubleshooting.md); words
are those of the [glossary](glossary.md).
"""
_WIDTH = 88
_CODE = re.compile(r"(`[^`]*`)")


def reference() -> str:
    """Return the text of the whole file."""
    parts = [_TITLE, *(part for module in MODULES for part in _module(module)), *_types()]
    return "\n".join(part.rstrip() + "\n" for part in parts)


def link_of(heading: str) -> str:
    """Return what a heading is linked by, as GitHub makes it."""
    return "#" + re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _module(module: ModuleType) -> Iterator[str]:
    found = names(module)
    yield f"## {module.__name__}"
    yield _prose(docs_of(module))
    yield " · ".join(f"[{one.name}]({link_of(one.full)})" for one in found)
    for one in found:
        yield from _name(one)


def _types() -> Iterator[str]:
    found = types()
    yield "## Types"
    yield "What signatures name and no module has in its `__all__`: it is handed over, or read off."
    yield " · ".join(f"[{name}]({link_of(name)})" for name in found)
    for name, one in found.items():
        yield f"### {name}"
        if isinstance(one, Alias):
            yield _block(_readable(f"{name} = {one.value}"))
            yield _prose(one.meaning)
        else:
            yield _block(_class(one))
            yield _prose(docs_of(one))
            yield from _members(one)


def _name(one: Name) -> Iterator[str]:
    yield f"### {one.full}"
    if one.alias_of is not None:
        yield f"Another name of `{one.alias_of}`."
    elif inspect.isclass(one.object):
        yield _block(_class(one.object))
        yield _prose(docs_of(one.object))
        yield from _members(one.object)
    elif callable(one.object):
        yield _block(_signature(one.name, one.object))
        yield _prose(docs_of(one.object))
    else:
        yield f"A mapping from {', '.join(f'`{key}`' for key in one.object)}."


def _class(given: type) -> str:
    bases = [base.__name__ for base in given.__bases__ if base is not object]
    head = f"class {given.__name__}" + (f"({', '.join(bases)})" if bases else "")
    is_enum = hasattr(given, "__members__")
    lines = [f"{name} = {of}" if is_enum else f"{name}: {of}" for name, of in attributes(given)]
    return _readable("\n".join([f"{head}:" if lines else head, *(f"    {line}" for line in lines)]))


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
    """Return a call with types and defaults, on one line or with one parameter in each."""
    line = _line(name, function)
    if len(line) <= _WIDTH:
        return line
    listed = "".join(f"    {_readable(one)},\n" for one in _parameters(function))
    return f"{name}(\n{listed}){_result(function)}"


def _line(name: str, function: Callable[..., Any]) -> str:
    return f"{name}({_readable(', '.join(_parameters(function)))}){_result(function)}"


def _result(function: Callable[..., Any]) -> str:
    result = inspect.signature(function).return_annotation
    return "" if result is inspect.Signature.empty else _readable(f" -> {result}")


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
    typed = "" if one.annotation is one.empty else f": {one.annotation}"
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
