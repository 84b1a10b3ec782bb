"""Read the lists of losses in configurations of PaddleClas and PaddleOCR."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from graphtool.matching._entry import (
    ABSENT,
    Entry,
    Name,
    Read,
    Unread,
    Wanted,
    Yaml,
    brief,
    known_loss,
    listed,
    networks_said,
    order_of,
    table_of,
    texts,
    weighed,
)

__all__ = ["of_paddleclas", "of_paddleocr"]

_INDEX = re.compile(r"\[(\d+)\]")
_FALSE = (*ABSENT, "false", "False", "FALSE", "no", "off")
_OUTPUTS = (*ABSENT, "logits", "output")
_OCR_PARTS = {"backbone_out": "backbone", "neck_out": "neck"}
_OCR_OUTPUT = "head_out"
# Keys of losses that compare a part of what their `key` means.
_SLICES = ("maps_name", "dis_head")


def of_paddleclas(document: Yaml) -> Iterator[Read]:
    """Read `Loss: Train:` of PaddleClas."""
    return _losses("Loss.Train", listed(document["Loss"]["Train"]), _clas_name)


def of_paddleocr(document: Yaml) -> Iterator[Read]:
    """Read `Loss: loss_config_list:` of PaddleOCR."""
    entries = listed(document["Loss"]["loss_config_list"])
    return _losses("Loss.loss_config_list", entries, _ocr_name)


def _clas_name(key: str) -> Name | None:
    """Return what PaddleClas hands out by a key: the logits, or a sublayer as `blocks[2].conv`."""
    if key in _OUTPUTS:
        return Name(key, wanted=Wanted.OUTPUT)
    return Name(key, tuple(dict.fromkeys((key, _INDEX.sub(r".\1", key)))))


def _ocr_name(key: str) -> Name | None:
    """Return what PaddleOCR hands out by a key, None where only its code knows."""
    if key in (*ABSENT, _OCR_OUTPUT):
        return Name(key, ("head",), Wanted.OUTPUT)
    part = _OCR_PARTS.get(key)
    return None if part is None else Name(key, (part,), Wanted.PART)


def _losses(
    where: str, entries: Sequence[Yaml], name: Callable[[str], Name | None]
) -> Iterator[Read]:
    """Read a list of losses, each a mapping of its name to its options."""
    for index, given in enumerate(entries):
        for written, options in table_of(given).items():
            place, table = f"{where}[{index}].{written}", table_of(options)
            yield from weighed(_loss(place, written, table, name), table.get("weight"))
        if not table_of(given):
            yield Unread(place=f"{where}[{index}]", reason="a loss with its options was wanted")


def _loss(
    place: str, written: str, table: Mapping[str, Yaml], name: Callable[[str], Name | None]
) -> Iterator[Read]:
    given = table.get("model_name_pairs", table.get("model_name_pair"))
    if given is None:
        is_one = "model_names" in table or "model_name_list" in table
        reason = "compares one network with the labels" if is_one else "names no two networks"
        yield Unread(place=place, reason=f"it {reason}", on_labels=is_one)
        return
    pairs = [given] if texts(given) else listed(given)
    # Each loss says something: aliases make long lists of losses that say nothing.
    if not pairs:
        yield Unread(place=place, reason="it names no two networks")
        return
    ends = _ends(table)
    for networks in pairs:
        order = order_of(networks)
        if order is None:
            yield Unread(place=place, reason=networks_said(networks))
        elif isinstance(ends, str):
            yield Unread(place=place, reason=ends)
        else:
            yield from (_compared(place, written, table, key, name) for key in ends)


def _ends(table: Mapping[str, Yaml]) -> list[tuple[str, str]] | str:
    """Return the keys of teacher and student that a loss compares, or why there are none."""
    for ours, theirs in (
        ("t_key", "s_key"),
        ("t_keys", "s_keys"),
        ("teacher_keepkeys", "student_keepkeys"),
    ):
        if ours in table or theirs in table:
            teacher, student = texts(table.get(ours)), texts(table.get(theirs))
            if teacher is None or student is None or len(teacher) != len(student):
                return f"`{ours}` and `{theirs}` are no lists of equal length"
            return list(zip(teacher, student, strict=True))
    if "student_keys" in table or "teacher_keys" in table:
        return "it learns which layers go together, and names none"
    cut = [f"`{key}: {brief(table[key])}`" for key in _SLICES if key in table]
    if cut:
        return f"it compares a part of a Value, {', '.join(cut)}"
    if table.get("multi_head", "") not in _FALSE:
        return "it compares one of several heads"
    key = table.get("key", "")
    return [(key, key)] if isinstance(key, str) else "its `key` is no text"


def _compared(
    place: str,
    written: str,
    table: Mapping[str, Yaml],
    keys: tuple[str, str],
    name: Callable[[str], Name | None],
) -> Read:
    teacher, student = map(name, keys)
    if teacher is None or student is None:
        key = keys[0] if teacher is None else keys[1]
        reason = f"which Value `{brief(key)}` is, only the code of the network knows"
        return Unread(place=place, reason=reason)
    base = table.get("base_loss_name", written)
    said = base if isinstance(base, str) else written
    loss, is_same = known_loss(said, table.get("mode", "l2"))
    return Entry(
        place=place, written=said, teacher=teacher, student=student, loss=loss, is_same=is_same
    )
