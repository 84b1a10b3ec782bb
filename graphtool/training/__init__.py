"""Train, evaluate, checkpoint and export Programs, and make inference models trainable again."""

from graphtool.training.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from graphtool.training.evaluation import Evaluation, for_test
from graphtool.training.exporting import Exported, export_student
from graphtool.training.minimizing import minimize
from graphtool.training.parameters import Loaded, load_parameters
from graphtool.training.trainable import Trainable, for_training

__all__ = [
    "Checkpoint",
    "Evaluation",
    "Exported",
    "Loaded",
    "Trainable",
    "export_student",
    "for_test",
    "for_training",
    "load_checkpoint",
    "load_parameters",
    "minimize",
    "save_checkpoint",
]
