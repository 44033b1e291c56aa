"""How many samples detection needs: ``python -m solvers.detection --latent rademacher --beta 5 --plot detection.png``."""

import sys
from argparse import Namespace, RawDescriptionHelpFormatter

from solvers.options import Parser, add_output_options, check_plot_path, origin_of, run_command
from theory.numerals import number, whole_number

PROGRAM = "solvers.detection"
PRIORS = ("sphere", "rademacher")
EXAMPLES = """examples:
  python -m solvers.detection --latent rademacher --beta 5
  python -m solvers.detection --latent rademacher --beta 10.78 --prior rademacher --dims 100,1000,10000 --plot detection.png
  python -m solvers.detection --p 3 --beta 10 --degrees 4,6 --json
n(d): samples at which the squared likelihood-ratio norm (of degree <= D: its low-degree part) reaches --level; below,
no test (no polynomial test of degree D) tells the spike from noise with vanishing error. gamma_c: that norm stays bounded at
n = gamma d for gamma < gamma_c alone"""


def make_parser() -> Parser:
    """All options."""
    parser = Parser(
        prog=PROGRAM,
        description="Detection of a cumulant spike: statistical and low-degree thresholds, exact at every dimension.",
        epilog=EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    model = parser.add_argument_group("model")
    model.add_argument("--p", type=whole_number, default=4, help="order of the cumulant, 3 … 8 (default: %(default)s)")
    model.add_argument(
        "--latent", default="standard", metavar="RULE",
        help="law of ν: standard, rademacher (p = 4), positive, negative, gauss, radau:NODE, lobatto:NODE",
    )  # fmt: skip
    model.add_argument("--beta", type=number, default=5.0, help="strength of the spike (default: %(default)s)")
    model.add_argument(
        "--prior", choices=PRIORS, default=PRIORS[0], help="spike uniform on the sphere, or with entries ±1/√d"
    )
    study = parser.add_argument_group("study")
    study.add_argument(
        "--dims", default="100,300,1000,3000,10000", metavar="D,D,…", help="dimensions d (default: %(default)s)"
    )
    study.add_argument("--degrees", metavar="D,D,…", help="degrees of the low-degree norm (default: 2p)")
    study.add_argument(
        "--level", type=number, default=2.0, help="squared norm at the threshold, > 1 (default: %(default)s)"
    )
    add_output_options(parser)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Parse, compute, print; returns the exit code."""
    words = make_parser().parse_args(arguments)
    return run_command(PROGRAM, lambda: _answer(words))


def _answer(words: Namespace) -> int:
    from solvers.build import dims_from_words, latent_from_text
    from solvers.detection_study import DetectionStudy, study_json, study_table
    from theory.detection import Detection, RademacherSpike, UniformSphere
    from theory.errors import InputError

    check_plot_path(words.plot)
    latent = latent_from_text(words.latent, words.p)
    listed = str(2 * words.p) if words.degrees is None else words.degrees
    try:
        degrees = tuple(whole_number(word) for word in listed.split(","))
    except ValueError:
        raise InputError("degrees", repr(words.degrees), "whole numbers, as in 4,8") from None
    prior = RademacherSpike() if words.prior == "rademacher" else UniformSphere()
    dims = tuple(sorted(dims_from_words([words.dims])))
    study = DetectionStudy(Detection(latent, words.beta, prior), dims, degrees, words.level)
    sys.stdout.write(study_json(study) if words.json else study_table(study))
    if words.plot:
        from solvers.detection_plots import plot_detection
        from solvers.plots import save

        save(plot_detection(study), words.plot, origin_of(words))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
