"""Formulas as one would write them on a board: leading orders first, the rest as O(|α|^n)."""

from collections.abc import Callable

import sympy as sp

LEADING_DEGREES = 2
NAMES = {sp.Symbol("corr", real=True): r"\mathrm{corr}"}


def leading_terms(poly: sp.Poly, n_degrees: int = LEADING_DEGREES) -> tuple[list[tuple[sp.Expr, sp.Expr]], int | None]:
    """(coefficient, monomial) pairs of the lowest ``n_degrees`` total degrees, and the degree of what is left out."""
    terms = sorted(poly.terms(), key=lambda term: (sum(term[0]), tuple(-i for i in term[0])))
    terms = [(index, c) for index, c in terms if c != 0]
    degrees = sorted({sum(index) for index, _ in terms})
    kept, rest = degrees[:n_degrees], degrees[n_degrees:]
    monomials = [
        (coefficient, sp.Mul(*(g**i for g, i in zip(poly.gens, index, strict=True))))
        for index, coefficient in terms
        if sum(index) in kept
    ]
    return monomials, (rest[0] if rest else None)


def as_sum(poly: sp.Poly, show: Callable[[sp.Expr, sp.Expr], str], rest: Callable[[int], str]) -> str:
    """Leading terms joined with their signs."""
    terms, left_out = leading_terms(poly)
    text = " + ".join(show(c, m) for c, m in terms) or "0"
    if left_out is not None:
        text += " + " + rest(left_out)
    return text.replace("+ -", "- ")


def polynomial_text(poly: sp.Poly) -> str:
    """Plain text with numbers to four digits, e.g. ``0.05495*alpha_v^3 + O(alpha^5)``."""
    return as_sum(
        poly,
        lambda c, m: f"{float(c):.4g}" + ("" if m == 1 else f"*{m}".replace("**", "^")),
        lambda n: f"O(alpha^{n})",
    )


def polynomial_latex(poly: sp.Poly) -> str:
    """LaTeX with the coefficients as they are, numbers to four digits."""

    def show(c: sp.Expr, m: sp.Expr) -> str:
        shown = sp.N(c, 4) if c.is_number else sp.factor_terms(c)
        coefficient = sp.latex(shown, mul_symbol="\\,", symbol_names=NAMES)
        if sp.sympify(c, strict=True).is_Add:
            coefficient = rf"\left({coefficient}\right)"
        return coefficient if m == 1 else rf"{coefficient}\,{sp.latex(m)}"

    return as_sum(poly, show, lambda n: rf"O(|\alpha|^{{{n}}})")
