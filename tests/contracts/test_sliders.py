"""Sliders of the notebooks: the first position is shown, a move draws anew in the same place, errors are seen.

Would be falsified by: a slider that redraws nothing or another position, a figure left open (shown twice), an error that is
swallowed where nothing was drawn yet, or one that leaves the old picture standing.
"""

import sys

import pytest
from matplotlib import pyplot

from solvers.sliders import slide


class Place:
    """Stands for a notebook's display area."""

    def __init__(self):
        self.shown = []

    def update(self, thing):
        self.shown.append(thing)


@pytest.fixture
def place(monkeypatch):
    display = pytest.importorskip("IPython.display")
    pytest.importorskip("ipywidgets")
    place = Place()

    def show(thing, display_id=False):
        if not display_id:
            return place.__setattr__("controls", thing)
        place.update(thing)
        return place

    monkeypatch.setattr(display, "display", show)
    return place


def test_a_move_draws_anew_in_the_same_place(place):
    from ipywidgets import IntSlider

    slide(lambda order, scale: (order, scale), order=IntSlider(3, min=1, max=9), scale=(0.0, 1.0, 0.5))
    assert place.shown == [(3, 0.5)]
    order, scale = place.controls.children
    assert (order.description, scale.description) == ("order", "scale")
    order.value, scale.value = 7, 1.0
    assert place.shown == [(3, 0.5), (7, 0.5), (7, 1.0)]


@pytest.mark.parametrize("returned", ["axes", "figure"])
def test_figures_are_closed_so_that_they_are_shown_once(place, returned):
    def draw(x):
        figure, axes = pyplot.subplots()
        axes.set_title(str(x))
        return {"axes": axes, "figure": figure}[returned]

    slide(draw, x=(0, 4))
    place.controls.children[0].value = 4
    assert [figure.axes[0].get_title() for figure in place.shown] == ["2", "4"]
    assert not pyplot.get_fignums()


def test_errors_are_seen(place):
    slide(lambda x: 1 // (x - 1), x=(2, 4))
    assert place.shown == [1 // 2]
    slider = place.controls.children[0]
    slider.min = 1
    slider.value = 1
    assert place.shown[-1].data == "ZeroDivisionError: integer division or modulo by zero"
    slider.value = 2
    assert place.shown[-1] == 1
    with pytest.raises(ZeroDivisionError):
        slide(lambda x: 1 // x, x=(0, 0))


def test_without_ipywidgets_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "IPython.display", None)
    with pytest.raises(ImportError, match=r"pip install 'downstairs\[notebooks\]'"):
        slide(lambda x: x, x=(0, 1))
