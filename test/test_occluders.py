"""What is drawn in front of training objects: it hides what it says, and changes nothing else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from category_pose_ros.data.procedural.occluders import cover, hold, occlude
from category_pose_ros.data.procedural.surfaces import TextureSource
from category_pose_ros.data.samples import SampleConfig, Samples, SceneSamples

pytest.importorskip("embreex", reason="training samples are ray traced with embreex (the `train` extra)")

SIZE = 128
SOURCE = TextureSource.from_folder(None)
Picture = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]


def two_objects() -> Picture:
    """Object 0, 20 pixels wide, and object 1, 60 by 50, on nothing."""
    owner = np.full((SIZE, SIZE), -1, np.int32)
    owner[5:25, 5:25], owner[40:100, 50:100] = 0, 1
    return np.full((SIZE, SIZE, 3), 77, np.uint8), owner


def draw_hand(rng: np.random.Generator, image: npt.NDArray[np.uint8], owner: npt.NDArray[np.int32]) -> None:
    hold(rng, image, owner, number=1, px_per_m=500.0)


@pytest.mark.parametrize(
    "draw",
    [
        pytest.param(lambda rng, image, owner: occlude(rng, SOURCE, image, owner), id="occlude"),
        pytest.param(lambda rng, image, owner: cover(rng, SOURCE, image, owner), id="cover"),
        pytest.param(draw_hand, id="hold"),
    ],
)
def test_what_is_drawn_over_belongs_to_no_object_and_the_rest_stays(draw: Callable[..., None]) -> None:
    drawn = 0
    for seed in range(30):
        image, owner = two_objects()
        draw(np.random.default_rng(seed), image, owner)
        changed = (image != 77).any(-1)
        assert (owner[changed] == -1).all()
        kept = owner != -1
        assert (owner[kept] == two_objects()[1][kept]).all()
        drawn += changed.any()
    assert drawn > 25


def test_a_cover_hides_a_tenth_to_two_thirds_of_the_largest_object() -> None:
    hidden = []
    for seed in range(100):
        image, owner = two_objects()
        cover(np.random.default_rng(seed), SOURCE, image, owner)
        hidden.append(1 - np.count_nonzero(owner == 1) / 3000)
    assert min(hidden) < 0.2 < 0.5 < max(hidden) < 0.7
    assert np.mean(np.array(hidden) < 0.05) < 0.1  # an ellipse may leave the corners


def test_a_hand_reaches_over_the_object_from_beyond_the_image() -> None:
    for seed in range(30):
        image, owner = two_objects()
        draw_hand(np.random.default_rng(seed), image, owner)
        changed = (image != 77).any(-1)
        border = np.concatenate([changed[0], changed[-1], changed[:, 0], changed[:, -1]])
        assert border.any()
        assert np.count_nonzero(owner == 1) > 300  # never all of it


def test_nothing_covers_and_nobody_reaches_for_what_is_not_there() -> None:
    image, owner = two_objects()
    owner[:] = -1
    owner[3, :20] = 1  # too little to reach for
    draw_hand(np.random.default_rng(1), image, owner)
    assert (image == 77).all()
    owner[:] = -1
    cover(np.random.default_rng(1), SOURCE, image, owner)
    assert (image == 77).all()


def test_training_shows_less_of_its_objects_where_covers_and_hands_are_asked_for() -> None:
    def share_on_object(**shares: float) -> float:
        dataset = SceneSamples(("can", "mug"), SampleConfig(empty=0.0, **shares), seed=5)
        return float((Samples.cat([dataset[index] for index in range(12)]).category >= 0).float().mean())

    clear = share_on_object()
    assert share_on_object(covered=1.0) < 0.8 * clear
    assert share_on_object(held=1.0) < 0.95 * clear


def test_shares_of_covers_and_hands_exclude_each_other() -> None:
    with pytest.raises(ValueError, match=r"held: expected at most what covered leaves, 0.4, got 0.5"):
        SampleConfig(covered=0.6, held=0.5)
