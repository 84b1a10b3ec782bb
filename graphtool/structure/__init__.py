"""What a network is made of: resolution, stages, heads, encoder layers and cost.

Everything comes from operators and their attributes, except that a block is named after the class
in its module path.
"""

from graphtool.structure._blocks import (
    BlockPartition,
    block_names,
    blocks_of,
    layer_name,
    module_class,
)
from graphtool.structure._flow import Step
from graphtool.structure._heads import Head
from graphtool.structure._layouts import GLOBAL, Scale
from graphtool.structure._necks import Neck
from graphtool.structure._predictions import label_feeds
from graphtool.structure._stages import Stage, Tap
from graphtool.structure._structure import (
    Role,
    Section,
    Structure,
    ValueRow,
    analyse,
    split_section,
    value_row,
)
from graphtool.structure._transformer import Encoder

__all__ = [
    "GLOBAL",
    "BlockPartition",
    "Encoder",
    "Head",
    "Neck",
    "Role",
    "Scale",
    "Section",
    "Stage",
    "Step",
    "Structure",
    "Tap",
    "ValueRow",
    "analyse",
    "block_names",
    "blocks_of",
    "label_feeds",
    "layer_name",
    "module_class",
    "split_section",
    "value_row",
]
