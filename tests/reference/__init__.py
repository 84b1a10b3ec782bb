"""The reference in `examples/`: what the docstrings of public names say, written by a command."""
