"""What a network is made of: resolution, stages, heads, encoder layers and cost.

Everything here comes from operators and their attributes; names are never read.
"""

from graphtool.structure._outputs import Head
from graphtool.structure._resolution import GLOBAL, Scale
from graphtool.structure._stages import Stage
from graphtool.structure._structure import Role, Structure, analyse
from graphtool.structure._transformer import Encoder
from graphtool.structure._vocabulary import (
    is_training,
    is_training_type,
    is_update,
    kind_of,
    kind_of_type,
)

__all__ = [
    "GLOBAL",
    "Encoder",
    "Head",
    "Role",
    "Scale",
    "Stage",
    "Structure",
    "analyse",
    "is_training",
    "is_training_type",
    "is_update",
    "kind_of",
    "kind_of_type",
]
