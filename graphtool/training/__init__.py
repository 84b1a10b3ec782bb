"""What a training loop needs: parameters from files, and inference models that train again."""

from graphtool.training.parameters import Loaded, load_parameters
from graphtool.training.trainable import Trainable, for_training

__all__ = ["Loaded", "Trainable", "for_training", "load_parameters"]
