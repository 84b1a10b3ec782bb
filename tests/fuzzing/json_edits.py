"""Edits of a JSON document that know its structure: any document, then one of a PIR program."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from copy import deepcopy
from random import Random
from typing import Any, TypeAlias

from tests.fuzzing.cases import Mutator
from tests.fuzzing.spoiling import dims, number, text

# JSON text is untyped.
_Json: TypeAlias = Any
# Where a value stands: the list or object that holds it, and its index or key there.
_Place: TypeAlias = tuple[_Json, _Json]

# Stand in an edited document for what `json.dumps` cannot write.
_REPEATED, _NESTED = "@repeated@", "@nested@"
_PUT_OFF = (AttributeError, LookupError, TypeError, ValueError)


def edited(edit: Callable[[Random, _Json], str | None]) -> Mutator:
    """Make a mutator of an edit that changes a document in place, once or a few times.

    What the edit returns is the text to stand where it put `@nested@`. Where there is nothing to
    edit, or nothing more, it may raise.
    """

    def mutate(random: Random, data: bytes) -> bytes:
        document: _Json = json.loads(data)
        nested: str | None = None
        for _ in range(random.choice((1, 1, 1, 2, 4))):
            with suppress(*_PUT_OFF):
                nested = edit(random, document) or nested
        return _text_of(document, nested or "0")

    return mutate


def _text_of(document: _Json, nested: str) -> bytes:
    """Write a document; the members of an object under `@repeated@` stand beside it."""
    written = json.dumps(document, separators=(",", ":"))
    key = f'"{_REPEATED}":'
    at = written.find(key)
    if at >= 0:
        start = at + len(key)
        _, end = json.JSONDecoder().raw_decode(written, start)
        written = written[:at] + written[start + 1 : end - 1] + written[end:]
    return written.replace(f'"{_NESTED}"', nested).encode("utf-8", "surrogatepass")


def places(document: _Json) -> Iterator[_Place]:
    """Yield where everything in a document stands."""
    waiting = [document]
    for holder in waiting:
        for key in list(holder) if isinstance(holder, dict) else range(len(holder)):
            yield holder, key
            if isinstance(holder[key], (list, dict)):
                waiting.append(holder[key])


def _odd(random: Random) -> _Json:
    """Return a value of a type that was hardly meant."""
    odd: tuple[_Json, ...] = (
        *(None, True, False, 1.5, 1e308, float("nan"), [], {}, [[]], {"#": "x"}, [None]),
        *(number(random), text(random), [number(random)] * 3, {"": None}, [text(random)]),
    )
    return random.choice(odd)


def _replaced(
    fits: Callable[[_Json], bool], new: Callable[[Random, list[_Place]], _Json]
) -> Mutator:
    """Make a mutator that puts something else in the place of what fits."""

    def edit(random: Random, document: _Json) -> None:
        found = [place for place in places(document) if fits(place[0][place[1]])]
        holder, key = random.choice(found)
        holder[key] = new(random, found)

    return edited(edit)


def _other_text(random: Random, found: list[_Place]) -> str:
    others = [holder[key] for holder, key in random.sample(found, min(4, len(found)))]
    return random.choice((text(random), *others))


def _wrong_key(random: Random, document: _Json) -> None:
    """Take a member out, rename it, or give it twice."""
    holder, key = random.choice([place for place in places(document) if isinstance(place[0], dict)])
    way = random.randrange(3)
    if way == 0:
        del holder[key]
    elif way == 1:
        holder[random.choice(("x", "", "D", "#", "%", text(random)))] = holder.pop(key)
    elif _REPEATED not in holder:
        holder[_REPEATED] = {key: random.choice((holder[key], _odd(random)))}


def _wrong_length(random: Random, document: _Json) -> None:
    """Empty, shorten, repeat or reverse a list."""
    found = [place for place in places(document) if isinstance(place[0][place[1]], list)]
    holder, key = random.choice(found)
    items = holder[key]
    at = random.randrange(len(items) + 1)
    again = deepcopy(items[:at])
    longest = deepcopy(items * 300 if len(items) < 8 else items * 2)
    holder[key] = random.choice(([], items[:at], items[at:], items + again, items[::-1], longest))


def _deep(random: Random, document: _Json) -> str:
    """Nest a value in lists or objects, up to deeper than Python follows."""
    holder, key = random.choice(list(places(document)))
    inner = json.dumps(holder[key], separators=(",", ":"))
    holder[key] = _NESTED
    before, after = random.choice((("[", "]"), ('{"#":"0.a_array","D":[', "]}"), ('{"D":', "}")))
    depth = random.choice((2, 50, 300, 480, 900, 20_000))
    return before * depth + inner + after * depth


ANY_JSON: Mapping[str, Mutator] = {
    "types": _replaced(lambda _: True, lambda random, _: _odd(random)),
    "numbers": _replaced(lambda given: type(given) is int, lambda random, _: number(random)),
    "texts": _replaced(lambda given: isinstance(given, str), _other_text),
    "keys": edited(_wrong_key),
    "lengths": edited(_wrong_length),
    "nesting": edited(_deep),
}


def _blocks(document: _Json) -> list[_Json]:
    """List the Blocks of a PIR program, the outermost first."""
    found, waiting = [], [document["program"]]
    for holder in waiting:
        inner = [block for region in holder.get("regions", ()) for block in region["blocks"]]
        found += inner
        waiting += [op for block in inner for op in block["ops"]]
    return found


def _operators(document: _Json) -> list[_Json]:
    return [op for block in _blocks(document) for op in block["ops"]]


def _results(op: _Json) -> list[_Json]:
    return [op["O"]] if isinstance(op["O"], dict) else op["O"]


def _anew(random: Random, part: _Json) -> _Json:
    """Copy Operators or Blocks; in most copies they make and read Values of their own."""
    copy = deepcopy(part)
    if random.random() < 0.2:
        return copy
    ends = [holder for holder, key in places([copy]) if key == "%"]
    made = [holder for holder in ends if "TT" in holder]
    first = random.randrange(10**6, 10**9)
    numbers = {holder["%"]: first + index for index, holder in enumerate(made)}
    for holder in ends:
        holder["%"] = numbers.get(holder["%"], holder["%"])
    return copy


def _ids(random: Random, document: _Json) -> None:
    """Let ids dangle, repeat, point ahead or to the Operator itself."""
    ops = _operators(document)
    op = random.choice(ops)
    made = [result["%"] for other in ops for result in _results(other)]
    ends = random.choice((_results(op), op.get("I", [])))
    own = [result["%"] for result in _results(op)]
    random.choice(ends)["%"] = random.choice(
        (random.choice(made), number(random), max(made) + 1, *own, 0, "1", 1.0, True, None)
    )


def _order(random: Random, document: _Json) -> None:
    """Take Operators out, repeat or exchange them, within Blocks and between them."""
    block, other = (random.choice(_blocks(document))["ops"] for _ in range(2))
    a, b = random.randrange(len(block)), random.randrange(len(other))
    way = random.randrange(5)
    if way == 0:
        del block[a]
    elif way == 1:
        other.insert(b, _anew(random, block[a]))
    elif way == 2:
        block[a], other[b] = other[b], block[a]
    elif way == 3:
        other.insert(b, block.pop(a))
    else:
        block[a]["#"] = other[b]["#"]


def _ends(random: Random, document: _Json) -> None:
    """Give Operators fewer or more operands and results, with results of their own number."""
    op = random.choice(_operators(document))
    key = random.choice(("I", "O", "A", "OA"))
    ends = op[key]
    if random.random() < 0.6:
        del ends[random.randrange(len(ends))]
    else:
        again = deepcopy(random.choice(ends))
        if key == "O":
            again["%"] = random.randrange(10**6, 10**7)
        ends.insert(random.randrange(len(ends) + 1), again)


def _attributes(random: Random, document: _Json) -> None:
    """Change what attributes say: other numbers, lists of other lengths, other types."""
    typed = random.choice([holder[key] for holder, key in places(document) if key == "AT"])
    old = typed.get("D")
    if isinstance(old, list) and old and random.random() < 0.5:
        at = random.randrange(len(old))
        inner = {**old[at], "D": number(random)} if isinstance(old[at], dict) else number(random)
        changed = [*old[:at], inner, *old[at + 1 :]]
        typed["D"] = random.choice((*[changed] * 4, old[:1], old[1:], old * 2, []))
    else:
        typed["D"] = random.choice((number(random), number(random), text(random), _odd(random)))


def _dims(random: Random, document: _Json) -> None:
    """Change shapes: negative and huge dims, none at all, thousands."""
    types = [holder[key]["D"] for holder, key in places(document) if key == "TT"]
    data = random.choice([data for data in types if isinstance(data, list) and len(data) > 1])
    data[1] = dims(random, data[1])


def _regions(random: Random, document: _Json) -> str | None:
    """Put regions into each other, take their Blocks away, or give them where none belong."""
    ops, blocks = _operators(document), _blocks(document)
    op, block = random.choice(ops), random.choice(blocks)
    region = {"#": "r", "blocks": [_anew(random, block)]}
    way = random.randrange(5)
    if way == 0:
        op["regions"] = random.choice(([], [{"#": "r", "blocks": []}], [region], [region] * 3))
    elif way == 1:
        op.setdefault("regions", []).append(region)
    elif way == 2:
        block["args"] = random.choice(([], *(other.get("args", []) for other in blocks)))
    elif way == 3:
        block["args"] = [deepcopy(result) for result in _results(op)]
    else:
        op["regions"] = [{"#": "r", "blocks": [_NESTED]}]
        holder = json.dumps({key: op[key] for key in ("#", "A") if key in op})[:-1]
        block = f'{{"#":"b","args":[],"ops":[{holder},"I":[],"O":[]'
        before = f'{block},"regions":[{{"#":"r","blocks":['
        depth = random.choice((3, 30, 150, 190, 400))
        return before * depth + json.dumps(region["blocks"][0]) + "]}]}]}" * depth
    return None


def _names(random: Random, document: _Json) -> None:
    """Change what parameters, feeds and modules are called."""
    named = ("name", "struct_name", "parameter_name")
    holders: list[_Place] = [(op["A"], 3) for op in _operators(document) if op["#"] == "p"]
    for op in _operators(document):
        if op["#"] != "p":
            holders += [(one["AT"], "D") for one in op["A"] if one["N"] in named]
    holder, key = random.choice(holders)
    others = [other[place] for other, place in random.sample(holders, min(3, len(holders)))]
    holder[key] = random.choice((text(random), text(random), text(random), *others))


_EDITS = (_ids, _order, _ends, _attributes, _dims, _regions, _names)
PIR_JSON: Mapping[str, Mutator] = {edit.__name__[1:]: edited(edit) for edit in _EDITS}
