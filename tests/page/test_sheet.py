import pytest

from cspine.page.panels import spread
from cspine.page.sheet import Ink, fit, text_width_mm, wrap, wrap_all

INK = Ink(8.0)


def test_no_wrapped_line_is_wider_than_its_column():
    text = "The slices are thick; fractures can be missed. " * 8 + "W" * 300
    lines = wrap(text, 60.0, INK)
    assert max(text_width_mm(line, INK) for line in lines) <= 60.0
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


def test_points_that_do_not_fit_end_with_a_line_that_says_so():
    lines = wrap_all(["one two three " * 30, "never shown"], 50.0, INK, 4, "more elsewhere")
    assert len(lines) == 4
    assert lines[-1] == "more elsewhere"
    assert wrap_all(["short"], 50.0, INK, 4, "more elsewhere") == ["• short"]


def test_a_long_headline_is_set_smaller_but_not_below_its_limit():
    long = "Fracture suspected at C1, C3, C5 and C7. " * 2
    fitted = fit(long, 150.0, Ink(18.0), smallest=6.0)
    assert fitted.size < 18.0
    assert text_width_mm(long, fitted) <= 151.0
    assert fit(long * 9, 150.0, Ink(18.0), smallest=12.0).size == 12.0
    assert fit("short", 150.0, Ink(18.0), smallest=12.0).size == 18.0


def test_labels_are_moved_apart_and_stay_in_their_column():
    assert spread([10.0, 11.0, 30.0], 5.0, 0.0, 40.0) == pytest.approx([10.0, 15.0, 30.0])
    assert spread([38.0, 39.0], 5.0, 0.0, 40.0) == pytest.approx([35.0, 40.0])
    assert spread([], 5.0, 0.0, 40.0) == []
    crowded = spread([20.0] * 9, 10.0, 0.0, 40.0)
    assert crowded == sorted(crowded)
    assert crowded[0] >= 0.0
    assert crowded[-1] <= 40.0
