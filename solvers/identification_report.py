"""One recovered hierarchy, and the digits, in words and as JSON."""

from math import isinf

from solvers.digit_blocks import NAMES, Check, DigitBlocks, regions
from solvers.identification import Recovered
from solvers.tables import json_text
from theory.results import Array


def recovered_text(found: Recovered) -> str:
    """The tree or graph, line by line."""
    arrow = "->" if found.graph.is_directed() else "--"
    lines = [f"latents    {len(found.latents)}, tests of rank <= {found.states}"]
    for latent in found.latents:
        near = found.graph.successors(latent) if found.graph.is_directed() else found.graph.neighbors(latent)
        lines.append(f"{latent:<10} ({found.latent_states[latent]} states) {arrow} {', '.join(sorted(near))}")
    if not found.graph.is_directed():
        lines.append("direction  not a property of the leaves' law: any latent can be the root")
    lines += [f"undecided  {line}" for line in found.undetermined]
    lines += [f"misfit     {line}" for line in found.misfits]
    return "\n".join(lines) + "\n"


def recovered_json(found: Recovered, samples: float, level: float) -> str:
    """``{"schema": 1, "samples", "level", "leaves", "edges", "directed", "states", "undetermined", "misfits"}``."""
    return json_text({
        "schema": 1, "samples": None if isinf(samples) else int(samples), "level": level, "leaves": list(found.leaves),
        "directed": found.graph.is_directed(), "edges": sorted(sorted(e) if not found.graph.is_directed() else list(e)
                                                               for e in found.graph.edges),
        "states": {"rank": found.states, **found.latent_states},
        "undetermined": list(found.undetermined), "misfits": list(found.misfits),
    })  # fmt: skip


def _checks(blocks: DigitBlocks) -> dict[str, dict[str, Check]]:
    return {
        "rank tests": {"contiguity": blocks.contiguity(blocks.tree), "stability": blocks.stability("rank tests")},
        "information": {"contiguity": blocks.contiguity(blocks.baseline), "stability": blocks.stability("information")},
    }


def digits_text(blocks: DigitBlocks) -> str:
    """The verdict on the tree, the regions, and the two checks beside the baseline."""
    gone, quartets = blocks.refuted
    lines = [
        f"data       {len(blocks.states)} images of scikit-learn's digits, 16 blocks of 2 × 2 pixels, above median or not",
        f"verdict    a tree of two-state latents: {gone} of {quartets} quartets have no pairing of rank <= 2 "
        f"(family-wise level {blocks.level:g})" + ("; refuted" if gone else "; not refuted"),
        f"certain    {len(blocks.verdict.latents) - 1} inner edges by the sound rule",
        "regions    of the least refuted hierarchy: " + "; ".join(_names(r) for r in _ordered(blocks.tree)),
    ]
    for method, checks in _checks(blocks).items():
        for what, check in checks.items():
            lines.append(
                f"{what:<10} {method}: {check.share:.2f} of the regions, null {check.null:.2f}, p = {check.p_value:.3g}"
            )
    return "\n".join(lines) + "\n"


def digits_json(blocks: DigitBlocks) -> str:
    """``{"schema": 1, "images", "level", "refuted_quartets", "quartets", "regions", "checks"}``."""
    gone, quartets = blocks.refuted
    return json_text({
        "schema": 1, "images": len(blocks.states), "level": blocks.level, "refuted_quartets": gone, "quartets": quartets,
        "certain_edges": len(blocks.verdict.latents) - 1,
        "regions": [[NAMES[v] for v in sorted(region)] for region in _ordered(blocks.tree)],
        "checks": {
            method: {what: vars(check) for what, check in checks.items()} for method, checks in _checks(blocks).items()
        },
    })  # fmt: skip


def _ordered(tree: Array) -> list[frozenset[int]]:
    return sorted(regions(tree), key=lambda r: (len(r), sorted(r)))


def _names(region: frozenset[int]) -> str:
    return "+".join(NAMES[v] for v in sorted(region))
