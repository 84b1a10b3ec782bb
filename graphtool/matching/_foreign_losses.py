"""What the losses of PaddleClas, PaddleOCR and PaddleSlim are called here, and how they differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from graphtool.matching._entry import ABSENT, Loss, Yaml, brief

__all__ = ["CLAS", "OCR", "SLIM", "SLIM_STATIC", "Losses", "read_loss"]


_Same: TypeAlias = Mapping[str, tuple[str | None, str | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Foreign:
    """A loss of a toolkit, and `ours`, which comes next to it; None where nothing does.

    `unlike` says why the two are never the same. Else they are with the right options: `same` has,
    for each, what the toolkit takes where it is left out, and what ours computes. One that
    `is_directed` is not the same with student and teacher swapped.
    """

    ours: str | None = None
    unlike: str | None = None
    same: _Same = field(default_factory=dict[str, tuple[str | None, str | None]])
    is_directed: bool = False


Losses: TypeAlias = Mapping[str, _Foreign]

_NONE_OF_OURS = "is none of graphtool's losses"
_ELSE = "computes something else"
_LACKED = _Foreign(unlike=_NONE_OF_OURS)
# Both directions of the divergence, where ours has the teacher's.
_MUTUAL = _Foreign(ours="kl", unlike=_NONE_OF_OURS)
# Distances are divided by a mean that takes in the zeros; angles weigh as much as distances.
_RELATIONAL = _Foreign(ours="relational", unlike=_ELSE)
_DISTANCE = {"mode": ("l2", "l2"), "reduction": ("mean", "mean")}

# By its name without `Distillation` before it and `Loss` behind it. PaddleClas at d178931,
# ppcls/loss.
CLAS: Losses = {
    "CE": _Foreign(ours="soft_label", same={"epsilon": (None, None)}, is_directed=True),
    "DIST": _Foreign(ours="dist", same={"beta": ("1", "1"), "gamma": ("1", "1")}),
    "DKD": _Foreign(
        ours="dkd",
        same={
            "temperature": ("1", "4"),
            "alpha": ("1", "1"),
            "beta": ("1", "8"),
            "use_target_as_gt": ("false", "true"),
        },
        is_directed=True,
    ),
    "DML": _MUTUAL,
    "Distance": _Foreign(ours="l2", same={**_DISTANCE, "act": (None, None)}),
    "KLDiv": _Foreign(ours="kl", same={"temperature": ("4", "1")}, is_directed=True),
    "RKD": _RELATIONAL,
    "SKD": _Foreign(ours="skd", unlike="adds the loss on labels", is_directed=True),
    "WSL": _Foreign(unlike=_NONE_OF_OURS, is_directed=True),
}
# PaddleOCR 2.7, ppocr/losses: sums over the steps of a text, and masks, where ours have means.
OCR: Losses = {
    "DKD": _Foreign(ours="dkd", unlike=_ELSE, is_directed=True),
    "DML": _MUTUAL,
    "Distance": _Foreign(ours="l2", same=_DISTANCE),
    "KLDiv": _Foreign(ours="kl", unlike=_ELSE, is_directed=True),
    "NRTRDML": _MUTUAL,
    "SERDML": _MUTUAL,
    "VQADistance": _Foreign(ours="l2", unlike="leaves out what is masked"),
}
_LAYERS = {"temperature": ("1", "1"), "align_params": (None, None)}
# PaddleSlim 2.6, paddleslim/dygraph/dist/losses.
SLIM: Losses = {
    "CE": _Foreign(
        ours="soft_label",
        same={
            **_LAYERS,
            "epsilon": (None, None),
            "label_act": ("softmax", "softmax"),
            "axis": ("-1", "-1"),
        },
        is_directed=True,
    ),
    "DML": _MUTUAL,
    "Distance": _Foreign(ours="l2", same={**_LAYERS, **_DISTANCE}),
    "KL": _Foreign(ours="kl", unlike="takes the mean over classes as well", is_directed=True),
    "MSE": _Foreign(ours="l2", same={**_LAYERS, "reduction": ("mean", "mean")}),
    "RKD": _RELATIONAL,
}
# PaddleSlim 2.6, paddleslim/dist/single_distiller.py; the names of its earlier releases as well.
SLIM_STATIC: Losses = {
    # Its divergence is of probabilities where the logarithm of one belongs.
    "dkd": _Foreign(ours="dkd", unlike=_ELSE),
    "l2": _Foreign(ours="l2"),
    "l2_loss": _Foreign(ours="l2"),
    "skd": _Foreign(ours="skd"),
    "soft_label": _Foreign(ours="soft_label"),
    "soft_label_loss": _Foreign(ours="soft_label"),
}


def read_loss(known: Losses, written: str, options: Mapping[str, Yaml]) -> Loss:
    """Say which of our losses stands for one with its options, and in what it differs."""
    short = written.removeprefix("Distillation").removesuffix("Loss")
    found = known.get(written, known.get(short, _LACKED))
    return Loss(
        ours=found.ours,
        unlike=_unlike(found, written, options),
        is_directed=found.is_directed,
        may_adapt=found.ours is None or _plain(options.get("align_params")) is not None,
    )


def _unlike(found: _Foreign, written: str, options: Mapping[str, Yaml]) -> str | None:
    if not written:
        return "it names no loss"
    if found.unlike is not None:
        return f"`{brief(written)}` {found.unlike}"
    given = {key: options.get(key, theirs) for key, (theirs, _) in found.same.items()}
    differ = [key for key, (_, ours) in found.same.items() if _plain(given[key]) != _plain(ours)]
    said = ", ".join(f"`{key}: {brief(given[key])}`" for key in differ)
    return f"`{brief(written)}` has {said}, which a pair does not say" if said else None


def _plain(given: Yaml) -> Yaml:
    """Return what two spellings of one option have in common: `1.0` and `1`, `True` and `true`."""
    if given is None or given in ABSENT:
        return None
    if not isinstance(given, str):
        return given
    try:
        return float(given)
    except ValueError:
        return given.lower()
