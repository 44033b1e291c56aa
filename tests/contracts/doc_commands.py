"""The commands of README, CONTRIBUTING and docs/: found, read by their own parsers, and made small enough for a test."""

import importlib
import importlib.util
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from solvers.commands import commands

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md")))
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.M | re.S)
CALL = re.compile(r"\bpython (-m [\w.]+|[\w/]+\.py)((?:[^`|&]|&(?!&))*)")
# What a shell, a cluster or the reader would put there.
STANDS_FOR = {"$SLURM_ARRAY_TASK_ID": "0", "$SLURM_CPUS_PER_TASK": "1", "--corr C": "--corr 0.5", " …": ""}


@dataclass(frozen=True)
class Command:
    """``python -m PROGRAM WORDS`` or ``python PROGRAM WORDS``, and the page that says so."""

    page: str
    program: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        """For the names of the tests."""
        return f"{self.page}: {self.program} {shlex.join(self.words)}"


def commands_of(text: str, page: str = "") -> Iterator[Command]:
    """In blocks a command is a line (or several, joined by a backslash); in the text, what stands between backticks."""
    text = re.sub(r"\\\n\s*", " ", text)
    blocks = [body for kind, body in FENCE.findall(text) if kind not in ("python", "toml")]
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", FENCE.sub("", text))]
    for line in [line for body in blocks for line in body.splitlines()] + spans:
        for written, meant in STANDS_FOR.items():
            line = line.replace(written, meant)
        for program, rest in CALL.findall(line):
            rest = rest if rest.count('"') % 2 == 0 else rest[: rest.rindex('"')]  # within the quotes of --wrap
            yield Command(page, program.removeprefix("-m "), tuple(shlex.split(rest, comments=True)))


def all_commands() -> list[Command]:
    """Of every page, each once."""
    found = [c for page in PAGES for c in commands_of(page.read_text("utf-8"), str(page.relative_to(ROOT)))]
    return list({(c.program, c.words): c for c in found}.values())


def programs() -> list[str]:
    """Every command of the package."""
    return [f"{package}.{name}" for package in ("solvers", "sims") for name in sorted(commands(package))]


def parse(command: Command) -> None:
    """Let the program's own parser read the words; it raises SystemExit where it does not understand them."""
    importlib.import_module(command.program).make_parser().parse_args(list(command.words))


def script(path: str) -> ModuleType:
    """A module that belongs to no package, such as docs/hooks.py."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def small(command: Command) -> tuple[str, ...] | None:
    """The words with options appended that make it cheap (the last one wins); None where no rule covers the program."""
    given = set(command.words)
    match command.program:
        case "solvers.predict":
            plain = given & {"--latex", "--init", "--budget", "--help"}
            extra = () if plain else ("--init", "typical")
        case "solvers.phase":
            extra = ("--workers", "1", "--quiet", *_axes(command.words))
        case "solvers.detection":
            extra = ("--dims", "100,300")
        case "solvers.tensor_pca":
            extra = () if "--latex" in given else ("--dim", "20", "--runs", "2", "--samples", "200", "--quiet")
        case "solvers.identify":
            study = ("--graphs", "2", "--samples", "300", "--quiet")
            extra = ("--quiet",) if given & {"--data", "--digits"} else study
        case "sims.compare":
            extra = ("--init", "typical", "--dim", "30", "--runs", "2", "--samples", "1000", "--quiet")
        case "sims.network":
            extra = ("--dim", "40", "--runs", "2", "--samples", "500", "--no-theory", "--quiet")
        case "sims.levels":
            extra = ("--corr", "0.6", "--dim", "30", "--runs", "4", "--samples", "2000", "--order", "12", "--quiet")
        case "sims.complexities":
            extra = ("--dims", "8,40,44", "--runs", "2", "--samples-factor", "8", "--quiet")
        case "sims.random_features":
            extra = ("--dims", "16", "--runs", "2", "--samples-factor", "2", "--hidden", "8", "--quiet")
        case "sims.smoothing":
            extra = ("--dims", "48,64", "--runs", "4", "--samples", "1e5")
        case "sims.tensor_flow":
            extra = ("--dims", "20,24", "--runs", "4", "--quiet")
        case "sims.scaling" if "--snr" in given:
            extra = ("--dims", "20,30", "--lr", "0.3", "--runs", "2", "--hours", "9", "--quiet")
        case "sims.scaling":
            sizes = (
                ("--hidden", "8", "--dims", "40,50", "--samples", "500") if "--hidden" in given else ("--dims", "30,40")
            )
            extra = (*sizes, "--runs", "2", "--no-controls", "--keep-small", "--hours", "9", "--quiet")
        case _:
            return None
    return (*command.words, *extra)


def _axes(words: tuple[str, ...]) -> tuple[str, ...]:
    plane = words[words.index("--plane") + 1] if "--plane" in words else "corr,dim"
    x, y = plane.split(",")
    ranges = {"corr": "0.4,0.6,2", "dim": "100,1000,2", "beta-u": "0.5,1,2", "lr": "0.01,0.1,2"}
    return "--x", ranges[x], "--y", ranges[y]
