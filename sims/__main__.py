"""List of the commands: ``python -m sims``."""

from solvers.commands import main

if __name__ == "__main__":
    raise SystemExit(main("sims"))
