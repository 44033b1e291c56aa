"""The one error that users see: which argument, what came, what is allowed, what to do."""


class InputError(ValueError):
    """A value outside what the theory or the solver can answer for; its text is one complete line."""

    def __init__(self, argument: str, got: object, allowed: str, advice: str = "") -> None:
        """Compose the line from the argument's name, the value that came, the allowed values and what to do."""
        self.argument = argument
        line = f"{argument}: got {got}; allowed: {allowed}"
        super().__init__(f"{line}; {advice}" if advice else line)


def require(ok: bool, argument: str, got: object, allowed: str, advice: str = "") -> None:
    """Raise ``InputError`` unless ``ok``."""
    if not ok:
        raise InputError(argument, got, allowed, advice)
