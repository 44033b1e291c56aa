"""Draw the figures of the documentation again: ``python docs/gallery.py [--minutes M] [NAME …]``.

The table of docs/gallery.md is the list: figure, command, minutes. Commands run in a temporary folder in which docs/ is the
real one, so that figures land in their place and nothing else stays.
"""

import argparse
import re
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parent
ROW = re.compile(r'^\|[^|]*<img src="([\w/-]+)\.png"[^|]*\| `([^`]+)` \| ([\d.]+) \|$', re.M)
# Files that commands speak of, and where they stand.
FILES = {"grid.toml": ("sweeps.md", "toml"), "screenshots.py": ("explorer.md", "python")}
EXAMPLES = """examples:
  python docs/gallery.py --list
  python docs/gallery.py compare smoothing
  python docs/gallery.py --minutes 1"""


@dataclass(frozen=True)
class Drawing:
    """A figure docs/NAME.png, the commands that make it, and the minutes they take on two cores."""

    name: str
    commands: tuple[tuple[str, ...], ...]
    minutes: float


def drawings(page: Path = DOCS / "gallery.md") -> list[Drawing]:
    """The rows of the table, in its order."""
    return [
        Drawing(name, tuple(tuple(shlex.split(words)) for words in commands.split(" && ")), float(minutes))
        for name, commands, minutes in ROW.findall(page.read_text(encoding="utf-8"))
    ]


def block_of(page: str, kind: str) -> str:
    """The first block of this kind on a page."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", (DOCS / page).read_text(encoding="utf-8"), re.S | re.M)[0]


def draw(drawing: Drawing) -> int:
    """Run its commands; the code of the first that fails, or 0."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "docs").symlink_to(DOCS.resolve())
        for _, *words in drawing.commands:
            for name in FILES.keys() & set(words):
                (Path(folder) / name).write_text(block_of(*FILES[name]), encoding="utf-8")
            if code := subprocess.run([sys.executable, *words], cwd=folder, check=False).returncode:
                return code
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Choose, draw, and name those that failed."""
    parser = argparse.ArgumentParser(
        prog="docs/gallery.py",
        description="Draw the figures of the documentation again.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="figures without .png (default: all)")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="leave out those that take longer")
    parser.add_argument("--list", action="store_true", help="print names and commands, draw nothing")
    words = parser.parse_args(arguments)
    known = {d.name: d for d in drawings()}
    if unknown := [name for name in words.names if name not in known]:
        parser.error(f"no such figure: {', '.join(unknown)}; there are {', '.join(known)}")
    chosen = [known[name] for name in words.names or known if known[name].minutes <= words.minutes]
    failed = []
    for d in chosen:
        shown = " && ".join(shlex.join(command) for command in d.commands)
        print(f"{d.name} ({d.minutes:g} min): {shown}", flush=True)  # noqa: T201
        if not words.list and draw(d):
            failed.append(d.name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)  # noqa: T201
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
