"""Losses that compare a teacher with a student: the teacher comes first.

Each takes Paddle Values (Variables of a legacy Program) or names, looked up in the merged Program
that is the current main Program, and returns the Value of a scalar. Everything is checked before
anything is built; no gradient goes to the teacher; where dims are not known yet, the run stops if
shapes differ. Low precision is computed in float32. `BY_NAME` has those that pairs can name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pkgutil import iter_modules
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from graphtool.loss_names import named_losses
from graphtool.losses import adapters
from graphtool.losses.logits import dist, dkd, kl, skd, soft_label
from graphtool.losses.maps import attention, channel_wise, fsp, hint, l2
from graphtool.losses.own import custom
from graphtool.losses.relations import (
    relational,
    relational_angle,
    relational_distance,
    similarity,
)
from graphtool.losses.sequences import attention_relation, attention_scores, hidden_state, pkd

__all__ = [
    "BY_NAME",
    "adapters",
    "attention",
    "attention_relation",
    "attention_scores",
    "channel_wise",
    "custom",
    "dist",
    "dkd",
    "fsp",
    "hidden_state",
    "hint",
    "kl",
    "l2",
    "pkd",
    "relational",
    "relational_angle",
    "relational_distance",
    "similarity",
    "skd",
    "soft_label",
]

# A loss takes one file: each module of this package is imported, and what pairs can name is public.
for _module in iter_modules(__path__):
    if not _module.name.startswith("_"):
        import_module(f"{__name__}.{_module.name}")

# The losses that a recipe can name. `fsp` takes two Values of each side, all others one.
BY_NAME: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {name: loss.build for name, loss in named_losses().items()}
)
_unlisted = sorted(BY_NAME.keys() - set(__all__))
__all__ += _unlisted  # pyright: ignore[reportUnsupportedDunderAll]  # a checker sees `__getattr__`
globals().update(BY_NAME)

if TYPE_CHECKING:

    def __getattr__(name: str) -> Callable[..., Any]: ...
