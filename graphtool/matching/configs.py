"""Write pairs as a configuration for dynamic-graph networks: of PaddleClas, PaddleOCR, or plain."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from graphtool.diagnostics import (
    Diagnostic,
    PairError,
    Report,
    Severity,
    UsageError,
    listed,
)
from graphtool.graph import Graph
from graphtool.matching import problems
from graphtool.matching.pairs import End, Kind, Pair, PairSet
from graphtool.text import escaped_code, printable

__all__ = ["CONFIGS", "check_export", "export"]

# YAML is made of plain dicts, lists and scalars, nested at will.
_Yaml: TypeAlias = Any

_TEMPERATURE = 4.0
_PLAIN = "yaml"


@dataclass(frozen=True, slots=True)
class _Item:
    """A pair and the names by which a configuration takes its ends."""

    pair: Pair
    teacher: str
    student: str


@dataclass(frozen=True, slots=True)
class _Side:
    """A network, and the attribute paths in it that mean several Values."""

    role: str
    graph: Graph
    shared: frozenset[str]

    @classmethod
    def of(cls, role: str, graph: Graph) -> _Side:
        """Count what each sublayer returns, over all of its runs."""
        times = Counter(path for value in graph.values.values() for path in value.layer_outputs)
        return cls(role, graph, frozenset(path for path, count in times.items() if count > 1))


@dataclass(frozen=True, slots=True)
class _Unsaid:
    """Why a configuration has no name for an end."""

    reason: str


@dataclass(frozen=True, slots=True)
class _Format:
    """How a configuration names an end, refuses a pair, and is laid out."""

    name: Callable[[_Side, End, Kind], str | _Unsaid]
    refusal: Callable[[_Item], str | None]
    document: Callable[[PairSet, Sequence[_Item]], dict[str, _Yaml]]
    header: str


def export(pairs: PairSet, name: str) -> str:
    """Return pairs as a YAML fragment to paste; what could not be said stands in its comments.

    `name` is `paddleclas` (`Arch` and `Loss` of a DistillationModel), `paddleocr` (`Architecture`
    and `Loss`) or `yaml`. `check_export` gives the pairs left out as Diagnostics.

    Raises UsageError: GT320 for another name. Raises PairError: GT320 if no pair can be written.
    """
    import yaml

    form = _format(name)
    items, refused = _sorted_out(pairs, form)
    if not items:
        graphs = pairs.teacher, pairs.student
        # Of networks with paths, the plain list refuses least.
        wanted = _PLAIN if all(map(_has_paths, graphs)) else name
        networks = "MODULE:CALLABLE MODULE:CALLABLE --input SHAPE"
        raise PairError(
            problems.not_in_configuration(
                "no pair can be written in this configuration",
                where=problems.both_places(*graphs),
                notes=tuple(refused),
                help=f"graphtool suggest-pairs {networks} --as {wanted}",
            )
        )
    comments = "".join(f"# {printable(found.message)}\n" for found in _left_out(refused))
    document = form.document(pairs, items)
    write = partial(yaml.safe_dump, document, sort_keys=False, default_flow_style=None)
    body = write(allow_unicode=True)
    # To YAML, more is printable than can be seen.
    is_seen = all(escaped_code(line) == line for line in body.split("\n"))
    return f"{form.header}{comments}{body if is_seen else write(allow_unicode=False)}"


def check_export(pairs: PairSet, name: str) -> Report:
    """Report which pairs a configuration leaves out, and why.

    Raises UsageError: GT320 for an unknown name.
    """
    _, refused = _sorted_out(pairs, _format(name))
    return Report.of(_left_out(refused))


def _left_out(refused: Mapping[str, Sequence[int]]) -> Iterator[Diagnostic]:
    for reason, ranks in refused.items():
        numbers = ", ".join(map(str, ranks))
        subject = f"pairs {numbers} are" if len(ranks) > 1 else f"pair {numbers} is"
        message = f"{subject} left out: {reason}"
        yield problems.not_in_configuration(message, severity=Severity.WARNING)


def _format(name: str) -> _Format:
    form = _FORMATS.get(name)
    if form is None:
        message = f"there is no configuration `{name}`; there are {listed(CONFIGS)}"
        raise UsageError(problems.not_in_configuration(message, help=f"--as {CONFIGS[-1]}"))
    return form


def _sorted_out(pairs: PairSet, form: _Format) -> tuple[list[_Item], Mapping[str, list[int]]]:
    """Part the pairs into those that the configuration can say, and ranks by what stops them."""
    sides = _Side.of("teacher", pairs.teacher), _Side.of("student", pairs.student)
    named: list[_Item] = []
    refused: dict[str, list[int]] = {}
    for pair in pairs:
        item = _named(pair, sides, form)
        if isinstance(item, _Item):
            named.append(item)
        else:
            refused.setdefault(item.reason, []).append(pair.rank)
    items: list[_Item] = []
    for item in named:
        reason = form.refusal(item) or _confusion(item, named)
        if reason is None:
            items.append(item)
        else:
            refused.setdefault(reason, []).append(item.pair.rank)
    return items, refused


def _named(pair: Pair, sides: tuple[_Side, _Side], form: _Format) -> _Item | _Unsaid:
    names: list[str] = []
    for side, end in zip(sides, (pair.teacher, pair.student), strict=True):
        name = form.name(side, end, pair.kind)
        if isinstance(name, _Unsaid):
            return _unsaid(side, name)
        names.append(name)
    return _Item(pair, *names)


def _unsaid(side: _Side, unsaid: _Unsaid) -> _Unsaid:
    """Say in which network an end has no name; a saved program has none at all."""
    role = side.role
    if not _has_paths(side.graph):
        return _Unsaid(
            f"the {role} has no attribute paths: name it as `module:callable`, not as a file"
        )
    return _Unsaid(f"in the {role}, {unsaid.reason}")


def _has_paths(graph: Graph) -> bool:
    return any(value.layer is not None for value in graph.values.values())


def _confusion(item: _Item, items: Sequence[_Item]) -> str | None:
    """Say so where another pair's Value would go by the same name: one of them would be lost."""
    for other in items:
        if other.teacher == item.teacher and other.pair.teacher.name != item.pair.teacher.name:
            return f"in the teacher, `{item.teacher}` would mean several Values"
        if other.student == item.student and other.pair.student.name != item.pair.student.name:
            return f"in the student, `{item.student}` would mean several Values"
    return None


