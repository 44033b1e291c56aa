"""Formulas as one would write them on a board: leading orders first, the rest as O(|α|^n)."""

from collections.abc import Callable

import sympy as sp

LEADING_DEGREES = 2
NAMES = {sp.Symbol("corr", real=True): r"\mathrm{corr}"}


def leading_terms(poly: sp.Poly, cut: int | None) -> tuple[list[tuple[sp.Expr, sp.Expr]], int | None]:
    """(coefficient, monomial) pairs of the lowest total degrees, and the degree from which terms are left out.

    ``cut``: degree from which a truncated series is incomplete, None for a complete one.
    """
    terms = sorted(poly.terms(), key=lambda term: (sum(term[0]), tuple(-i for i in term[0])))
    terms = [(index, c) for index, c in terms if c != 0 and (cut is None or sum(index) < cut)]
    degrees = sorted({sum(index) for index, _ in terms})
    kept, rest = degrees[:LEADING_DEGREES], degrees[LEADING_DEGREES:]
    monomials = [
        (coefficient, sp.Mul(*(g**i for g, i in zip(poly.gens, index, strict=True))))
        for index, coefficient in terms
        if sum(index) in kept
    ]
    return monomials, (rest[0] if rest else cut)


def as_sum(poly: sp.Poly, cut: int | None, show: Callable[[sp.Expr, sp.Expr], str], rest: Callable[[int], str]) -> str:
    """Leading terms joined with their signs."""
    terms, left_out = leading_terms(poly, cut)
    parts = [show(c, m) for c, m in terms] + ([] if left_out is None else [rest(left_out)])
    return " + ".join(parts or ["0"]).replace("+ -", "- ")


def polynomial_text(poly: sp.Poly, cut: int | None = None) -> str:
    """Plain text with numbers to four digits, e.g. ``0.05495*alpha_v^3 + O(alpha^5)``."""
    return as_sum(
        poly,
        cut,
        lambda c, m: f"{float(c):.4g}" + ("" if m == 1 else f"*{m}".replace("**", "^")),
        lambda n: f"O(alpha^{n})",
    )


def polynomial_latex(poly: sp.Poly, cut: int | None = None) -> str:
    """LaTeX with the coefficients as they are, numbers to four digits."""

    def show(c: sp.Expr, m: sp.Expr) -> str:
        shown = sp.N(c, 4) if c.is_number else sp.factor_terms(c)
        coefficient = sp.latex(shown, mul_symbol="\\,", symbol_names=NAMES)
        if sp.sympify(c, strict=True).is_Add:
            coefficient = rf"\left({coefficient}\right)"
        return coefficient if m == 1 else rf"{coefficient}\,{sp.latex(m)}"

    return as_sum(poly, cut, show, lambda n: rf"O(|\alpha|^{{{n}}})")
