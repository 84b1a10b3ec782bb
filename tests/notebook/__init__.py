"""The notebook in `examples/`: it is run, and shows what it shows."""
