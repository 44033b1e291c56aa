"""Symbols and vocabulary of the theory: laws of the data, learners, population loss, exponents.

Import from the modules (``from theory.tasks import MixedCumulant``); this package imports nothing by itself,
so that a command line that only prints its help stays fast.
"""

__version__ = "0.1.0"
