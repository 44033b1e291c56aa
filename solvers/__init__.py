"""Low-dimensional views of a model: the population ODE. Command line: ``python -m solvers.predict``."""
