"""The guides in `examples/`: what they run is run, what they print is printed."""
