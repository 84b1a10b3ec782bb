"""Losses that compare a teacher with a student; the teacher comes first.

Each takes Paddle Values (Variables of a legacy Program), or names in the merged Program, which must
be the current main Program, and returns a scalar Value. Everything is checked before anything is
built. The teacher gets no gradient. If unknown dims turn out to differ, the run fails. Low
precision is computed in float32. `BY_NAME` has the losses that pairs can name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pkgutil import iter_modules
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from graphtool.loss_specs import named_losses
from graphtool.losses import adapters
from graphtool.losses._custom import custom
from graphtool.losses.logits import dist, dkd, kl, skd, soft_label
from graphtool.losses.maps import attention, channel_wise, fsp, hint, l2
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

# A loss is one file: each module here is imported, and every loss that pairs can name is public.
for _module in iter_modules(__path__):
    if not _module.name.startswith("_"):
        import_module(f"{__name__}.{_module.name}")

# The losses that a recipe can name. `fsp` takes two Values of each network, all others one.
BY_NAME: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {name: loss.build for name, loss in named_losses().items()}
)
_unlisted = sorted(BY_NAME.keys() - set(__all__))
__all__ += _unlisted  # pyright: ignore[reportUnsupportedDunderAll]  # type checkers use `__getattr__`
globals().update(BY_NAME)

if TYPE_CHECKING:

    def __getattr__(name: str) -> Callable[..., Any]: ...
