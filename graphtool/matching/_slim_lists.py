"""Read the lists of Values and of layers in configurations of PaddleSlim."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import cast

from graphtool.matching._entry import (
    ABSENT,
    Entry,
    Name,
    Read,
    Unread,
    Yaml,
    known_loss,
    listed,
    networks_said,
    order_of,
    table_of,
    texts,
    weighed,
)

__all__ = ["of_auto_compression", "of_layers"]

_TEACHER_PREFIX = re.compile(r"teacher1?_")


def of_auto_compression(document: Yaml) -> Iterator[Read]:
    """Read the nodes of PaddleSlim's automatic compression, in groups of one loss each."""
    table = table_of(document["Distillation"])
    key = next((key for key in ("node", "distill_node_pair") if listed(table.get(key))), None)
    if key is None:
        reason = "it names no `node`: PaddleSlim chooses one itself"
        yield Unread(place="Distillation", reason=reason)
        return
    nodes = listed(table[key])
    groups = nodes if isinstance(nodes[0], list) else [nodes]
    place = f"Distillation.{key}"
    for index, group in enumerate(groups):
        where = place if groups[0] is nodes else f"{place}[{index}]"
        loss = _nth(table.get("loss", table.get("distill_loss")), index, "l2")
        weight = _nth(table.get("alpha", table.get("distill_lambda")), index, "1.0")
        yield from weighed(_slim_group(where, group, loss), weight)


def _nth(given: Yaml, index: int, default: str) -> Yaml:
    """Return what one group has of an option: its own in a list, or that of all."""
    if isinstance(given, list):
        several = cast("list[Yaml]", given)
        return several[index] if index < len(several) else default
    return default if given is None or given in ABSENT else given


def _slim_group(place: str, group: Yaml, loss: Yaml) -> Iterator[Read]:
    names = texts(group)
    if names is None or not isinstance(loss, str):
        yield Unread(place=place, reason="names of Values and the name of a loss were wanted")
        return
    if loss.startswith("fsp"):
        yield Unread(place=place, reason="`fsp` compares four Values, and the list has pairs")
        return
    if not _TEACHER_PREFIX.match(names[0]):
        # Of the same network: PaddleSlim puts the prefix before each.
        pairs = [(name, name) for name in names]
    elif len(names) % 2 == 0:
        pairs = list(zip(names[::2], names[1::2], strict=True))
    else:
        yield Unread(place=place, reason=f"{len(names)} names are no pairs")
        return
    known, is_same = known_loss(loss, "l2")
    for teacher, student in pairs:
        bare = _TEACHER_PREFIX.sub("", teacher, count=1)
        yield Entry(
            place=place,
            written=loss,
            teacher=Name(teacher, tuple(dict.fromkeys((bare, teacher)))),
            student=Name(student, (student,)),
            loss=known,
            is_same=is_same,
        )


def of_layers(document: Yaml) -> Iterator[Read]:
    """Read `DistillConfig`, as PaddleSlim writes it for networks of the dynamic graph."""
    for number, part in enumerate(document):
        for index, given in enumerate(listed(table_of(part).get("DistillConfig"))):
            place, table = f"[{number}].DistillConfig[{index}]", table_of(given)
            written = table.get("loss_function")
            loss = written if isinstance(written, str) else ""
            networks = table.get("model_name_pairs", [["student_0", "teacher_0"]])
            entries = _slim_pairs(place, loss, networks, listed(table.get("layers")))
            yield from weighed(entries, table.get("weight"))


def _slim_pairs(place: str, loss: str, networks: Yaml, layers: Sequence[Yaml]) -> Iterator[Read]:
    pairs = [networks] if texts(networks) else listed(networks)
    # Each place says something: aliases make long lists of those that say nothing.
    if not pairs or not layers:
        yield Unread(place=place, reason="`model_name_pairs` and `layers` were wanted")
    for pair in pairs if layers else ():
        order = order_of(pair)
        for index, given in enumerate(layers):
            where, layer = f"{place}.layers[{index}]", table_of(given)
            names = texts(layer.get("layers_name")) or []
            if order is None:
                yield Unread(place=where, reason=networks_said(pair))
            elif len(names) != 2:
                yield Unread(place=where, reason="`layers_name` with two names was wanted")
            elif "input" in (texts(layer.get("io")) or []):
                yield Unread(place=where, reason="it compares what goes into a layer, not a result")
            else:
                student, teacher = names if order == "student teacher" else reversed(names)
                known, is_same = known_loss(loss, layer.get("mode", "l2"))
                yield Entry(
                    place=where,
                    written=loss,
                    teacher=Name(teacher, (teacher,)),
                    student=Name(student, (student,)),
                    loss=known,
                    is_same=is_same,
                )
