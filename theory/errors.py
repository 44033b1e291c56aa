"""The errors that users see: a wrong argument (what came, what is allowed, what to do), and a run that blew up."""


class InputError(ValueError):
    """A value outside what the theory or the solver can answer for; its text is one complete line."""

    def __init__(self, argument: str, got: object, allowed: str, advice: str = "") -> None:
        """Compose the line from the argument's name, the value that came, the allowed values and what to do."""
        self.argument = argument
        line = f"{argument}: got {got}; allowed: {allowed}"
        super().__init__(f"{line}; {advice}" if advice else line)


class DivergedError(ArithmeticError):
    """The weights stopped being finite."""

    def __init__(self, samples: int, lr: float) -> None:
        """Compose the line from the clock and the learning rate."""
        super().__init__(f"w is not finite after {samples} samples at lr = {lr:g}: lower the learning rate")


def require(ok: bool, argument: str, got: object, allowed: str, advice: str = "") -> None:
    """Raise ``InputError`` unless ``ok``."""
    if not ok:
        raise InputError(argument, got, allowed, advice)
