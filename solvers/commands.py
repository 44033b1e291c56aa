"""The commands of a package, found in its files: what ``python -m solvers`` and ``python -m sims`` list and run.

A command is a module whose ``PROGRAM`` is its own name. The sources are read, not imported: a list needs nothing of what the
commands need.
"""

import ast
import re
import sys
from argparse import RawDescriptionHelpFormatter
from importlib import import_module
from pathlib import Path

from solvers.options import Parser, fail

HINT = "python -m {0}.NAME --help shows its options and examples; python -m {0} NAME is the same as python -m {0}.NAME"


def commands(package: str) -> dict[str, str]:
    """Names of the commands of ``solvers`` or ``sims``, sorted, each with the one line that its parser describes it by."""
    found = {}
    for path in sorted((Path(__file__).resolve().parents[1] / package).glob("*.py")):
        source = path.read_text(encoding="utf-8")
        if re.search(rf'^PROGRAM = "{package}\.{path.stem}"', source, re.MULTILINE):
            found[path.stem] = _description(ast.parse(source))
    return found


def main(package: str, arguments: list[str] | None = None) -> int:
    """List the commands, or run the one that is named with the words behind it; returns the exit code."""
    known = commands(package)
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in known:
        code: int = import_module(f"{package}.{name}").main(rest)
        return code
    if name not in ("-h", "--help"):
        fail(package, f"command: got {name!r}; allowed: {', '.join(known)}")
    width = max(map(len, known))
    lines = [f"  {name:<{width}}  {line}" for name, line in known.items()]
    listing = "\n".join(["commands:", *lines, HINT.format(package)])
    parser = Parser(
        package, f"python -m {package} NAME ...", epilog=listing, formatter_class=RawDescriptionHelpFormatter
    )
    parser.parse_args(["--help"])
    return 0


def _description(module: ast.Module) -> str:
    """What the module's parser is described by, or the first line of its docstring."""
    function = next(n for n in module.body if isinstance(n, ast.FunctionDef) and n.name == "make_parser")
    for node in ast.walk(function):
        if isinstance(node, ast.keyword) and node.arg == "description" and isinstance(node.value, ast.Constant):
            return str(node.value.value)
    return (ast.get_docstring(module) or "").partition("\n")[0]
