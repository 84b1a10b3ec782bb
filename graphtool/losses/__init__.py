"""Losses that compare a teacher with a student: the teacher comes first.

Each takes Paddle Values (Variables of a legacy Program) or names, looked up in the merged Program
that is the current main Program, and returns the Value of a scalar. Everything is checked before
anything is built; no gradient goes to the teacher; where dims are not known yet, the run stops if
shapes differ. Low precision is computed in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

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

_RECIPE = (
    *(attention, attention_relation, attention_scores, channel_wise, dist, dkd, fsp, hidden_state),
    *(hint, kl, l2, pkd, relational, similarity, skd, soft_label),
)
# The losses that a recipe can name. `fsp` takes two Values of each side, all others one.
BY_NAME: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {loss.__name__: loss for loss in _RECIPE}
)
