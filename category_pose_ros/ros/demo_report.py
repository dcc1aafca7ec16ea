"""What `make demo` shows and leaves: the table, poses.csv and the overlays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from category_pose_ros.data.annotations import AnnotatedFrame
from category_pose_ros.data.bags import BagFrames
from category_pose_ros.data.bop import BopScene
from category_pose_ros.evaluation.evaluate import Evaluation, evaluate
from category_pose_ros.evaluation.poses_csv import PosesWriter
from category_pose_ros.evaluation.summary import summarise
from category_pose_ros.records import SECOND_NS, Frame, Track
from category_pose_ros.ros.playback import Account
from category_pose_ros.visualization.overlay import draw_overlay
from category_pose_ros.visualization.video import write_video


def write_files(folder: Path, frames: BagFrames, account: Account) -> None:
    """Write poses.csv, overlay.mp4 and, of the frame with the surest objects, overlay.png.

    The video shows answered frames only, in their mean rhythm, so that it neither flickers nor runs ahead.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with PosesWriter(folder / "poses.csv") as poses:
        for stamp in sorted(account.answered_s):
            poses.write(stamp, account.tracks.get(stamp, []))
    stamps = sorted(account.answered_s)
    seconds = (stamps[-1] - stamps[0]) / SECOND_NS
    write_video(folder / "overlay.mp4", _overlays(frames, account), (len(stamps) - 1) / seconds if seconds else 1.0)
    best = max(stamps, key=lambda stamp: sum(track.estimate.score for track in account.tracks.get(stamp, [])))
    frame = next(frame for frame in frames if frame.stamp_ns == best)
    image = draw_overlay(frame.rgb, frame.camera, _tracks(account, frame))
    cv2.imwrite(str(folder / "overlay.png"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))


def table(frames: BagFrames, account: Account) -> str:
    """The account in numbers, and against the ground truth where that lies beside the bag."""
    stamps = sorted(account.answered_s)
    latencies_ms = [1e3 * (account.answered_s[stamp] - account.sent_s[stamp]) for stamp in stamps]
    p50, p95 = np.percentile(latencies_ms, [50, 95])
    arrivals = sorted(account.answered_s.values())
    elapsed = arrivals[-1] - arrivals[0]
    tracks = [track for found in account.tracks.values() for track in found]
    rows = {
        "frames published": f"{len(account.sent_s)}",
        "frames answered": f"{len(stamps)}",
        "objects": f"{len(tracks)} poses of {len({track.track_id for track in tracks})} tracks",
        "end-to-end rate": f"{(len(arrivals) - 1) / elapsed:.1f} Hz" if elapsed else "one answer, no rate",
        "latency p50 / p95": f"{p50:.0f} / {p95:.0f} ms",
        **_errors(frames, account),
    }
    width = max(map(len, rows))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows.items())


def _errors(frames: BagFrames, account: Account) -> dict[str, str]:
    if not (frames.path.parent / "scene_gt.json").exists():
        return {"pose error": "no ground truth beside the bag"}
    numbers = summarise(_evaluation(frames, account))["overall"]
    if not numbers["found"]:
        return {"objects found": f"0 of {numbers['objects']}"}
    return {
        "objects found": f"{numbers['found']} of {numbers['objects']} ({numbers['found'] / numbers['objects']:.0%})",
        "false alarms": f"{numbers['false_alarms']}",
        "rotation error, median": f"{numbers['median_rotation_error_deg']:.1f} degrees",
        "within 10 / 30 degrees": f"{numbers['acc_pi_18']:.0%} / {numbers['acc_pi_6']:.0%} of all objects",
        "translation error, median": f"{1e3 * (numbers['median_translation_error_m'] or 0):.0f} mm",
        "distance error, median": f"{numbers['median_distance_error']:.1%}",
    }


def _evaluation(frames: BagFrames, account: Account) -> Evaluation:
    """The answered frames against the ground truth; image n of the scene is frame n of the bag."""
    scene = BopScene(frames.path.parent)
    annotated = (
        AnnotatedFrame(frame, scene.objects(number), f"{number:06d}")
        for number, frame in enumerate(frames)
        if frame.stamp_ns in account.answered_s
    )
    return evaluate(lambda frame: [track.estimate for track in _tracks(account, frame)], annotated)


def _tracks(account: Account, frame: Frame) -> list[Track]:
    return account.tracks.get(frame.stamp_ns, [])


def _overlays(frames: BagFrames, account: Account) -> Iterator[npt.NDArray[np.uint8]]:
    for frame in frames:
        if frame.stamp_ns in account.answered_s:
            yield draw_overlay(frame.rgb, frame.camera, _tracks(account, frame))
