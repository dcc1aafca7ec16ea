"""Which depth belongs to which image; no ROS is needed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from category_pose_ros.ros.pairing import Capture, Pairer, PairingConfig

CONFIG = PairingConfig(slop_s=0.02, fallback_after_s=1.0)


def message(seconds: float, name: object = "") -> Any:
    whole, nanoseconds = divmod(round(seconds * 1e9), 1_000_000_000)
    return SimpleNamespace(header=SimpleNamespace(stamp=SimpleNamespace(sec=whole, nanosec=nanoseconds)), name=name)


def seconds(message: Any) -> float:
    return float(message.header.stamp.sec + message.header.stamp.nanosec / 1e9)


@pytest.fixture
def pairer() -> Pairer:
    pairer = Pairer(CONFIG, ["depth"])
    pairer.add_info(message(0.0))
    return pairer


def image(pairer: Pairer, at: float) -> Capture | None:
    return pairer.add_image(message(at), received_s=at)


def add(pairer: Pairer, kind: str, at: float, name: str = "") -> Capture | None:
    return pairer.add(kind, message(at, name), received_s=at)


def depth_of(capture: Capture | None) -> float | None:
    assert capture is not None
    return None if capture.depth is None else seconds(capture.depth)


def test_without_depth_every_image_goes_at_once_with_the_nearest_camera_info() -> None:
    pairer = Pairer(CONFIG)
    assert not pairer.has_info
    for at in (1.0, 2.0, 3.0):
        pairer.add_info(message(at))
    capture = image(pairer, 2.1)
    assert capture is not None
    assert (seconds(capture.info), capture.depth, capture.received_s) == (2.0, None, 2.1)
    assert pairer.missing == []


def test_an_image_before_any_camera_info_is_refused() -> None:
    with pytest.raises(ValueError, match="camera_info: expected one before the first image, got none"):
        image(Pairer(CONFIG), 1.0)


def test_depth_may_come_before_or_after_its_image(pairer: Pairer) -> None:
    assert add(pairer, "depth", 1.0) is None
    assert depth_of(image(pairer, 1.01)) == 1.0
    assert image(pairer, 1.1) is None
    assert depth_of(add(pairer, "depth", 1.09)) == 1.09
    assert pairer.unpaired == 0


def test_an_image_takes_the_depth_nearest_in_time(pairer: Pairer) -> None:
    for at in (0.985, 1.002, 1.015):
        add(pairer, "depth", at)
    assert depth_of(image(pairer, 1.0)) == 1.002


def test_newer_depth_shows_that_an_image_waits_in_vain(pairer: Pairer) -> None:
    assert image(pairer, 1.0) is None
    assert add(pairer, "depth", 1.033) is None
    assert pairer.unpaired == 1
    assert depth_of(image(pairer, 1.033)) == 1.033


def test_a_late_image_whose_depth_was_lost_is_unpaired_at_once(pairer: Pairer) -> None:
    add(pairer, "depth", 2.0)
    assert image(pairer, 1.9) is None
    assert pairer.unpaired == 1


def test_depth_at_half_the_rate_leaves_every_other_image_unpaired(pairer: Pairer) -> None:
    captures = []
    for n in range(30):
        captures.append(image(pairer, 1 + n / 30))
        if n % 2 == 0:
            captures.append(add(pairer, "depth", 1 + n / 30))
    paired = [capture for capture in captures if capture is not None]
    assert len(paired) == 15
    assert all(capture.depth is not None for capture in paired)
    assert pairer.unpaired == 14  # the last one still waits


def test_images_are_used_without_depth_when_it_stays_away_and_with_it_when_it_is_back(pairer: Pairer) -> None:
    assert image(pairer, 1.0) is None
    assert depth_of(add(pairer, "depth", 1.0)) == 1.0
    assert image(pairer, 1.5) is None
    assert pairer.missing == []
    assert depth_of(image(pairer, 2.6)) is None
    assert pairer.missing == ["depth"]
    assert pairer.unpaired == 1  # the one that still waited
    assert depth_of(image(pairer, 2.7)) is None
    assert add(pairer, "depth", 2.7) is None  # its image is gone, but the next will wait
    assert pairer.missing == []
    assert image(pairer, 2.8) is None
    assert depth_of(add(pairer, "depth", 2.8)) == 2.8


@pytest.mark.parametrize("period_s", [0.1, 1.5, 10.0])
def test_depth_that_comes_just_after_its_image_is_found_at_any_rate(pairer: Pairer, period_s: float) -> None:
    for n in range(5):
        assert image(pairer, 1 + n * period_s) is None
        assert depth_of(add(pairer, "depth", 1 + n * period_s)) == pytest.approx(1 + n * period_s)
    assert pairer.unpaired == 0


def test_after_a_pause_of_the_camera_images_wait_for_their_depth_as_before(pairer: Pairer) -> None:
    for at in (1.0, 1.1, 5.0, 5.1):
        assert image(pairer, at) is None
        assert depth_of(add(pairer, "depth", at)) == at
    assert pairer.missing == []


def test_depth_whose_clock_is_wrong_counts_as_none(pairer: Pairer) -> None:
    captures = []
    for n in range(60):
        captures.append(image(pairer, 100 + n / 30))
        add(pairer, "depth", 500 + n / 30)
    assert pairer.missing == ["depth"]
    assert sum(capture is not None for capture in captures) == 29


def test_few_images_wait(pairer: Pairer) -> None:
    for n in range(50):
        image(pairer, 1 + n / 1000)
    assert pairer.unpaired == 20


def test_a_bag_that_begins_again_begins_anew(pairer: Pairer) -> None:
    for _ in range(2):
        for at in (1.0, 1.1, 1.2):
            add(pairer, "depth", at)
            assert depth_of(image(pairer, at)) == at
    assert pairer.unpaired == 0


def test_images_that_wait_when_a_bag_begins_again_are_unpaired(pairer: Pairer) -> None:
    assert image(pairer, 5.0) is None
    add(pairer, "depth", 1.0)
    assert depth_of(image(pairer, 1.0)) == 1.0
    assert pairer.unpaired == 1


@pytest.mark.parametrize("depth_after_s", [-0.005, 0.005])
def test_messages_without_stamps_pair_by_when_they_arrive_while_they_do(pairer: Pairer, depth_after_s: float) -> None:
    captures = []
    for n in range(40):
        at = 100 + n / 10
        events = [(at, "image")] + [(at + depth_after_s, "depth")] * (n < 20)
        for now, kind in sorted(events):
            named = message(0.0, n)
            captures.append(pairer.add_image(named, now) if kind == "image" else pairer.add(kind, named, now))
    handed_out = [(c.image.name, c.depth and c.depth.name) for c in captures if c is not None]
    with_depth = [(n, n) for n in range(20)]
    without = [(n, None) for n in range(31, 40)]  # those before waited in vain
    assert handed_out == with_depth + without
    assert pairer.missing == ["depth"]


def test_an_image_without_a_stamp_takes_the_newest_camera_info() -> None:
    pairer = Pairer(CONFIG)
    for at in (1.0, 2.0, 3.0):
        pairer.add_info(message(at))
    capture = pairer.add_image(message(0.0), received_s=0.5)
    assert capture is not None
    assert seconds(capture.info) == 3.0


def test_images_without_stamps_go_without_depth_that_does_not_come(pairer: Pairer) -> None:
    captures = [pairer.add_image(message(0.0), received_s=100 + n / 10) for n in range(20)]
    assert [capture is not None for capture in captures] == [False] * 11 + [True] * 9
    assert pairer.missing == ["depth"]


def test_images_that_wait_are_counted(pairer: Pairer) -> None:
    assert image(pairer, 1.0) is None
    assert image(pairer, 1.1) is None
    assert pairer.waiting == 2
    assert depth_of(add(pairer, "depth", 1.1)) == 1.1
    assert (pairer.waiting, pairer.unpaired) == (0, 1)


@pytest.fixture
def with_both() -> Pairer:
    pairer = Pairer(CONFIG, ["depth", "hint"])
    pairer.add_info(message(0.0))
    return pairer


@pytest.mark.parametrize("order", [("image", "depth", "hint"), ("hint", "image", "depth"), ("depth", "hint", "image")])
def test_an_image_waits_for_depth_and_hint_in_whatever_order_they_come(
    with_both: Pairer, order: tuple[str, ...]
) -> None:
    for at in (1.0, 1.1, 1.2):
        *early, last = [image(with_both, at) if kind == "image" else add(with_both, kind, at, kind) for kind in order]
        assert early == [None, None]
        assert last is not None
        assert [(one.name, seconds(one)) for one in (last.depth, last.hint)] == [("depth", at), ("hint", at)]
        assert seconds(last.image) == at
    assert with_both.unpaired == 0


def test_a_hint_that_comes_a_few_images_late_finds_its_own(with_both: Pairer) -> None:
    """A 2D detector needs time, while depth comes with the image."""
    late, found = 8, []
    for n in range(60):
        image(with_both, 1 + n / 30)
        add(with_both, "depth", 1 + n / 30)
        if n >= late:
            found.append(add(with_both, "hint", 1 + (n - late) / 30))
    assert [seconds(capture.hint) for capture in found if capture] == [seconds(c.image) for c in found if c]
    assert (len([c for c in found if c]), with_both.unpaired, with_both.missing) == (60 - late, 0, [])


def test_each_kind_falls_back_by_itself(with_both: Pairer) -> None:
    captures = []
    for n in range(60):
        add(with_both, "depth", 1 + n / 30)
        captures.append(image(with_both, 1 + n / 30))
    assert with_both.missing == ["hint"]
    last = captures[-1]
    assert last is not None
    assert (seconds(last.depth), last.hint) == (seconds(last.image), None)


@given(
    st.lists(st.tuples(st.sampled_from(["image", "depth", "hint"]), st.integers(1, 3000)), max_size=80), st.booleans()
)
def test_every_image_is_handed_out_counted_or_still_waiting(events: list[tuple[str, int]], stamped: bool) -> None:
    pairer = Pairer(CONFIG, ["depth", "hint"])
    pairer.add_info(message(0.0))
    images, handed_out = 0, []
    for kind, milliseconds in sorted(events, key=lambda event: event[1]):
        at = milliseconds / 1000
        own = SimpleNamespace(header=message(at if stamped else 0.0).header, at=at)
        capture = pairer.add_image(own, at) if kind == "image" else pairer.add(kind, own, at)
        images += kind == "image"
        if capture is not None:
            handed_out.append(capture.time_ns)
            for other in (capture.depth, capture.hint):
                assert other is None or abs(other.at - capture.image.at) <= CONFIG.slop_s + 1e-9
    assert 0 <= images - len(handed_out) - pairer.unpaired <= 60
    assert handed_out == sorted(handed_out)
