"""Losses that compare a teacher with a student; the teacher comes first.

Each takes Paddle Values (Variables of a legacy Program), or names in the merged Program, which must
be the current main Program, and returns a scalar Value. Everything is checked before anything is
built. The teacher gets no gradient. If unknown dims turn out to differ, the run fails. Low
precision is computed in float32. `BY_NAME` has the losses that pairs can name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from graphtool.loss_specs import named_losses
from graphtool.losses import adapters
from graphtool.losses._building import custom
from graphtool.losses.features import (
    attention,
    attention_relation,
    attention_scores,
    channel_wise,
    fsp,
    hidden_state,
    hint,
    l2,
    pkd,
    relational,
    relational_angle,
    relational_distance,
    similarity,
)
from graphtool.losses.logits import dist, dkd, kl, lskd, skd, soft_label

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
    "lskd",
    "pkd",
    "relational",
    "relational_angle",
    "relational_distance",
    "similarity",
    "skd",
    "soft_label",
]

# The losses that a recipe can name. `fsp` takes two Values of each network, all others one.
BY_NAME: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {name: globals()[name] for name in named_losses()}
)
