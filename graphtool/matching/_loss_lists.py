"""Read the lists of losses in configurations of PaddleClas and PaddleOCR."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from graphtool.diagnostics import Severity
from graphtool.matching._entry import (
    ABSENT,
    Entry,
    Loss,
    Name,
    Read,
    Unknown,
    Unread,
    Wanted,
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
from graphtool.matching._foreign_losses import CLAS, OCR, Losses, read_loss

__all__ = ["of_paddleclas", "of_paddleocr"]

_INDEX = re.compile(r"\[(\d+)\]")
_FALSE = (*ABSENT, "false", "False", "FALSE", "no", "off")
_OUTPUTS = (*ABSENT, "logits", "output")
_OCR_PARTS = {"backbone_out": "backbone", "neck_out": "neck"}
_OCR_OUTPUT = "head_out"
# Keys of losses that compare a part of what their `key` means.
_SLICES = ("maps_name", "dis_head", "index")
# Keys of losses that say which two things are compared.
_PAIRED = "model_name_pairs", "model_name_pair"
_ENDS = (("s_key", "t_key"), ("s_keys", "t_keys"), ("student_keepkeys", "teacher_keepkeys"))
_FRAME = ("weight", *_PAIRED, "key", "name", *(key for both in _ENDS for key in both))
_BASE = "base_loss_name"
_PAIR = "DistillationPairLoss"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Toolkit:
    """How a configuration names Values and losses, and whether its teacher is trained as well."""

    name: Callable[[str], Name | None]
    losses: Losses
    trains_teacher: bool


def of_paddleclas(document: Yaml) -> Iterator[Read]:
    """Read `Loss: Train:` of PaddleClas."""
    trains = _trains_teacher(table_of(document.get("Arch")))
    clas = _Toolkit(name=_clas_name, losses=CLAS, trains_teacher=trains)
    return _losses("Loss.Train", listed(document["Loss"]["Train"]), clas)


def _trains_teacher(arch: Mapping[str, Yaml]) -> bool:
    """Tell whether `freeze_params_list` leaves the teacher out, as it does where it is empty."""
    frozen = listed(arch.get("freeze_params_list"))
    for place, model in enumerate(map(table_of, listed(arch.get("models")))):
        # One made of several has a list of its own.
        if "Teacher" in model and "models" not in table_of(model["Teacher"]):
            return place >= len(frozen) or _is_false(frozen[place])
    return False


def of_paddleocr(document: Yaml) -> Iterator[Read]:
    """Read `Loss: loss_config_list:` of PaddleOCR."""
    models = table_of(table_of(document.get("Architecture")).get("Models"))
    frozen = table_of(models.get("Teacher")).get("freeze_params", True)
    ocr = _Toolkit(name=_ocr_name, losses=OCR, trains_teacher=_is_false(frozen))
    return _losses("Loss.loss_config_list", listed(document["Loss"]["loss_config_list"]), ocr)


def _is_false(given: Yaml) -> bool:
    return isinstance(given, str) and given in _FALSE


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


def _losses(where: str, entries: Sequence[Yaml], toolkit: _Toolkit) -> Iterator[Read]:
    """Read a list of losses, each a mapping of its name to its options."""
    for index, given in enumerate(entries):
        for written, options in table_of(given).items():
            place, table = f"{where}[{index}].{brief(written)}", table_of(options)
            yield from weighed(_loss(place, written, table, toolkit), table.get("weight"))
        if not table_of(given):
            yield Unread(place=f"{where}[{index}]", reason="wanted a loss with its options")


def _loss(place: str, written: str, table: Mapping[str, Yaml], toolkit: _Toolkit) -> Iterator[Read]:
    given = first_of(table, _PAIRED)
    if given is None:
        is_one = "model_names" in table or "model_name_list" in table
        reason = "compares one network with the labels" if is_one else "does not name two networks"
        severity = Severity.NOTE if is_one else Severity.WARNING
        yield Unread(place=place, reason=f"it {reason}", severity=severity)
        return
    pairs = network_pairs(given)
    # Each loss says something: aliases make long lists of losses that say nothing.
    if not pairs:
        yield Unread(place=place, reason="it does not name two networks")
        return
    loss = _loss_of(place, written, table, toolkit)
    if not isinstance(loss, Loss):
        yield loss
        return
    ends = _ends(table)
    for networks in pairs:
        roles = roles_of(networks)
        if roles is None:
            yield Unread(place=place, reason=networks_said(networks))
        elif isinstance(ends, str):
            yield Unread(place=place, reason=ends)
        elif loss.is_directed and roles[0] == "teacher":
            yield swapped(place)
        else:
            for keys in ends:
                named = dict(zip(roles, keys, strict=True))
                yield _compared(place, loss, (named["teacher"], named["student"]), toolkit)


def _loss_of(
    place: str, written: str, table: Mapping[str, Yaml], toolkit: _Toolkit
) -> Loss | Unread | Unknown:
    """Read the loss itself, and say where its teacher learns as well."""
    name, frame = (table.get(_BASE), (_BASE, *_FRAME)) if written == _PAIR else (written, _FRAME)
    if not isinstance(name, str):
        return Unread(place=place, reason=f"wanted a `{_BASE}`")
    loss = read_loss(toolkit.losses, name, table, frame)
    if loss is None:
        return Unknown(place=place, loss=brief(name), known=(*toolkit.losses,), typed="{}")
    learns = "the teacher learns as well" if toolkit.trains_teacher else None
    said = [text for text in (loss.unlike, learns) if text is not None]
    return replace(loss, unlike="; ".join(said) or None)


def _ends(table: Mapping[str, Yaml]) -> list[tuple[str, str]] | str:
    """Return the keys that a loss compares, in the order of its networks, or why there are none."""
    for first, second in _ENDS:
        if first in table or second in table:
            of_first, of_second = texts(table.get(first)), texts(table.get(second))
            if of_first is None or of_second is None or len(of_first) != len(of_second):
                return f"`{first}` and `{second}` are no lists of equal length"
            return list(zip(of_first, of_second, strict=True))
    if "student_keys" in table or "teacher_keys" in table:
        return "it learns which layers go together, and names none"
    cut = [f"`{key}: {brief(table[key])}`" for key in _SLICES if key in table]
    if cut:
        return f"it compares a part of a Value, {', '.join(cut)}"
    if table.get("multi_head", "") not in _FALSE:
        return "it compares one of several heads"
    key = table.get("key", "")
    return [(key, key)] if isinstance(key, str) else "its `key` is no text"


def _compared(place: str, loss: Loss, keys: tuple[str, str], toolkit: _Toolkit) -> Read:
    teacher, student = map(toolkit.name, keys)
    if teacher is None or student is None:
        key = keys[0] if teacher is None else keys[1]
        reason = f"which Value `{brief(key)}` is, only the code of the network knows"
        return Unread(place=place, reason=reason)
    return Entry(place=place, teacher=teacher, student=student, loss=loss)
