"""A bag gives the same poses every time."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from written_bags import write_bag

from category_pose_ros.cli import main
from category_pose_ros.data.bags import BagFrames
from category_pose_ros.estimation.estimator import DEFAULT_MODEL

EXAMPLE = DEFAULT_MODEL.parents[1] / "example" / "demo"
FRAMES = 10


@pytest.mark.skipif(not DEFAULT_MODEL.exists(), reason="needs the model that comes with the package")
@pytest.mark.skipif(not EXAMPLE.exists(), reason="needs the bundled example")
def test_the_same_bag_gives_the_same_poses_twice(tmp_path: Path) -> None:
    write_bag(tmp_path / "bag", itertools.islice(BagFrames(EXAMPLE), FRAMES))
    written = []
    for name in ("first", "second"):
        arguments = ["replay", str(tmp_path / "bag"), "--output", str(tmp_path / name)]
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 0
        written.append((tmp_path / name / "poses.csv").read_text(encoding="utf-8"))
    assert written[0].count("\n") > FRAMES  # one object per frame at least, and the header
    assert written[0] == written[1]
