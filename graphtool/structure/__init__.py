"""What a network is made of: resolution, stages, heads, encoder layers and cost.

Everything here comes from operators and their attributes. Names are read in one place alone: a
block is called by the class in its module path.
"""

from graphtool.structure._claims import Claims, blocks_of
from graphtool.structure._labels import label_feeds
from graphtool.structure._names import block_names, layer_name, module_class
from graphtool.structure._necks import Neck
from graphtool.structure._outputs import Head
from graphtool.structure._probabilities import Normalised, normalised
from graphtool.structure._resolution import GLOBAL, Scale
from graphtool.structure._rows import Row, row_of
from graphtool.structure._sections import Section, divided
from graphtool.structure._stages import Stage
from graphtool.structure._statistics import statistics_of
from graphtool.structure._step import Step
from graphtool.structure._structure import Role, Structure, analyse
from graphtool.structure._taps import Tap
from graphtool.structure._transformer import Encoder
from graphtool.structure._vocabulary import (
    CONVOLUTIONS,
    JOINS,
    METRICS,
    NORMS,
    POOLS,
    PROBABILITIES,
    PRODUCTS,
    RECURRENT,
    REDUCTIONS,
    RESIZES,
    ends_in_activation,
    is_told,
    is_training,
    is_training_type,
    is_update,
    kind_of,
    kind_of_type,
    reaches_outside,
)

__all__ = [
    "CONVOLUTIONS",
    "GLOBAL",
    "JOINS",
    "METRICS",
    "NORMS",
    "POOLS",
    "PROBABILITIES",
    "PRODUCTS",
    "RECURRENT",
    "REDUCTIONS",
    "RESIZES",
    "Claims",
    "Encoder",
    "Head",
    "Neck",
    "Normalised",
    "Role",
    "Row",
    "Scale",
    "Section",
    "Stage",
    "Step",
    "Structure",
    "Tap",
    "analyse",
    "block_names",
    "blocks_of",
    "divided",
    "ends_in_activation",
    "is_told",
    "is_training",
    "is_training_type",
    "is_update",
    "kind_of",
    "kind_of_type",
    "label_feeds",
    "layer_name",
    "module_class",
    "normalised",
    "reaches_outside",
    "row_of",
    "statistics_of",
]
