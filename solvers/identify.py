"""Recover hierarchies of latents: ``python -m solvers.identify --graphs 20 --samples 1000,10000 --plot found.png``."""

import sys
from argparse import Namespace, RawDescriptionHelpFormatter
from pathlib import Path

from solvers.options import Parser, add_output_options, check_plot_path, origin_of, require_defaults, run_command
from theory.numerals import number, whole_number

PROGRAM = "solvers.identify"
KINDS = ("tree", "dag")
STUDY = {"graphs": 20, "leaves": 8, "samples": "1000,10000,100000", "strength": 0.4, "branches": 3}
EXAMPLES = """examples:
  python -m solvers.identify --graphs 20 --leaves 8 --states 2 --samples 1000,10000,100000 --plot identification.png
  python -m solvers.identify --kind dag --leaves 10 --samples 1000,10000
  python -m solvers.identify --data answers.csv --level 0.01
  python -m solvers.identify --digits --plot digits.png
--data reads whole numbers 0, 1, 2, … below a line of names, one sample a line, and prints the recovered graph; --level is the
chance of any false rejection among all tests. Trees: every inner edge is real with chance 1 - level, edges may be missing"""


def make_parser() -> Parser:
    """All options."""
    parser = Parser(
        prog=PROGRAM,
        description="Recovery of a hierarchy of discrete latents from observed leaves, by rank tests of their tables.",
        epilog=EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    source = parser.add_argument_group("what is recovered").add_mutually_exclusive_group()
    source.add_argument("--data", type=Path, metavar="FILE.csv", help="a table of discrete variables")
    source.add_argument("--digits", action="store_true", help="blocks of scikit-learn's digits (needs scikit-learn)")
    model = parser.add_argument_group("model and tests")
    model.add_argument(
        "--kind", choices=KINDS, default=KINDS[0],
        help="tree, or dag: levels with children of one or two parents (default: %(default)s)",
    )  # fmt: skip
    model.add_argument(
        "--states", type=whole_number,
        help="states of every variable of the random graphs (default: 2); with --data, of the latents (default: the largest "
        "rank of two leaves)",
    )  # fmt: skip
    model.add_argument(
        "--level", type=number, default=0.05, help="family-wise significance level (default: %(default)s)"
    )
    study = parser.add_argument_group("random graphs")
    study.add_argument("--graphs", type=whole_number, default=STUDY["graphs"], help="how many (default: %(default)s)")
    study.add_argument("--leaves", type=whole_number, default=STUDY["leaves"], help="4 … 16 (default: %(default)s)")
    study.add_argument(
        "--samples", default=STUDY["samples"], metavar="N,N,…", help="numbers of samples (default: %(default)s)"
    )
    study.add_argument(
        "--strength", type=number, default=STUDY["strength"],
        help="least singular value of P(child | parent), 0.1 … 0.7 (default: %(default)s)",
    )  # fmt: skip
    study.add_argument(
        "--branches", type=whole_number, default=STUDY["branches"],
        help="most subtrees below a latent of a tree, 2 … 4; 2: binary trees (default: %(default)s)",
    )  # fmt: skip
    study.add_argument("--seed", type=whole_number, default=0, help="seed of everything random (default: %(default)s)")
    study.add_argument("--quiet", action="store_true", help="no progress on stderr")
    add_output_options(parser)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Parse, compute, print; returns the exit code."""
    words = make_parser().parse_args(arguments)
    return run_command(
        PROGRAM, lambda: _answer(words), "interrupted before two graphs were finished; nothing to average"
    )


def _answer(words: Namespace) -> int:
    check_plot_path(words.plot)
    if words.data is not None:
        return _answer_data(words)
    if words.digits:
        return _answer_digits(words)
    return _answer_study(words)


def _answer_data(words: Namespace) -> int:
    from solvers.identification_report import recovered_json, recovered_text
    from solvers.identification_study import Levels, Trees
    from solvers.leaf_csv import read_csv

    require_defaults(words, "--data", seed=0, **STUDY)
    table = read_csv(words.data)
    kind = Levels() if words.kind == "dag" else Trees()
    found = kind.identify(table, words.level, words.states)
    sys.stdout.write(recovered_json(found, table.samples, words.level) if words.json else recovered_text(found))
    if words.plot:
        from solvers.identification_plots import plot_recovered
        from solvers.plots import save

        save(
            plot_recovered(found, f"{int(table.samples)} samples, level {words.level:g}"), words.plot, origin_of(words)
        )
    return 0


def _answer_digits(words: Namespace) -> int:
    from solvers.digit_blocks import digit_blocks
    from solvers.identification_report import digits_json, digits_text

    require_defaults(words, "--digits", kind=KINDS[0], states=None, **STUDY)
    blocks = digit_blocks(words.level, words.seed)
    sys.stdout.write(digits_json(blocks) if words.json else digits_text(blocks))
    if words.plot:
        from solvers.identification_plots import plot_digits
        from solvers.plots import save

        save(plot_digits(blocks), words.plot, origin_of(words))
    return 0


def _answer_study(words: Namespace) -> int:
    from tqdm import tqdm

    from solvers.identification_study import IdentificationStudy, Levels, Trees, study_json, study_table
    from theory.errors import InputError

    try:
        samples = tuple(whole_number(word) for word in words.samples.split(","))
    except (ValueError, OverflowError):
        raise InputError("samples", repr(words.samples), "whole numbers, as in 1000,10000") from None
    if words.kind == "dag":
        require_defaults(words, "--kind dag", branches=STUDY["branches"])
    states = 2 if words.states is None else words.states
    study = IdentificationStudy(
        Levels() if words.kind == "dag" else Trees(words.branches),
        words.graphs, words.leaves, states, samples, words.level, words.strength, words.seed,
    )  # fmt: skip
    with tqdm(total=study.graphs, disable=True if words.quiet else None, unit="graph") as bar:
        result = study.run(bar.update)
    sys.stdout.write(study_json(result) if words.json else study_table(result))
    if words.plot:
        from solvers.identification_plots import plot_study
        from solvers.plots import save

        save(plot_study(result), words.plot, origin_of(words))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
