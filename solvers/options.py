"""Words and manners that every command line shares. Imports nothing heavy, so that --help is fast."""

import argparse
import io
import os
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from theory.numerals import number, whole_number

if TYPE_CHECKING:
    from theory.provenance import Origin

TASKS = ("mixed-cumulant", "spiked-cumulant", "teacher-student", "hierarchical")
BY_THE_WAY = ("command", "plot", "json", "latex", "quiet", "threads", "workers", "store", "hours")
PICTURES = (".png", ".pdf", ".svg")


class Parser(argparse.ArgumentParser):
    """Reports a bad argument in one line and exits with 2; whatever is printed suits the terminal's encoding."""

    def parse_args(self, *args: Any, **kwargs: Any) -> Any:
        """The first thing every command does: Greek letters become ? where stdout cannot show them."""
        from theory.provenance import command_line

        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")
        words = super().parse_args(*args, **kwargs)
        words.command = command_line(self.prog, args[0] if args else None)
        return words

    def exit(self, status: int = 0, message: str | None = None) -> None:  # type: ignore[override]
        """After --help and --version: their text may not have reached stdout yet."""
        super().exit(run_command(self.prog, lambda: status), message)

    def error(self, message: str) -> None:  # type: ignore[override]
        """One line, no usage block."""
        fail(self.prog, message)


