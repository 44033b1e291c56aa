"""Sliders above a picture, for notebooks; the extra ``notebooks`` installs what they need."""

from collections.abc import Callable
from typing import Any

from theory.result_tables import library


def slide(draw: Callable[..., Any], **sliders: Any) -> None:
    """Show what ``draw`` returns (axes, a figure, anything a notebook shows) under sliders that have it drawn anew in place.

    ``sliders``, one for each argument of ``draw``: widgets of ipywidgets or its abbreviations, such as (low, high, step).
    Where there is no front end (nbmake, nbconvert) their first position is shown. Raises ImportError without ipywidgets, and
    what ``draw`` raises at that position; a later error is shown in the place of the picture.

    It is not ipywidgets' ``interact``, whose Output widget makes nbclient miss the end of a cell now and then: the cell then
    lasts until the time limit (jupyter/nbclient, issue 312).
    """
    shown, widgets = library("IPython.display", "notebooks"), library("ipywidgets", "notebooks")
    controls = {name: widgets.interactive.widget_from_abbrev(slider) for name, slider in sliders.items()}

    def picture() -> Any:
        return _figure(draw(**{name: control.value for name, control in controls.items()}))

    def redraw(_: Any) -> None:
        try:
            place.update(picture())
        except Exception as error:  # a callback has nobody to raise it to
            place.update(shown.Pretty(f"{type(error).__name__}: {error}"))

    for name, control in controls.items():
        control.description = control.description or name
        control.observe(redraw, "value")
    first = picture()
    shown.display(widgets.VBox(list(controls.values())))
    place = shown.display(first, display_id=True)


def _figure(picture: Any) -> Any:
    """The figure of axes, closed lest the notebook shows it a second time; anything else as it is."""
    from matplotlib import pyplot
    from matplotlib.figure import FigureBase

    figure = getattr(picture, "figure", picture)
    if not isinstance(figure, FigureBase):
        return picture
    pyplot.close(figure)
    return figure