def _hook(side: _Side, end: End, _kind: Kind) -> str | _Unsaid:
    """Return the attribute path of a sublayer that returns the Value: a hook there can take it.

    A hook keeps one tensor for each path, so the path must mean this Value alone.
    """
    paths = _paths(side.graph, end)
    if not paths:
        return _Unsaid("no sublayer returns the Value")
    alone = [path for path in paths if path not in side.shared]
    return alone[0] if alone else _Unsaid(f"`{paths[0]}` returns several Values")


def _paths(graph: Graph, end: End) -> list[str]:
    """List the sublayers that return a Value: the one that makes it first, then the innermost."""
    value = graph.values.get(end.name)
    if value is None or value.layer is None:
        # The Graph is of a saved program; a recipe may know the path all the same.
        return [] if end.layer is None else [end.layer]
    return sorted(value.layer_outputs, key=lambda path: path != value.layer)


def _nothing_refused(_item: _Item) -> str | None:
    return None


def _unequal(item: _Item) -> str | None:
    """Refuse what needs an adapter: the losses of both toolkits compare equal shapes."""
    if item.pair.adapter is not None:
        return f"the configuration has no key for the adapter `{item.pair.adapter}`"
    if item.pair.relation.value in ("classes", "heads", "tokens", "sequence"):
        return f"shapes differ ({item.pair.relation.value}) and the losses compare equal ones"
    return None


def _plain_document(_pairs: PairSet, items: Sequence[_Item]) -> dict[str, _Yaml]:
    return {
        "pairs": [
            {
                "teacher": item.teacher,
                "student": item.student,
                "kind": item.pair.kind.value,
                "loss": item.pair.loss,
                "weight": 1.0,
                **({} if item.pair.adapter is None else {"adapter": item.pair.adapter}),
            }
            for item in items
        ]
    }


def _clas_name(side: _Side, end: End, kind: Kind) -> str | _Unsaid:
    """PaddleClas hands out `logits` by that name, sublayers by path, as in `blocks[2].conv`."""
    if kind is Kind.LOGITS and _paths(side.graph, end):
        return "logits"
    path = _hook(side, end, kind)
    return path if isinstance(path, _Unsaid) else re.sub(r"\.(\d+)(?=\.|$)", r"[\1]", path)


def _clas_document(pairs: PairSet, items: Sequence[_Item]) -> dict[str, _Yaml]:
    taps = [item for item in items if item.pair.kind is not Kind.LOGITS]
    models = [
        {"Teacher": _clas_model(pairs.teacher, [item.teacher for item in taps], pretrained=True)},
        {"Student": _clas_model(pairs.student, [item.student for item in taps], pretrained=False)},
    ]
    # With `return_patterns` a model returns a dict, without it the logits themselves.
    key = {"key": "logits"} if taps else {}
    ground_truth = {"DistillationGTCELoss": {"weight": 1.0, "model_names": ["Student"], **key}}
    return {
        "Arch": {
            "name": "DistillationModel",
            "freeze_params_list": [True, False],
            "infer_model_name": "Student",
            "models": models,
        },
        "Loss": {"Train": [ground_truth, *(_clas_loss(item, key) for item in items)]},
    }


