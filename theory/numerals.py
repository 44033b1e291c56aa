"""Numbers as people type them: stricter than ``float`` and ``int``, which read 1_000 and digits of every script."""

from theory.errors import InputError


def number(text: str) -> float:
    """A number in ASCII digits, as in 0.5, -2 or 1e-3. Raises ValueError."""
    if not text.isascii() or "_" in text:
        raise ValueError(f"{text!r} is not a number")
    return float(text)


def whole_number(text: str) -> int:
    """A number without a fraction: 1000 and 1e3, not 1.5. Raises ValueError."""
    value = number(text)
    if not value.is_integer():
        raise ValueError(f"{text!r} is not a whole number")
    # Long seeds would lose digits as floats.
    return int(text) if text.strip().lstrip("+-").isdigit() else int(value)


def numbers_from_text(argument: str, text: str) -> tuple[float, ...]:
    """``3,2,1``. Raises InputError, which names the argument."""
    try:
        return tuple(number(word) for word in text.split(","))
    except ValueError:
        raise InputError(argument, repr(text), "numbers, as in 3,2,1") from None


def whole_numbers_from_text(argument: str, text: str) -> tuple[int, ...]:
    """``100,1e3``. Raises InputError, which names the argument."""
    try:
        return tuple(whole_number(word) for word in text.split(","))
    except (ValueError, OverflowError):
        raise InputError(argument, repr(text), "whole numbers, as in 100,1e3") from None