def fail(program: str, message: str) -> None:
    """Print one line on stderr and exit with code 2."""
    sys.stderr.write(f"{program}: error: {message}\n")
    raise SystemExit(2)


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """What is learnt, and who learns it."""
    model = parser.add_argument_group("model")
    model.add_argument("--task", choices=TASKS, default=TASKS[0], help="law of the data (default: %(default)s)")
    model.add_argument("--p", type=whole_number, default=4, help="order of the cumulant, 3 … 8 (default: %(default)s)")
    model.add_argument(
        "--corr", type=number, default=0.0,
        help="correlation E[λν] of the latents; hierarchical: along each edge (default: %(default)s)",
    )  # fmt: skip
    model.add_argument(
        "--coupling", choices=("copula", "even"), default="copula",
        help="copula: ν increasing in a Gaussian correlated with λ; even: ν a function of |λ|, corr 0",
    )  # fmt: skip
    model.add_argument(
        "--latent", default="standard", metavar="RULE",
        help="law of ν: standard, positive or negative (sign of E[He_p(ν)]), gauss, radau:NODE, lobatto:NODE",
    )  # fmt: skip
    model.add_argument("--beta-m", type=number, default=0.0, help="strength of the mean spike (default: %(default)s)")
    model.add_argument("--beta-u", type=number, default=None, help="strength of the covariance spike (default: 1)")
    model.add_argument(
        "--beta-v", type=number, default=10.0, help="strength of the cumulant spike (default: %(default)s)"
    )
    model.add_argument(
        "--teacher", metavar="F",
        help="teacher-student: f* as a sum of products, e.g. 'h2(u)+0.5*h1(u)*h1(v)+h4(v)', h_k the He_k "
        "(default: h2(u)+corr*h1(u)*h1(v)+h_p(v))",
    )  # fmt: skip
    model.add_argument("--noise", type=number, default=0.0, help="standard deviation of the teacher's label noise")
    model.add_argument(
        "--hierarchy", metavar="TREE",
        help="hierarchical: tree of binary latents, parents before brackets, as in 'u(v(w),x)'; each is a spike, save those "
        "whose name begins with a capital letter",
    )  # fmt: skip
    model.add_argument(
        "--visible", metavar="NAMES",
        help="hierarchical: spikes that are seen in the variance, of strength --beta-u, as in u,x; the others are whitened "
        "and of strength --beta-v (default: the root)",
    )  # fmt: skip
    model.add_argument(
        "--activation", metavar="A",
        help="relu[:BIAS], erf, tanh, sigmoid, softplus or hermite:K=C,K=C,… with C the c_k (default: relu where it sees "
        "order p with the attractive sign, otherwise a Hermite mixture; the choice is printed)",
    )  # fmt: skip
    model.add_argument("--loss", choices=("correlation", "squared"), default="correlation")


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Rate, threshold, start, order."""
    run = parser.add_argument_group("run")
    run.add_argument(
        "--lr", default="auto",
        help="learning rate δ (step δ/d), a number or auto: the least median escape time from a random start, half the "
        "critical rate otherwise (default: %(default)s)",
    )  # fmt: skip
    run.add_argument("--threshold", type=number, default=0.3, help="overlap of weak recovery (default: %(default)s)")
    run.add_argument(
        "--order", type=whole_number, default=20, help="order of the Hermite series (default: %(default)s)"
    )
    run.add_argument(
        "--init", default="random",
        help="random (w uniform on the sphere: laws of the escape times), typical (the ODE from |α| = d^-1/2 on every spike, "
        "attracted signs) or overlaps such as u=0.05,v=0.02 (default: %(default)s)",
    )  # fmt: skip


def add_random_options(parser: argparse.ArgumentParser) -> None:
    """What only a random start needs."""
    random = parser.add_argument_group("random start")
    random.add_argument("--budget", metavar="SAMPLES", help="samples within which recovery counts, e.g. 1e9")
    random.add_argument("--seed", type=whole_number, default=0, help="seed of everything random (default: %(default)s)")


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """JSON, figure, version."""
    from theory import __version__

    output = parser.add_argument_group("output")
    output.add_argument("--json", action="store_true", help="print only the documented JSON on stdout")
    output.add_argument("--plot", type=Path, metavar="FILE", help="draw a figure (.png, .pdf or .svg)")
    parser.add_argument("--version", action="version", version=f"downstairs {__version__}")


def folder(text: str) -> Path:
    """A folder; an empty word, as of an unset variable, is none."""
    if not text:
        raise argparse.ArgumentTypeError("got ''; allowed: a folder")
    return Path(text)


def add_store_option(parser: argparse._ActionsContainer) -> None:
    """Where finished work is kept."""
    parser.add_argument(
        "--store", type=folder, metavar="DIR",
        help="keep every finished run in the folder DIR, and take from there what it has: a figure is redrawn without "
        "computing anything again",
    )  # fmt: skip


def origin_of(words: argparse.Namespace) -> "Origin":
    """The command, and the hash of all options that bear on its numbers."""
    from theory.provenance import Origin, canonical, digest

    options = {name: value for name, value in vars(words).items() if name not in BY_THE_WAY}
    plain = {name: v if isinstance(v, int | float | str | None) else str(v) for name, v in options.items()}
    return Origin(words.command, digest(canonical(plain)))


def check_plot_path(path: Path | None) -> None:
    """Refuse a figure path that cannot be written, before any work is done."""
    from theory.errors import require

    if path is None:
        return
    require(find_spec("matplotlib") is not None, "--plot", path, "nothing without Matplotlib", "pip install matplotlib")
    require(path.suffix.lower() in PICTURES, "--plot", path, "a file name ending in " + ", ".join(PICTURES))
    require(path.parent.is_dir(), "--plot", path, "a file in an existing directory", f"create {path.parent} first")
    writable = os.access(path if path.exists() else path.parent, os.W_OK) and not path.is_dir()
    require(writable, "--plot", path, "a writable file", "choose another place")


def require_defaults(words: argparse.Namespace, company: str, **defaults: object) -> None:
    """Refuse what would be silently ignored: options that mean nothing beside ``company`` must be left at their defaults."""
    from theory.errors import require

    for name, value in defaults.items():
        given = getattr(words, name)
        require(given == value, "--" + name.replace("_", "-"), given, f"nothing with {company}", "leave it out")


def run_command(program: str, command: Callable[[], int], interrupted: str = "interrupted") -> int:
    """Run a command and flush stdout; bad input, a failed write and Ctrl-C (code 130) become one line."""
    from theory.errors import InputError, require

    try:
        require(sys.stdout is not None, "stdout", "a closed stream", "an open one", "send it to /dev/null")
        code = command()
        sys.stdout.flush()
    except (InputError, ImportError) as error:
        fail(program, str(error))
    except BrokenPipeError:
        # The reader of a pipe has gone (| head): nothing is wrong.
        _discard_output()
        return 0
    except OSError as error:
        _discard_output()
        fail(program, f"{error.filename or 'stdout'}: {error.strerror or error}")
    except KeyboardInterrupt:
        sys.stderr.write(f"{program}: {interrupted}\n")
        return 130
    return code


def _discard_output() -> None:
    """What is still buffered cannot be written; the interpreter must not try again at its exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
