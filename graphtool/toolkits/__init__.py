"""Distillation configurations of PaddleClas and PaddleOCR: write pairs into them, read pairs."""

from graphtool.toolkits.reading import is_configuration, read_recipe
from graphtool.toolkits.writing import CONFIGS, check_export, export

__all__ = ["CONFIGS", "check_export", "export", "is_configuration", "read_recipe"]
