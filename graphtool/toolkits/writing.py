"""Write pairs as a `DistillationModel` configuration of PaddleClas or PaddleOCR."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from graphtool.both import Both
from graphtool.diagnostics import (
    Diagnostic,
    PairError,
    Report,
    Severity,
    UsageError,
    Where,
    listed,
    rule,
)
from graphtool.graph import Graph
from graphtool.matching.pairs import End, Kind, Pair, PairSet, Relation
from graphtool.matching.problems import both_places
from graphtool.text import escaped_code, printable

__all__ = ["CONFIGS", "check_export", "export"]

# YAML is made of plain dicts, lists and scalars, nested at will.
_Yaml: TypeAlias = Any

_TEMPERATURE = 4.0
_SHAPES_DIFFER = (Relation.CLASSES, Relation.HEADS, Relation.TOKENS, Relation.SEQUENCE)
# What PaddleOCR's BaseModel returns with `return_all_feats`, by the sublayer that returns it.
_OCR_KEYS = {"backbone": "backbone_out", "neck": "neck_out", "head": "head_out"}


@rule("GT320", replaces=("GT321", "GT322"))
def not_in_configuration(
    message: str,
    *,
    severity: Severity = Severity.ERROR,
    where: Sequence[Where] = (),
    notes: Sequence[str] = (),
    help: str | None = None,
) -> Diagnostic:
    """The configuration that `--as` names does not exist, or cannot hold all or some of the pairs.

    `paddleclas` and `paddleocr` are fragments for the training configurations of those toolkits; a
    recipe (`-o pairs.toml`) holds any pair. Both Values of a pair must be returned by a sublayer,
    so that a hook can take them. A saved program does not keep the attribute paths of sublayers
    (`layer4.1`): name both networks as `module:callable`.

    A hook keeps one tensor per sublayer, so a sublayer that runs more than once or returns several
    tensors cannot be named. The losses of PaddleClas and PaddleOCR compare equal shapes, without an
    adapter. PaddleOCR returns only the results of `backbone`, `neck` and `head`.
    """
    return Diagnostic(
        message=message, severity=severity, where=tuple(where), notes=tuple(notes), help=help
    )


class _NoKeyError(Exception):
    """A configuration has no key for a Value; the text says why."""


@dataclass(frozen=True, slots=True)
class _Item:
    """A pair, and the keys by which a configuration names its ends."""

    pair: Pair
    keys: Both[str]


@dataclass(frozen=True, slots=True)
class _Network:
    """A network, and the attribute paths in it that mean several Values."""

    graph: Graph
    shared: frozenset[str]

    @classmethod
    def of(cls, graph: Graph) -> _Network:
        """Count what each sublayer returns, over all of its runs."""
        times = Counter(path for value in graph.values.values() for path in value.layer_outputs)
        return cls(graph, frozenset(path for path, count in times.items() if count > 1))

    @property
    def has_paths(self) -> bool:
        """Return whether attribute paths are known; in a saved program they are not."""
        return any(value.layer is not None for value in self.graph.values.values())

    def paths(self, end: End) -> list[str]:
        """List the sublayers that return a Value: the one that makes it, then the innermost."""
        value = self.graph.values.get(end.name)
        if value is None or value.layer is None:
            # A recipe may have the path where a saved program does not.
            return [] if end.layer is None else [end.layer]
        return sorted(value.layer_outputs, key=lambda path: path != value.layer)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Toolkit:
    """How a configuration names a Value and is laid out.

    `has_common_key`: its losses read one key of both networks.
    """

    key: Callable[[_Network, End, Kind], str]
    document: Callable[[PairSet, Sequence[_Item]], dict[str, _Yaml]]
    header: str
    has_common_key: bool


def export(pairs: PairSet, name: str) -> str:
    """Return pairs as a YAML fragment to paste; its comments list the pairs left out.

    `name` is `paddleclas` (`Arch` and `Loss` of a DistillationModel) or `paddleocr` (`Architecture`
    and `Loss`). `check_export` returns the pairs left out as Diagnostics.

    Raises UsageError: GT320 for another name. Raises PairError: GT320 if no pair can be written.
    """
    import yaml

    toolkit = _toolkit(name)
    items, refused = _items(pairs, toolkit)
    if not items:
        has_paths = all(_Network.of(graph).has_paths for graph in (pairs.teacher, pairs.student))
        networks = "MODULE:CALLABLE MODULE:CALLABLE --input SHAPE"
        option = "-o pairs.toml" if has_paths else f"--as {name}"
        raise PairError(
            not_in_configuration(
                "no pair can be written in this configuration",
                where=both_places(pairs.teacher, pairs.student),
                notes=tuple(refused),
                help=f"graphtool suggest-pairs {networks} {option}",
            )
        )
    comments = "".join(f"# {printable(found.message)}\n" for found in _left_out(refused))
    document = toolkit.document(pairs, items)
    write = partial(yaml.safe_dump, document, sort_keys=False, default_flow_style=None)
    body = write(allow_unicode=True)
    # YAML prints some characters that are invisible.
    is_visible = all(escaped_code(line) == line for line in body.split("\n"))
    return f"{toolkit.header}{comments}{body if is_visible else write(allow_unicode=False)}"


def check_export(pairs: PairSet, name: str) -> Report:
    """Report which pairs a configuration leaves out, and why.

    Raises UsageError: GT320 for an unknown name.
    """
    _, refused = _items(pairs, _toolkit(name))
    return Report.of(_left_out(refused))


def _left_out(refused: Mapping[str, Sequence[int]]) -> Iterator[Diagnostic]:
    for reason, ranks in refused.items():
        numbers = ", ".join(map(str, ranks))
        subject = f"pairs {numbers} are" if len(ranks) > 1 else f"pair {numbers} is"
        message = f"{subject} left out: {reason}"
        yield not_in_configuration(message, severity=Severity.WARNING)


def _toolkit(name: str) -> _Toolkit:
    if name not in _TOOLKITS:
        message = f"there is no configuration `{name}`; there are {listed(CONFIGS)}"
        raise UsageError(not_in_configuration(message, help=f"--as {CONFIGS[0]}"))
    return _TOOLKITS[name]


def _items(pairs: PairSet, toolkit: _Toolkit) -> tuple[list[_Item], Mapping[str, list[int]]]:
    """Return the pairs that a configuration can hold, and the ranks of others by the reason."""
    networks = Both(pairs.teacher, pairs.student).map(_Network.of)
    named: list[_Item] = []
    refused: dict[str, list[int]] = {}
    for pair in pairs:
        keys = _keys(pair, networks, toolkit)
        if isinstance(keys, Both):
            named.append(_Item(pair, keys))
        else:
            refused.setdefault(keys, []).append(pair.rank)
    items: list[_Item] = []
    for item in named:
        reason = _refusal(item, named, toolkit)
        if reason is None:
            items.append(item)
        else:
            refused.setdefault(reason, []).append(item.pair.rank)
    return items, refused


def _keys(pair: Pair, networks: Both[_Network], toolkit: _Toolkit) -> Both[str] | str:
    """Return the keys of both ends, or why there is none."""
    role, network = "teacher", networks.teacher
    try:
        teacher = toolkit.key(network, pair.teacher, pair.kind)
        role, network = "student", networks.student
        return Both(teacher, toolkit.key(network, pair.student, pair.kind))
    except _NoKeyError as error:
        if network.has_paths:
            return f"in the {role}, {error}"
        return f"the {role} has no attribute paths: name it as `module:callable`, not as a file"


def _refusal(item: _Item, named: Sequence[_Item], toolkit: _Toolkit) -> str | None:
    """Return why a pair with keys is left out, None where it is not."""
    pair, keys = item.pair, item.keys
    if toolkit.has_common_key and keys.teacher != keys.student:
        return f"a loss reads one key of both, not `{keys.teacher}` and `{keys.student}`"
    if pair.adapter is not None:
        return f"the configuration has no key for the adapter `{pair.adapter}`"
    if pair.relation in _SHAPES_DIFFER:
        return f"shapes differ ({pair.relation.value}) and the losses compare equal ones"
    for role in ("teacher", "student"):
        key, end = getattr(keys, role), getattr(pair, role)
        for other in named:
            if getattr(other.keys, role) == key and getattr(other.pair, role).name != end.name:
                return f"in the {role}, `{key}` would mean several Values"
    return None


def _clas_key(network: _Network, end: End, kind: Kind) -> str:
    """Return `logits`, or the path of the sublayer that a hook is put on: `blocks[2].conv`."""
    paths = network.paths(end)
    if not paths:
        raise _NoKeyError("no sublayer returns the Value")
    if kind is Kind.LOGITS:
        return "logits"
    unshared = [path for path in paths if path not in network.shared]
    if not unshared:
        raise _NoKeyError(f"`{paths[0]}` returns several Values")
    return re.sub(r"\.(\d+)(?=\.|$)", r"[\1]", unshared[0])


def _clas_document(pairs: PairSet, items: Sequence[_Item]) -> dict[str, _Yaml]:
    taps = [item.keys for item in items if item.pair.kind is not Kind.LOGITS]
    teacher, student = [keys.teacher for keys in taps], [keys.student for keys in taps]
    # With `return_patterns` a model returns a dict, without it the logits themselves.
    key = {"key": "logits"} if taps else {}
    ground_truth = {"DistillationGTCELoss": {"weight": 1.0, "model_names": ["Student"], **key}}
    return {
        "Arch": {
            "name": "DistillationModel",
            "freeze_params_list": [True, False],
            "infer_model_name": "Student",
            "models": [
                {"Teacher": _clas_model(pairs.teacher, teacher, pretrained=True)},
                {"Student": _clas_model(pairs.student, student, pretrained=False)},
            ],
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
    networks = [["Student", "Teacher"]]
    if item.pair.kind is Kind.LOGITS:
        options = {"model_name_pairs": networks, "temperature": _TEMPERATURE, **key}
        return {"DistillationKLDivLoss": {"weight": 1.0, **options}}
    return {
        "DistillationPairLoss": {
            "weight": 1.0,
            "base_loss_name": "DistanceLoss",
            "mode": "l2",
            "model_name_pairs": networks,
            "s_key": item.keys.student,
            "t_key": item.keys.teacher,
            "name": _loss_key(item.pair),
        }
    }


def _ocr_key(network: _Network, end: End, kind: Kind) -> str:
    paths = network.paths(end)
    part = next((part for part in _OCR_KEYS if part in paths), None)
    if part in network.shared:
        raise _NoKeyError(f"`{part}` returns several Values")
    if part is not None:
        return _OCR_KEYS[part]
    if paths and kind is Kind.LOGITS:
        return "head_out"
    raise _NoKeyError("the Value isn't what `backbone`, `neck` or `head` returns")


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
    shared = {"weight": 1.0, "model_name_pairs": [["Student", "Teacher"]], "key": item.keys.teacher}
    if item.pair.kind is Kind.LOGITS:
        return {"DistillationDMLLoss": {**shared, "act": "softmax", "use_log": True}}
    return {"DistillationDistanceLoss": {**shared, "mode": "l2", "name": _loss_key(item.pair)}}


def _loss_key(pair: Pair) -> str:
    """Return the key under which a loss is logged and summed: of two alike, one would be lost."""
    return f"loss_{pair.kind.value}_{pair.rank}"


def _class_name(graph: Graph) -> str:
    """Return what the source calls the network: `resnet50` of `paddle.vision.models:resnet50`."""
    return re.split(r"[/\\:]", graph.source)[-1]


_TOOLKITS = {
    "paddleclas": _Toolkit(
        key=_clas_key,
        document=_clas_document,
        header=(
            "# For a training configuration of PaddleClas. Give each network the `name` that\n"
            "# it has in ppcls.arch; the paths are those of the networks that were read.\n"
        ),
        has_common_key=False,
    ),
    "paddleocr": _Toolkit(
        key=_ocr_key,
        document=_ocr_document,
        header=(
            "# For a training configuration of PaddleOCR. Complete both Models with the\n"
            "# model_type, algorithm, Neck and Head of the networks, and add the loss on labels.\n"
        ),
        has_common_key=True,
    ),
}
CONFIGS = tuple(_TOOLKITS)
