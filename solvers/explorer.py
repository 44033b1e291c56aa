"""One self-contained page for the lecture: ``python -m solvers.explorer -o explorer.html --open``."""

import os
import sys
from argparse import Namespace, RawDescriptionHelpFormatter
from html import escape
from importlib.resources import files
from pathlib import Path

from solvers.options import Parser, run_command

PROGRAM = "solvers.explorer"
SCRIPTS = ("integrate.js", "theory.js", "sde.js", "plot.js", "views.js", "app.js")
EXAMPLES = """examples:
  python -m solvers.explorer
  python -m solvers.explorer -o lecture.html --open
the page needs no server and asks for nothing: mail it, put it on a stick. The address of the page holds the situation it
shows, as in explorer.html#bu=1&corr=0.5&view=cloud (docs/explorer.md)"""


def make_parser() -> Parser:
    """All options."""
    parser = Parser(
        prog=PROGRAM,
        description="Write the explorer: one HTML page that integrates the population flow, with sliders and presets.",
        epilog=EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("explorer.html"), metavar="FILE",
        help="file to write, ending in .html (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--open", action="store_true", help="show it in the browser")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Parse, derive, write; returns the exit code."""
    words = make_parser().parse_args(arguments)
    return run_command(PROGRAM, lambda: _answer(words))


def _answer(words: Namespace) -> int:
    _check_path(words.output)
    write_page(words.output, page())
    sys.stdout.write(f"{words.output}: {words.output.stat().st_size / 1000:.0f} kB\n")
    if words.open:
        import webbrowser

        webbrowser.open(words.output.resolve().as_uri())
    return 0


def page() -> str:
    """The whole page: template, style, the printed model and the scripts in one string of HTML."""
    from solvers.explorer_model import model_script
    from theory import __version__

    parts = files("solvers") / "explorer_page"

    def read(name: str) -> str:
        return (parts / name).read_text(encoding="utf-8")

    scripts = "\n".join(
        [model_script(), *(f"// {name}\n" + read(name).replace('"use strict";\n', "") for name in SCRIPTS)]
    )
    filling = {
        "style": read("style.css"),
        "scripts": '"use strict";\n' + scripts,
        "origin": escape(f"downstairs {__version__}; Bardone & Goldt, ICML 2024, arXiv 2404.08602"),
    }
    text = read("template.html")
    for name, value in filling.items():
        text = text.replace("{{" + name + "}}", value)
    return text


def write_page(path: Path, text: str) -> None:
    """Whole or not at all."""
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _check_path(path: Path) -> None:
    """Refuse a place that cannot be written, before SymPy works for seconds."""
    from theory.errors import require

    require(path.suffix.lower() in (".html", ".htm"), "--output", path, "a file name ending in .html")
    require(path.parent.is_dir(), "--output", path, "a file in an existing directory", f"create {path.parent} first")
    writable = os.access(path if path.exists() else path.parent, os.W_OK) and not path.is_dir()
    require(writable, "--output", path, "a writable file", "choose another place")


if __name__ == "__main__":
    raise SystemExit(main())
