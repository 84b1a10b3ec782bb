"""Read the files of models, without Paddle: `.json`, `.pdmodel`, `__model__` and weights."""
