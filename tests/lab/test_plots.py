"""Figures hold what they are given, with labels."""

from collections.abc import Iterator

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy
import pytest
import torch

from lib.lab import plots


@pytest.fixture(autouse=True)
def _no_window() -> Iterator[None]:
    mpl.use("Agg")
    yield
    plt.close("all")


def test_plain_axes_carry_their_labels_and_no_box() -> None:
    _, axes = plt.subplots()
    assert plots.plain(axes, x="time (s)", y="loss", title="t") is axes
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == ("time (s)", "loss", "t")
    assert not axes.spines["top"].get_visible()


def test_curves_draw_a_line_per_variant_and_the_reference() -> None:
    figure = plots.curves({"a": [1, 2, 3], "b": [3, 2, 1]}, x="step", y="loss", reference=2.0)
    (axes,) = figure.axes
    assert [line.get_label() for line in axes.lines] == ["a", "b", "reference"]
    assert list(axes.lines[0].get_xdata()) == [0, 1, 2]  # type: ignore[arg-type]
    assert list(axes.lines[1].get_ydata()) == [3, 2, 1]  # type: ignore[arg-type]


def test_curves_stand_at_the_places_given_on_the_axes_given() -> None:
    figure, (left, right) = plt.subplots(1, 2)
    assert plots.curves({"a": [5, 6]}, [1.0, 0.5], x="ratio", y="ms", axes=right, reference=[1, 2]) is figure
    assert not left.lines
    assert [list(line.get_xdata()) for line in right.lines] == [[1.0, 0.5]] * 2


def test_bars_show_every_value_and_leave_gaps_for_missing_ones() -> None:
    figure = plots.bars({"one": {"a": 1.0, "b": 2.0}, "two": {"a": 3.0}}, y="accuracy (%)", decimals=1)
    (axes,) = figure.axes
    heights = [bar.get_height() for bar in axes.patches]  # type: ignore[attr-defined]
    assert heights[:3] == [1.0, 2.0, 3.0]
    assert numpy.isnan(heights[3])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b"]
    assert axes.get_ylabel() == "accuracy (%)"


def test_histogram_counts_whole_numbers_in_a_panel_per_variant() -> None:
    figure = plots.histogram({"stage 1": [0, 2, 2], "stage 2": [1, 1, 1]}, x="patches kept", y="pictures")
    heights = [[bar.get_height() for bar in axes.patches] for axes in figure.axes]  # type: ignore[attr-defined]
    assert heights == [[1, 0, 2], [0, 3, 0]]
    assert [axes.get_title() for axes in figure.axes] == ["stage 1", "stage 2"]


def test_kept_patches_are_shown_as_they_are_and_dropped_ones_are_not() -> None:
    images = numpy.full((2, 4, 4), 0.5)
    keep = numpy.array([[1, 0, 0, 1], [1, 1, 1, 1]])
    figure = plots.kept_patches(images, [keep], (2, 2), titles=("image", "stage 1"))
    assert len(figure.axes) == 4
    assert [axes.get_title() for axes in figure.axes] == ["image", "stage 1", "", ""]
    shown = figure.axes[1].images[0].get_array()
    assert shown is not None
    same = numpy.asarray(shown == 0.5).all(-1)
    assert same.tolist() == [[True, True, False, False]] * 2 + [[False, False, True, True]] * 2
    untouched = figure.axes[3].images[0].get_array()
    assert untouched is not None
    assert numpy.asarray(untouched == 0.5).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_normalised_images_become_viewable_again(channels: int) -> None:
    pixels = torch.rand(2, channels, 8, 8, generator=torch.Generator().manual_seed(0))
    mean, std = (0.2, 0.4, 0.6)[:channels], (0.5, 0.25, 0.3)[:channels]
    normalised = (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    seen = plots.viewable(normalised, mean, std)
    assert seen.shape == ((2, 8, 8) if channels == 1 else (2, 8, 8, 3))
    expected = pixels[:, 0] if channels == 1 else pixels.permute(0, 2, 3, 1)
    torch.testing.assert_close(torch.from_numpy(seen), expected)
    figure = plots.kept_patches(seen, [numpy.ones((2, 4))], (2, 2), titles=("image", "stage 1"))
    assert len(figure.axes) == 4
