"""What tests of figures share: the style, the words of a figure, and that it is drawn the same twice."""

import io
from collections.abc import Callable, Iterator

import matplotlib.pyplot as plt
import pytest
from matplotlib.figure import Figure

from facelib.plots.style import use_style


@pytest.fixture(autouse=True)
def style() -> Iterator[None]:
    use_style()
    yield
    assert plt.get_fignums() == []  # a figure left open would be shown twice in a notebook


@pytest.fixture(scope="session")
def texts() -> Callable[[Figure], str]:
    """All words of a figure."""

    def words(figure: Figure) -> str:
        figure.canvas.draw()
        return " | ".join(text.get_text() for text in figure.findobj(plt.Text) if text.get_text())

    return words


@pytest.fixture(scope="session")
def assert_drawn_the_same_twice() -> Callable[[Callable[[], Figure]], None]:
    """Checks that a function draws the same bytes at its second call."""

    def check(draw: Callable[[], Figure]) -> None:
        written = []
        for _ in range(2):
            buffer = io.BytesIO()
            draw().savefig(buffer, format="svg", metadata={"Date": None})
            written.append(buffer.getvalue())
        assert written[0] == written[1] and len(written[0]) > 1000

    return check
