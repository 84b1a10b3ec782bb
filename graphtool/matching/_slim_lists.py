"""Read the lists of Values and of layers in configurations of PaddleSlim."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import cast

from graphtool.matching._entry import (
    ABSENT,
    Entry,
    Name,
    Read,
    Unknown,
    Unread,
    Yaml,
    brief,
    first_of,
    listed,
    network_pairs,
    networks_said,
    roles_of,
    swapped,
    table_of,
    texts,
    weighed,
)
from graphtool.matching._foreign_losses import SLIM, SLIM_STATIC, read_loss

__all__ = ["of_auto_compression", "of_layers"]

_TEACHER_PREFIX = re.compile(r"teacher1?_")
_NODES = "node", "distill_node_pair"
_LOSSES = "loss", "distill_loss"
_WEIGHTS = "alpha", "distill_lambda"
# What else stands beside them: where the teacher is.
_FRAME = (
    *(*_NODES, *_LOSSES, *_WEIGHTS, "merge_feed"),
    *("teacher_model_dir", "teacher_model_filename", "teacher_params_filename"),
)
_LAYER_FRAME = "loss_function", "model_name_pairs", "weight", "layers", "layers_name", "io", "idx"


def of_auto_compression(document: Yaml) -> Iterator[Read]:
    """Read the nodes of PaddleSlim's automatic compression, in groups of one loss each."""
    table = table_of(document["Distillation"])
    key = next((key for key in _NODES if listed(table.get(key))), None)
    if key is None:
        reason = "it names no `node`: PaddleSlim chooses one itself"
        yield Unread(place="Distillation", reason=reason)
        return
    nodes = listed(table[key])
    groups = nodes if isinstance(nodes[0], list) else [nodes]
    place = f"Distillation.{key}"
    for index, group in enumerate(groups):
        where = place if groups[0] is nodes else f"{place}[{index}]"
        loss = _nth(first_of(table, _LOSSES), index, "l2")
        weight = _nth(first_of(table, _WEIGHTS), index, "1.0")
        yield from weighed(_slim_group(where, group, loss, table), weight)


def _nth(given: Yaml, index: int, default: str) -> Yaml:
    """Return what one group has of an option: its own in a list, else that of all."""
    if isinstance(given, list):
        several = cast("list[Yaml]", given)
        # A list that is too short is no answer: neither a loss nor a number.
        return several[index] if index < len(several) else []
    return default if given is None or given in ABSENT else given


def _slim_group(place: str, group: Yaml, loss: Yaml, table: Mapping[str, Yaml]) -> Iterator[Read]:
    names = texts(group)
    if names is None or not isinstance(loss, str):
        yield Unread(place=place, reason="wanted names of Values and the name of a loss")
        return
    if loss.startswith("fsp"):
        yield Unread(place=place, reason="`fsp` compares four Values, and the list has pairs")
        return
    known = read_loss(SLIM_STATIC, loss, table, _FRAME)
    if known is None:
        yield Unknown(place=place, loss=brief(loss), known=tuple(SLIM_STATIC), typed="loss: {}")
        return
    if not _TEACHER_PREFIX.match(names[0]):
        # Of the same network: PaddleSlim puts the prefix before each.
        pairs = [(name, name) for name in names]
    elif len(names) % 2 == 0:
        pairs = list(zip(names[::2], names[1::2], strict=True))
    else:
        yield Unread(place=place, reason=f"{len(names)} names are not pairs")
        return
    for teacher, student in pairs:
        bare = _TEACHER_PREFIX.sub("", teacher, count=1)
        yield Entry(
            place=place,
            teacher=Name(teacher, tuple(dict.fromkeys((bare, teacher)))),
            student=Name(student, (student,)),
            loss=known,
        )


def of_layers(document: Yaml) -> Iterator[Read]:
    """Read `DistillConfig`, as PaddleSlim writes it for networks of the dynamic graph."""
    for number, part in enumerate(document):
        for index, given in enumerate(listed(table_of(part).get("DistillConfig"))):
            place, table = f"[{number}].DistillConfig[{index}]", table_of(given)
            pairs = network_pairs(table.get("model_name_pairs", [["student_0", "teacher_0"]]))
            layers = listed(table.get("layers"))
            # Each place says something: aliases make long lists of those that say nothing.
            if not pairs or not layers:
                reason = "`model_name_pairs` and `layers` were wanted"
                yield Unread(place=place, reason=reason)
                continue
            for at, layer in enumerate(layers):
                where = f"{place}.layers[{at}]"
                # What stands beside the list holds for all of it.
                options = {**table_of(layer), **table}
                found = (_slim_pair(where, options, pair) for pair in pairs)
                yield from weighed(found, options.get("weight"))


def _slim_pair(place: str, options: Mapping[str, Yaml], networks: Yaml) -> Read:
    roles, names = roles_of(networks), texts(options.get("layers_name")) or []
    written = options.get("loss_function")
    if not isinstance(written, str):
        return Unread(place=place, reason="wanted a `loss_function`")
    loss = read_loss(SLIM, written, options, _LAYER_FRAME)
    if loss is None:
        typed = "loss_function: {}"
        return Unknown(place=place, loss=brief(written), known=tuple(SLIM), typed=typed)
    if roles is None:
        return Unread(place=place, reason=networks_said(networks))
    if len(names) != 2:
        return Unread(place=place, reason="wanted `layers_name` with two names")
    # PaddleSlim looks at the first letter.
    if any(text.startswith("i") for text in texts(options.get("io")) or []):
        return Unread(place=place, reason="it compares what goes into a layer, not a result")
    if set(texts(options.get("idx")) or []) - {*ABSENT}:
        return Unread(place=place, reason="it compares one of several results of a layer")
    if loss.is_directed and roles[0] == "teacher":
        return swapped(place)
    ends = {role: Name(name, (name,)) for role, name in zip(roles, names, strict=True)}
    return Entry(place=place, teacher=ends["teacher"], student=ends["student"], loss=loss)