def _clas_model(graph: Graph, paths: Sequence[str], *, pretrained: bool) -> dict[str, _Yaml]:
    patterns = list(dict.fromkeys(paths))
    return {
        "name": _class_name(graph),
        "pretrained": pretrained,
        **({"return_patterns": patterns} if patterns else {}),
    }


def _clas_loss(item: _Item, key: Mapping[str, str]) -> dict[str, _Yaml]:
    if item.pair.kind is Kind.LOGITS:
        return {
            "DistillationKLDivLoss": {
                "weight": 1.0,
                "model_name_pairs": [["Student", "Teacher"]],
                "temperature": _TEMPERATURE,
                **key,
            }
        }
    return {
        "DistillationPairLoss": {
            "weight": 1.0,
            "base_loss_name": "DistanceLoss",
            "mode": "l2",
            "model_name_pairs": [["Student", "Teacher"]],
            "s_key": item.student,
            "t_key": item.teacher,
            # The key under which the loss is logged and summed: two alike would hide one another.
            "name": f"loss_{item.pair.kind.value}_{item.pair.rank}",
        }
    }


# What PaddleOCR's BaseModel hands out with `return_all_feats`, by the sublayer that returns it.
_OCR_KEYS = {"backbone": "backbone_out", "neck": "neck_out", "head": "head_out"}


def _ocr_name(side: _Side, end: End, kind: Kind) -> str | _Unsaid:
    paths = _paths(side.graph, end)
    handed_out = [part for part in _OCR_KEYS if part in paths]
    if handed_out:
        part = handed_out[0]
        return (
            _Unsaid(f"`{part}` returns several Values") if part in side.shared else _OCR_KEYS[part]
        )
    if paths and kind is Kind.LOGITS:
        return "head_out"
    return _Unsaid("the Value isn't what `backbone`, `neck` or `head` returns")


def _ocr_refusal(item: _Item) -> str | None:
    if item.teacher != item.student:
        return f"a loss reads one key of both, not `{item.teacher}` and `{item.student}`"
    return _unequal(item)


def _ocr_document(pairs: PairSet, items: Sequence[_Item]) -> dict[str, _Yaml]:
    teacher = {"pretrained": None, "freeze_params": True, "return_all_feats": True}
    student = {"pretrained": None, "freeze_params": False, "return_all_feats": True}
    return {
        "Architecture": {
            "name": "DistillationModel",
            "algorithm": "Distillation",
            "Models": {
                "Teacher": {**teacher, "Backbone": {"name": _class_name(pairs.teacher)}},
                "Student": {**student, "Backbone": {"name": _class_name(pairs.student)}},
            },
        },
        "Loss": {
            "name": "CombinedLoss",
            "loss_config_list": [_ocr_loss(item) for item in items],
        },
    }


def _ocr_loss(item: _Item) -> dict[str, _Yaml]:
    shared = {"weight": 1.0, "model_name_pairs": [["Student", "Teacher"]], "key": item.teacher}
    if item.pair.kind is Kind.LOGITS:
        return {"DistillationDMLLoss": {**shared, "act": "softmax", "use_log": True}}
    name = f"loss_{item.pair.kind.value}_{item.pair.rank}"
    return {"DistillationDistanceLoss": {**shared, "mode": "l2", "name": name}}


def _class_name(graph: Graph) -> str:
    """Return what the source calls the network: `resnet50` of `paddle.vision.models:resnet50`."""
    return re.split(r"[/\\:]", graph.source)[-1]


_FORMATS = {
    "paddleclas": _Format(
        name=_clas_name,
        refusal=_unequal,
        document=_clas_document,
        header=(
            "# For a training configuration of PaddleClas. Give each network the `name` that\n"
            "# it has in ppcls.arch; the paths are those of the networks that were read.\n"
        ),
    ),
    "paddleocr": _Format(
        name=_ocr_name,
        refusal=_ocr_refusal,
        document=_ocr_document,
        header=(
            "# For a training configuration of PaddleOCR. Complete both Models with the\n"
            "# model_type, algorithm, Neck and Head of the networks, and add the loss on labels.\n"
        ),
    ),
    _PLAIN: _Format(
        name=_hook,
        refusal=_nothing_refused,
        document=_plain_document,
        header="# Pairs by the attribute path of the sublayer that returns each Value.\n",
    ),
}
CONFIGS = tuple(_FORMATS)
