"""List of the commands: ``python -m solvers``."""

from solvers.commands import main

if __name__ == "__main__":
    raise SystemExit(main("solvers"))
