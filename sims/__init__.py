"""High-dimensional views and everything that runs in bulk. Command line: ``python -m sims.compare``."""
