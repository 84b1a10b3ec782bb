"""What the losses of PaddleClas, PaddleOCR and PaddleSlim are called here, and how they differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeAlias

from graphtool.diagnostics import listed
from graphtool.matching._entry import ABSENT, Loss, Yaml, brief

__all__ = ["CLAS", "OCR", "SLIM", "SLIM_STATIC", "Losses", "read_loss"]


_Same: TypeAlias = Mapping[str, tuple[str | None, str | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Foreign:
    """A loss of a toolkit, and `ours`, which comes next to it; None where nothing does.

    `unlike` says why the two are never the same. Else they are with the right options: `same` has,
    for each, what the toolkit takes where it is left out, and what ours computes; a pair says none
    of the other `options` that the toolkit takes. One that `is_directed` is not the same with
    student and teacher swapped.
    """

    ours: str | None = None
    unlike: str | None = None
    same: _Same = field(default_factory=dict[str, tuple[str | None, str | None]])
    options: tuple[str, ...] = ()
    is_directed: bool = False


Losses: TypeAlias = Mapping[str, _Foreign]

# Aliases give very many losses very many of them.
_MOST_STRANGE = 100
_UNKNOWN = "is not a loss of graphtool"
_ELSE = "computes something else"
_DISTANCE = {"mode": ("l2", "l2"), "reduction": ("mean", "mean")}


def _lacked(*options: str, is_directed: bool = False) -> _Foreign:
    return _Foreign(unlike=_UNKNOWN, options=options, is_directed=is_directed)


def _mutual(*options: str) -> _Foreign:
    """Take both directions of the divergence, where ours has the teacher's."""
    return _Foreign(ours="kl", unlike=_UNKNOWN, options=options)


def _relational(*options: str) -> _Foreign:
    """Divide distances by a mean that takes in the zeros, and weigh angles as much as them."""
    return _Foreign(ours="relational", unlike=_ELSE, options=options)


# PaddleClas at d178931, ppcls/loss.
_OF_CLAS = {
    "CE": _Foreign(
        ours="soft_label", same={"epsilon": (None, None)}, options=("reduction",), is_directed=True
    ),
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
    "DML": _mutual("act", "weight_ratio", "sum_across_class_dim", "eps"),
    "Distance": _Foreign(ours="l2", same={**_DISTANCE, "act": (None, None)}, options=("delta",)),
    "KLDiv": _Foreign(ours="kl", same={"temperature": ("4", "4")}, is_directed=True),
    "RKD": _relational("target_size"),
    "SKD": _Foreign(
        ours="skd",
        unlike="adds the loss on labels",
        options=("temperature", "multiplier", "alpha", "use_target_as_gt"),
        is_directed=True,
    ),
    "WSL": _lacked("temperature", "use_target_as_gt", is_directed=True),
}
CLAS: Losses = {
    **{f"Distillation{name}Loss": loss for name, loss in _OF_CLAS.items()},
    **{f"{name}Loss": loss for name, loss in _OF_CLAS.items()},
    "AFDLoss": _lacked("student_keys", "teacher_keys", "s_shapes", "t_shapes", "qk_dim"),
    "MGDLoss": _lacked("student_channels", "teacher_channels", "alpha_mgd", "lambda_mgd"),
    # Of another loss, by its `base_loss_name`.
    "DistillationPairLoss": _lacked(),
    "PEFDLoss": _lacked("student_channel", "teacher_channel", "num_projectors", "mode"),
}
_HEADS = ("multi_head", "dis_head", "maps_name")
# PaddleOCR 2.7, ppocr/losses: sums over the steps of a text, and masks, where ours have means.
OCR: Losses = {
    "DistillCTCLogits": _lacked("reduction"),
    "DistillationDKDLoss": _Foreign(
        ours="dkd",
        unlike=_ELSE,
        options=("temperature", "alpha", "beta", *_HEADS),
        is_directed=True,
    ),
    "DistillationDMLLoss": _mutual("act", "use_log", *_HEADS),
    "DistillationDilaDBLoss": _lacked(
        "balance_loss", "main_loss_type", "alpha", "beta", "ohem_ratio", "eps"
    ),
    "DistillationDistanceLoss": _Foreign(ours="l2", same=_DISTANCE, options=("delta",)),
    "DistillationKLDivLoss": _Foreign(ours="kl", unlike=_ELSE, options=_HEADS, is_directed=True),
    "DistillationNRTRDMLLoss": _mutual("act", "use_log", *_HEADS),
    "DistillationSERDMLLoss": _mutual("act", "use_log", "num_classes"),
    "DistillationVQADistanceLoss": _Foreign(
        ours="l2", unlike="leaves out what is masked", options=(*_DISTANCE, "index", "delta")
    ),
}
_LAYERS = {"temperature": ("1", "1"), "align_params": (None, None)}
# PaddleSlim 2.6, paddleslim/dygraph/dist/losses.
SLIM: Losses = {
    "CELoss": _Foreign(
        ours="soft_label",
        same={
            **_LAYERS,
            "epsilon": (None, None),
            "label_act": ("softmax", "softmax"),
            "axis": ("-1", "-1"),
        },
        is_directed=True,
    ),
    "DMLLoss": _mutual("act", "axis", *_LAYERS),
    "DistanceLoss": _Foreign(ours="l2", same={**_LAYERS, **_DISTANCE}, options=("delta",)),
    "KLLoss": _Foreign(
        ours="kl",
        unlike="takes the mean over classes as well",
        options=("act", "axis", "reduction", *_LAYERS),
        is_directed=True,
    ),
    "L1Loss": _lacked("reduction", *_LAYERS),
    "MSELoss": _Foreign(ours="l2", same={**_LAYERS, "reduction": ("mean", "mean")}),
    "RKDLoss": _relational("eps", *_LAYERS),
    "RKdAngle": _lacked(*_LAYERS),
    "RkdDistance": _lacked("eps", *_LAYERS),
    "SmoothL1Loss": _lacked("reduction", "delta", *_LAYERS),
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


def read_loss(
    known: Losses, written: str, options: Mapping[str, Yaml], frame: tuple[str, ...]
) -> Loss | None:
    """Say which of our losses stands for one with its options, and in what it differs.

    `frame` are the keys beside those options that say what is compared, and how much it weighs.
    None for a loss that the toolkit does not have.
    """
    found = known.get(written)
    if found is None:
        return None
    takes = (*frame, *found.same, *found.options)
    strange = (brief(key) for key in options if key not in takes)
    return Loss(
        ours=found.ours,
        unlike=_unlike(found, written, options),
        strange=tuple(islice(strange, _MOST_STRANGE)),
        takes=takes,
        is_directed=found.is_directed,
        may_adapt=found.ours is None or _plain(options.get("align_params")) is not None,
    )


def _unlike(found: _Foreign, written: str, options: Mapping[str, Yaml]) -> str | None:
    given = {key: options.get(key, theirs) for key, (theirs, _) in found.same.items()}
    differ = [key for key, (_, ours) in found.same.items() if _plain(given[key]) != _plain(ours)]
    given |= {key: options[key] for key in found.options if key in options}
    unsaid = [f"{key}: {brief(given[key])}" for key in given if key in (*differ, *found.options)]
    if found.unlike is None:
        return f"`{written}` has {listed(unsaid)}, which is ignored" if unsaid else None
    also = f" and has {listed(unsaid)}, which is ignored" if unsaid else ""
    return f"`{written}` {found.unlike}{also}"


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
