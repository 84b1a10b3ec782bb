"""Write pairs as a `DistillationModel` configuration of PaddleClas or PaddleOCR."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
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


_Keyed: TypeAlias = tuple[Pair, Both[str]]


def export(pairs: PairSet, name: str) -> str:
    """Return pairs as a YAML fragment to paste; its comments list the pairs left out.

    `name` is `paddleclas` (`Arch` and `Loss` of a DistillationModel) or `paddleocr` (`Architecture`
    and `Loss`). `check_export` returns the pairs left out as Diagnostics.

    Raises UsageError: GT320 for another name. Raises PairError: GT320 if no pair can be written.
    """
    import yaml

    keyed, refused = _keyed(pairs, name)
    if not keyed:
        has_paths = _has_paths(pairs.teacher) and _has_paths(pairs.student)
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
    document = _DOCUMENTS[name](pairs, keyed)
    write = partial(yaml.safe_dump, document, sort_keys=False, default_flow_style=None)
    body = write(allow_unicode=True)
    # YAML prints some characters that are invisible.
    is_visible = all(escaped_code(line) == line for line in body.split("\n"))
    return f"{_HEADERS[name]}{comments}{body if is_visible else write(allow_unicode=False)}"


def check_export(pairs: PairSet, name: str) -> Report:
    """Report which pairs a configuration leaves out, and why.

    Raises UsageError: GT320 for an unknown name.
    """
    return Report.of(_left_out(_keyed(pairs, name)[1]))


def _left_out(refused: Mapping[str, Sequence[int]]) -> Iterator[Diagnostic]:
    for reason, ranks in refused.items():
        numbers = ", ".join(map(str, ranks))
        subject = f"pairs {numbers} are" if len(ranks) > 1 else f"pair {numbers} is"
        message = f"{subject} left out: {reason}"
        yield not_in_configuration(message, severity=Severity.WARNING)


def _keyed(pairs: PairSet, name: str) -> tuple[list[_Keyed], Mapping[str, list[int]]]:
    """Return the pairs that a configuration can hold with their keys, and why it lacks others.

    Raises UsageError: GT320 for an unknown name.
    """
    if name not in CONFIGS:
        message = f"there is no configuration `{name}`; there are {listed(CONFIGS)}"
        raise UsageError(not_in_configuration(message, help=f"--as {CONFIGS[0]}"))
    key_of = _clas_key if name == "paddleclas" else _ocr_key
    graphs = Both(pairs.teacher, pairs.student)
    # How many Values each sublayer returns, over all of its runs.
    counts = graphs.map(
        lambda graph: Counter(
            path for value in graph.values.values() for path in value.layer_outputs
        )
    )
    named: list[_Keyed] = []
    refused: defaultdict[str, list[int]] = defaultdict(list)
    for pair in pairs:
        sides = zip(
            ("teacher", "student"), graphs, (pair.teacher, pair.student), counts, strict=True
        )
        keys: list[str] = []
        for role, graph, end, times in sides:
            key, problem = key_of(_paths(graph, end), times, pair.kind)
            if problem is not None:
                unknown = f"the {role} has no attribute paths: name it as `module:callable`"
                has_paths = _has_paths(graph)
                reason = f"in the {role}, {problem}" if has_paths else f"{unknown}, not as a file"
                refused[reason].append(pair.rank)
                break
            keys.append(key)
        else:
            named.append((pair, Both(*keys)))
    kept: list[_Keyed] = []
    for pair, both in named:
        reason = _refusal(pair, both, named, has_common_key=name == "paddleocr")
        if reason is None:
            kept.append((pair, both))
        else:
            refused[reason].append(pair.rank)
    return kept, refused


def _refusal(
    pair: Pair, keys: Both[str], named: Sequence[_Keyed], *, has_common_key: bool
) -> str | None:
    """Return why a pair with keys is left out, None where it is not."""
    if has_common_key and keys.teacher != keys.student:
        return f"a loss reads one key of both, not `{keys.teacher}` and `{keys.student}`"
    if pair.adapter is not None:
        return f"the configuration has no key for the adapter `{pair.adapter}`"
    if pair.relation in _SHAPES_DIFFER:
        return f"shapes differ ({pair.relation.value}) and the losses compare equal ones"
    for role in ("teacher", "student"):
        key, end = getattr(keys, role), getattr(pair, role)
        for other, others in named:
            if getattr(others, role) == key and getattr(other, role).name != end.name:
                return f"in the {role}, `{key}` would mean several Values"
    return None


def _has_paths(graph: Graph) -> bool:
    """Return whether attribute paths are known; in a saved program they are not."""
    return any(value.layer is not None for value in graph.values.values())


def _paths(graph: Graph, end: End) -> list[str]:
    """List the sublayers that return a Value: the one that makes it, then the innermost."""
    value = graph.values.get(end.name)
    if value is None or value.layer is None:
        # A recipe may have the path where a saved program does not.
        return [] if end.layer is None else [end.layer]
    return sorted(value.layer_outputs, key=lambda path: path != value.layer)


def _clas_key(paths: Sequence[str], times: Counter[str], kind: Kind) -> tuple[str, str | None]:
    """Return `logits`, or the path of the sublayer to hook, `blocks[2].conv`; else why not."""
    if not paths:
        return "", "no sublayer returns the Value"
    if kind is Kind.LOGITS:
        return "logits", None
    unshared = [path for path in paths if times[path] < 2]
    if not unshared:
        return "", f"`{paths[0]}` returns several Values"
    return re.sub(r"\.(\d+)(?=\.|$)", r"[\1]", unshared[0]), None


def _ocr_key(paths: Sequence[str], times: Counter[str], kind: Kind) -> tuple[str, str | None]:
    part = next((part for part in _OCR_KEYS if part in paths), None)
    if part is not None:
        return _OCR_KEYS[part], f"`{part}` returns several Values" if times[part] > 1 else None
    if paths and kind is Kind.LOGITS:
        return "head_out", None
    return "", "the Value isn't what `backbone`, `neck` or `head` returns"


def _clas_document(pairs: PairSet, keyed: Sequence[_Keyed]) -> dict[str, _Yaml]:
    taps = [keys for pair, keys in keyed if pair.kind is not Kind.LOGITS]
    # With `return_patterns` a model returns a dict, without it the logits themselves.
    key = {"key": "logits"} if taps else {}
    losses: list[_Yaml] = [
        {"DistillationGTCELoss": {"weight": 1.0, "model_names": ["Student"], **key}}
    ]
    networks = [["Student", "Teacher"]]
    for pair, keys in keyed:
        if pair.kind is Kind.LOGITS:
            options = {"model_name_pairs": networks, "temperature": _TEMPERATURE, **key}
            losses.append({"DistillationKLDivLoss": {"weight": 1.0, **options}})
        else:
            options = {
                "weight": 1.0,
                "base_loss_name": "DistanceLoss",
                "mode": "l2",
                "model_name_pairs": [["Student", "Teacher"]],
                "s_key": keys.student,
                "t_key": keys.teacher,
                "name": _loss_key(pair),
            }
            losses.append({"DistillationPairLoss": options})
    models: list[_Yaml] = []
    for role, graph, paths in (
        ("Teacher", pairs.teacher, [keys.teacher for keys in taps]),
        ("Student", pairs.student, [keys.student for keys in taps]),
    ):
        patterns = {"return_patterns": list(dict.fromkeys(paths))} if paths else {}
        options = {"name": _class_name(graph), "pretrained": role == "Teacher", **patterns}
        models.append({role: options})
    return {
        "Arch": {
            "name": "DistillationModel",
            "freeze_params_list": [True, False],
            "infer_model_name": "Student",
            "models": models,
        },
        "Loss": {"Train": losses},
    }


def _ocr_document(pairs: PairSet, keyed: Sequence[_Keyed]) -> dict[str, _Yaml]:
    losses: list[_Yaml] = []
    for pair, keys in keyed:
        shared = {"weight": 1.0, "model_name_pairs": [["Student", "Teacher"]], "key": keys.teacher}
        if pair.kind is Kind.LOGITS:
            losses.append({"DistillationDMLLoss": {**shared, "act": "softmax", "use_log": True}})
        else:
            options = {**shared, "mode": "l2", "name": _loss_key(pair)}
            losses.append({"DistillationDistanceLoss": options})
    models = {
        role: {
            "pretrained": None,
            "freeze_params": role == "Teacher",
            "return_all_feats": True,
            "Backbone": {"name": _class_name(graph)},
        }
        for role, graph in (("Teacher", pairs.teacher), ("Student", pairs.student))
    }
    return {
        "Architecture": {
            "name": "DistillationModel",
            "algorithm": "Distillation",
            "Models": models,
        },
        "Loss": {"name": "CombinedLoss", "loss_config_list": losses},
    }


def _loss_key(pair: Pair) -> str:
    """Return the key under which a loss is logged and summed: of two alike, one would be lost."""
    return f"loss_{pair.kind.value}_{pair.rank}"


def _class_name(graph: Graph) -> str:
    """Return what the source calls the network: `resnet50` of `paddle.vision.models:resnet50`."""
    return re.split(r"[/\\:]", graph.source)[-1]


_DOCUMENTS = {"paddleclas": _clas_document, "paddleocr": _ocr_document}
_HEADERS = {
    "paddleclas": (
        "# For a training configuration of PaddleClas. Give each network the `name` that\n"
        "# it has in ppcls.arch; the paths are those of the networks that were read.\n"
    ),
    "paddleocr": (
        "# For a training configuration of PaddleOCR. Complete both Models with the\n"
        "# model_type, algorithm, Neck and Head of the networks, and add the loss on labels.\n"
    ),
}
CONFIGS = tuple(_HEADERS)
