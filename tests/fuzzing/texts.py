"""What people write and type: recipes, feed maps, selectors and command lines."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import msgspec
import tomli_w

import graphtool as gt
from graphtool.graph import Graph
from graphtool.matching.recipe import recipe_text
from graphtool.merging import check_merge
from tests.fuzzing.cases import Mutator, Subject
from tests.fuzzing.json_edits import ANY_JSON
from tests.fuzzing.models import FIXTURES, all_of, command
from tests.fuzzing.spoiling import BYTES, TEXTS, number

_FILES = {
    "cnn": FIXTURES / "3.3.1" / "cnn.json",
    "encoder": FIXTURES / "3.3.1" / "encoder.json",
    "old": FIXTURES / "2.6.2" / "cnn.pdmodel",
}
_GRAPHS = {name: gt.read(path) for name, path in _FILES.items()}
_ENCODED = "utf-8", "surrogatepass"


def _as_toml(edit: Mutator) -> Mutator:
    """Make an edit of JSON one of TOML; what TOML has no word for stays JSON."""

    def mutate(random: Random, data: bytes) -> bytes:
        document = msgspec.json.encode(msgspec.toml.decode(data))
        spoilt = edit(random, document)
        with suppress(ValueError, TypeError, AttributeError, RecursionError):
            return tomli_w.dumps(json.loads(spoilt)).encode(*_ENCODED)
        return spoilt

    return mutate


def _line(random: Random, data: bytes) -> bytes:
    """Put a line between others, or take one out, repeat it or exchange two."""
    lines = data.split(b"\n")
    at, other = random.randrange(len(lines)), random.randrange(len(lines))
    way = random.randrange(4)
    if way == 0:
        lines[at:at] = [random.choice(_LINES)(random)]
    elif way == 1:
        lines[at] *= random.choice((0, 2))
    elif way == 2:
        lines[at], lines[other] = lines[other], lines[at]
    else:
        key, sign, _ = lines[at].partition(b"=")
        lines[at] = key + sign + random.choice(_SPELT)(random)
    return random.choice((b"\n", b"\n", b"\n", b"\r\n", b"\r", b"\0")).join(lines)


_SPELT: tuple[Callable[[Random], bytes], ...] = (
    lambda random: str(number(random)).encode(),
    lambda random: b"0x" + b"f" * random.choice((2, 16, 17, 5000)),
    lambda random: random.choice((b"nan", b"inf", b"-inf", b"1e400", b"-0.0", b"1_000", b"07")),
    lambda random: random.choice((b"1979-05-27", b"07:32:00", b"true", b"''", b"'''x'''", b'"')),
    lambda random: b"[" * random.choice((1, 100, 50_000)),
    lambda random: b"{" + b"a." * random.choice((1, 90, 101, 30_000)) + b"a = 1}",
    lambda random: json.dumps(random.choice(TEXTS)).encode(),
)
_LINES: tuple[Callable[[Random], bytes], ...] = (
    lambda random: b"a." * random.choice((1, 90, 101, 30_000)) + b"a = 1",
    lambda random: b"[" + b"a." * random.choice((1, 90, 101, 30_000)) + b"a]",
    lambda random: b"[[pairs]]\n" * random.choice((1, 3, 500)),
    lambda _: b"[pairs]",
    lambda _: b"[teacher]",
    lambda _: b"schema = 2",
    lambda _: b"!!python/object/apply:os.system [x]",
    lambda random: b"#" + b"." * random.choice((1, 101, 50_000)),
    lambda random: b"'" * random.choice((1, 2, 3, 50_000)),
    lambda random: b'"' * random.choice((1, 2, 3, 50_000)),
    lambda random: b'\\"' * random.choice((1, 2, 3, 50_000)),
)


def _with_recipe(data: bytes, folder: Path) -> None:
    path = folder / "pairs.toml"
    path.write_bytes(data)
    name = "encoder" if b"encoder" in data else "cnn"
    graph = _GRAPHS[name]
    model = str(_FILES[name])
    all_of(
        lambda: _use_recipe(path, graph, graph),
        lambda: _use_recipe(path, graph, _GRAPHS["old"]),
        lambda: command("render", model, model, "--pairs", str(path), "-o", "-"),
    )


def _use_recipe(path: Path, teacher: Graph, student: Graph) -> None:
    pairs = gt.read_recipe(path, teacher=teacher, student=student).pairs
    again = gt.read_recipe(recipe_text(pairs), teacher=teacher, student=student).pairs
    assert [pair.teacher.name for pair in again] == [pair.teacher.name for pair in pairs]
    gt.check_pairs(pairs, teacher, student)
    gt.render(pairs)
    str(pairs.report)


def _with_feeds(data: bytes, _: Path) -> None:
    try:
        given = json.loads(data)
    except (ValueError, RecursionError):
        given = data.decode("latin1")
    graph = _GRAPHS["cnn"]
    all_of(
        lambda: str(check_merge(graph, graph, given)),
        lambda: str(check_merge(graph, _GRAPHS["encoder"], given)),
        lambda: command("check", str(_FILES["cnn"]), str(_FILES["cnn"]), *_options(given)),
    )


def _options(given: Any) -> Iterator[str]:
    """Spell a feed map for the command line, as well as its texts allow."""
    for teacher, student in given.items() if isinstance(given, dict) else ():
        yield f"--feed={teacher}={student}"[:100_000].replace("\0", "")


def _with_selector(data: bytes, _: Path) -> None:
    text = data.decode("utf-8", "surrogateescape")
    teacher, model = _GRAPHS["cnn"], str(_FILES["cnn"])
    typed = text.replace("\0", "")
    all_of(
        lambda: gt.find(teacher, text),
        lambda: gt.find(_GRAPHS["old"], text),
        lambda: gt.partners(teacher, teacher, text),
        lambda: gt.explain_pair(teacher, teacher, text),
        lambda: gt.render(teacher, focus=text),
        lambda: command("inspect", model, f"--name={typed}"),
        lambda: command("inspect", model, f"--op={typed}"),
        lambda: command("inspect", model, f"--shape={typed}"),
        lambda: command("suggest-pairs", model, model, f"--for={typed}"),
        lambda: command("explain", typed),
    )


def _selector(random: Random, data: bytes) -> bytes:
    """Join pieces of selectors, patterns and shapes."""
    pieces = (data, b"*", b"?", b"[", b"[!a-z", b"/", b".", b":", b"=", b"-1", b"9" * 5000, b"\xff")
    pieces += tuple(text.encode(*_ENCODED) for text in TEXTS)
    count = random.choice((1, 1, 2, 3, 30))
    return b"".join(random.choice(pieces) for _ in range(count))[:200_000]


_LINES_TYPED: Mapping[str, str] = {
    "inspect": "inspect net.json --shape ?,4,4,4 --limit 3",
    "inspect all": "inspect net.json --name relu_* --stage 1 --format json",
    "inspect built": "inspect net:build --input image=3,8,8:float32",
    "suggest": "suggest-pairs net.json old.pdmodel --limit 2 --json",
    "suggest form": "suggest-pairs net.json net.json --recipe fitnet -o p.toml",
    "suggest as": "suggest-pairs net.json net.json --as paddleclas --limit 4",
    "suggest for": "suggest-pairs net.json net.json --for relu_1 --limit 1",
    "suggest explain": "suggest-pairs net.json net.json --explain relu_1=relu_1",
    "suggest data": "suggest-pairs net.json net.json --evidence x.npz --batches 2",
    "check": "check net.json net.json --feed image=image --prefix t_",
    "check shared": "check net.json net.json --shared linear_0.w_0 --render c.svg",
    "merge": "merge net.json net.json --pairs pairs.toml --dry-run -o out",
    "render": "render net.json --level op --focus relu_1 --radius 2 -o -",
    "render two": "render net.json net.json --pairs pairs.toml -o two.html",
    "explain": "explain GT201",
}
# What is typed for a file to write must stay in the folder.
_TYPED = (
    *(text for text in TEXTS if "/" not in text and ".." not in text and "\0" not in text),
    *("-", "--", "---", "-o", "--help", "--version", "--format", "text", "json", "xml", "--json"),
    *("=", "a=b", "a=", "=b", "a=b=c", "relu_1=relu_1", "nan", "1e9", "0x10", "٣", "9" * 5000),
    *("net.json", "old.pdmodel", "pairs.toml", "net", ".", "x.npy", "random"),
    *("net:build", "os:getcwd"),
    *("?,?", "[?,4]", "-1,4", ",", "scalar", "3,8,8", "image=3:float99", "--limit", "--batches"),
)


def _arguments(random: Random, data: bytes) -> bytes:
    """Take arguments out, repeat, exchange, replace or lengthen them."""
    argv: list[str] = json.loads(data)
    for _ in range(random.choice((1, 1, 2, 4))):
        at = random.randrange(len(argv) + 1)
        repeated = argv[at : at + 2] * random.choice((2, 301))
        new = [], [str(number(random))], repeated, *([text] for text in random.choices(_TYPED, k=2))
        argv[at : at + random.choice((0, 1))] = random.choice(new)
        if random.random() < 0.2:
            random.shuffle(argv)
    return json.dumps(argv).encode()


def _with_arguments(data: bytes, folder: Path) -> None:
    (folder / "net.json").write_bytes(_FILES["cnn"].read_bytes())
    (folder / "old.pdmodel").write_bytes(_FILES["old"].read_bytes())
    (folder / "pairs.toml").write_bytes(_RECIPES["cnn"])
    assert "paddle" not in sys.modules
    # As where Paddle is not installed: it would take more memory than a worker has.
    with patch.dict(sys.modules, {"paddle": None}), suppress(SystemExit):
        command(*json.loads(data))


_RECIPES = {
    name: recipe_text(gt.suggest_pairs(_GRAPHS[name], _GRAPHS[name])).encode()
    for name in ("cnn", "encoder")
}
_TOML = {name: _as_toml(edit) for name, edit in ANY_JSON.items()}
SUBJECTS = (
    Subject("recipe", _RECIPES, {**BYTES, **_TOML, "lines": _line}, _with_recipe),
    Subject(
        "feeds",
        {"one": b'{"image": "image"}', "two": b'{"image": "image", "label": "label"}'},
        {**BYTES, **ANY_JSON},
        _with_feeds,
    ),
    Subject(
        "selector",
        {
            "name": b"relu_1",
            "module": b"/Cnn/Residual_0/",
            "pair": b"relu_1=relu_1",
            "shape": b"?,4,4,4",
        },
        {**BYTES, "pieces": _selector},
        _with_selector,
    ),
    Subject(
        "command",
        {name: json.dumps(line.split()).encode() for name, line in _LINES_TYPED.items()},
        {"arguments": _arguments},
        _with_arguments,
    ),
)
