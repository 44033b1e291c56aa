"""The errors that users see: a wrong argument (what came, what is allowed, what to do), and a run that blew up."""

from typing import Any


class InputError(ValueError):
    """A value outside what the theory or the solver can answer for; its text is one complete line."""

    def __init__(self, argument: str, got: object, allowed: str, advice: str = "") -> None:
        """Compose the line from the argument's name, the value that came, the allowed values and what to do."""
        self.argument, self.parts = argument, (argument, got, allowed, advice)
        line = f"{argument}: got {got}; allowed: {allowed}" + (f"; {advice}" if advice else "")
        super().__init__(line.replace("\n", "\\n"))

    def __reduce__(self) -> tuple[type["InputError"], tuple[Any, ...]]:
        """Errors cross the borders of processes."""
        return type(self), self.parts

    def at(self, place: str, note: str = "") -> "InputError":
        """The same with the place in front, and a note behind the advice."""
        argument, got, allowed, advice = self.parts
        return InputError(f"{place}, {argument}", got, allowed, "; ".join(filter(None, [advice, note])))


class DivergedError(ArithmeticError):
    """The weights stopped being finite."""

    def __init__(self, samples: int, lr: float) -> None:
        """Compose the line from the clock and the learning rate."""
        super().__init__(f"w is not finite after {samples} samples at lr = {lr:g}: lower the learning rate")


def require(ok: bool, argument: str, got: object, allowed: str, advice: str = "") -> None:
    """Raise ``InputError`` unless ``ok``."""
    if not ok:
        raise InputError(argument, got, allowed, advice)
