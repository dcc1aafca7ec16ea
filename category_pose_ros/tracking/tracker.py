"""Tracks: every object is carried along by optical flow, looked at on a small crop, and searched for now and then.

`Tracker.update` reads as what happens to a frame: predict, carry, look, judge, search a little, begin new
tracks, drop old ones. All of it depends on the frames and their stamps alone, so the same stream
gives the same tracks.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch

from category_pose_ros.config import LONGEST_S, section, setting, validate
from category_pose_ros.estimation.belief import Belief, Search, Sighting
from category_pose_ros.estimation.images import Depth
from category_pose_ros.geometry import SE3, Symmetry
from category_pose_ros.geometry.symmetry import rotation_distance, symmetry_of
from category_pose_ros.records import SECOND_NS, Frame, ObjectEstimate, Track, TrackState
from category_pose_ros.tracking.association import apparent_diagonal, associate, distance
from category_pose_ros.tracking.flow import Carried, Flow, FlowConfig, Points, View
from category_pose_ros.tracking.keyframe import (
    Keyframe,
    KeyframeConfig,
    Recognised,
    hidden_share,
    recognise,
    renewed,
    take,
)
from category_pose_ros.tracking.motion import Motion, MotionConfig, Velocity, expect, gone
from category_pose_ros.tracking.parallax import Parallax, ParallaxConfig, at_distance, looked
from category_pose_ros.tracking.trail import Moment, Trail

_PIECE_S = 0.03  # about what a piece of a search takes on a CPU
_FEW_S = 0.5  # frames so far apart are searched each
_ROUNDING = 1e-6  # of stamps, in looks
_MOST_LOOKS = 1 / 3  # per track and frame, of tracks that are not in doubt
_STEPS = 2  # frames through which what a search found is followed in place of one piece
_IF_SEEN = 0.5  # of what must be hidden, where the look sees the object
_IF_SURE = 0.25  # of the same, where it does not and the keyframe is sure
_WELL_SEEN = 0.5  # share of a surface that agrees where how it looks is renewed
_MOSTLY_HIDDEN = 0.7  # where more is, what is seen may be something else
_ALIKE = 0.1  # greatest difference in apparent size and place of what is seen alike, in diagonals


@dataclass(frozen=True)
class LossConfig:
    """When the image no longer supports a track; the two thresholds of each pair are a hysteresis."""

    keep_score: float = setting(0.1, "A track is seen while its score is above this ...", minimum=0.0, maximum=1.0)
    regain_score: float = setting(0.3, "... and seen again once it is above this.", minimum=0.0, maximum=1.0)
    keep_visible: float = setting(
        0.15, "It is seen while this share of what should be visible is there ...", minimum=0.0, maximum=1.0
    )
    regain_visible: float = setting(0.3, "... and seen again from this share on.", minimum=0.0, maximum=1.0)
    strain: float = setting(
        60.0, "Squared Mahalanobis distance, nine variables, beyond which a jump is not believed.", minimum=1.0
    )
    frames: int = setting(3, "Frames in a row without the object after which it is lost.", minimum=1, maximum=1000)

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True)
class TrackerConfig:
    """Following, searching, and the life cycle of a track."""

    search_every_s: float = setting(
        0.3,
        "Pause after a search before the next one, unless a track is lost; three times as long without depth and "
        "where frames are less than 90 ms apart. While objects are followed, it does one or two pieces per frame.",
        minimum=0.0,
        maximum=LONGEST_S,
    )
    settled: float = setting(
        3.0,
        "Factor by which searches for everything are rarer while they agree with the tracks; "
        "those between look only at what no track explains.",
        minimum=1.0,
    )
    confirm_after: int = setting(2, "Sightings before a track is published ...", minimum=1, maximum=100)
    confirm_score: float = setting(0.5, "... and the score that it must have reached.", minimum=0.0, maximum=1.0)
    withdraw_score: float = setting(
        0.4,
        "A track whose score falls below this is not published any more, until it has reached the former again.",
        minimum=0.0,
        maximum=1.0,
    )
    drop_after_s: float = setting(
        2.0, "A track unseen for this long is dropped, in seconds.", minimum=0.0, maximum=LONGEST_S
    )
    gate: float = setting(
        0.6, "Farthest that a search's object may be from the track it belongs to, in diagonals.", minimum=0.0
    )
    same_place: float = setting(0.35, "Two tracks nearer than this, in diagonals, are one object.", minimum=0.0)
    memory: float = setting(0.75, "Share of a track's information that outlives a frame.", minimum=0.0, maximum=0.999)
    rival_deg: float = setting(
        25.0, "A search that sees an object turned by more does not agree with its track.", minimum=0.0, maximum=180.0
    )
    rival_margin: float = setting(
        0.3, "Log score by which what a search sees must win against the track that is there.", minimum=0.0
    )
    reset_after_s: float = setting(
        5.0, "A gap between frames that ends all tracks, in seconds.", minimum=0.0, maximum=LONGEST_S
    )
    look_every_s: float = setting(
        0.3,
        "Optical flow carries a track from one look at it to the next, after so many seconds and about three frames "
        "at least; 0: each frame is looked at.",
        minimum=0.0,
        maximum=LONGEST_S,
    )
    keyframe: KeyframeConfig = section(KeyframeConfig)
    flow: FlowConfig = section(FlowConfig)
    loss: LossConfig = section(LossConfig)
    motion: MotionConfig = section(MotionConfig)
    parallax: ParallaxConfig = section(ParallaxConfig)

    def __post_init__(self) -> None:
        validate(self)
        if self.withdraw_score > self.confirm_score:
            raise ValueError(
                f"withdraw_score: expected at most confirm_score, {self.confirm_score}, got {self.withdraw_score}"
            )


class Estimator(Protocol):
    """As `category_pose_ros.PoseEstimator`."""

    def search(self, frame: Frame, explained: Sequence[Belief] = ()) -> Search: ...

    def follow(
        self, frame: Frame, beliefs: Sequence[Belief], prior: Sequence[float], others: Sequence[Belief] = ()
    ) -> list[Sighting]: ...


@dataclass(eq=False)
class _Living:
    """A track as the tracker keeps it."""

    track: Track
    belief: Belief  # for the time of the last frame
    seen_at: SE3  # where it was seen last, in the camera of the last frame if its motion is known
    prior: float = 1.0  # share of the category's size prior that the belief still lacks
    velocity: Velocity = field(default_factory=Velocity.zero)
    looked_at_ns: int = 0  # stamp of the latest frame in which it was
    sightings: int = 0
    misses: int = 0
    rival: Belief | None = None
    parallax: Parallax = field(default_factory=Parallax.nothing)
    points: Points | None = None  # of its surface, as the last frame shows them
    anchored: bool = True  # whether they are on the object as the latest look saw it
    carried: bool = False  # whether they brought it to the last frame
    was_confirmed: bool = False  # ever; its id is kept while it is unseen for a short time
    shown: float = 0.0  # score of the latest look that was believed
    keyframe: Keyframe | None = None


@dataclass
class _Searching:
    """A search that is under way, on a frame of the past."""

    search: Search
    is_full: bool  # whether it also looked at what tracks explain
    known: list[tuple[_Living, ObjectEstimate]]  # where the tracks were then
    trail: Trail


@dataclass
class _Arriving:
    """What a search found and nobody follows, on its way to the present frame."""

    items: list[_Living]
    trail: Trail  # the first moment is the one that has been reached


class Tracker:
    """Follows objects over a stream of frames.

    Args:
        estimator: finds and follows the objects of a frame.
        config: settings.

    Attributes:
        next_id: of the next object that is found; no number is used twice.
    """

    def __init__(self, estimator: Estimator, config: TrackerConfig = TrackerConfig()) -> None:
        self._estimator = estimator
        self._config = config
        self._flow = Flow(config.flow)
        self._living: list[_Living] = []
        self.next_id = 1
        self._credit = 0.0  # looks at tracks whose turn it is that frames have not used
        self._last: Moment | None = None
        self._searching: _Searching | None = None
        self._arriving: _Arriving | None = None
        self._began_ns: int | None = None  # the frame of the latest search
        self._searched_ns: int | None = None  # when it ended
        self._looked_ns: int | None = None  # when the latest one for everything did
        self._agreed = False  # whether it saw the objects as the tracks do, and no others

    def update(self, frame: Frame, world_from_camera: SE3 | None = None) -> list[Track]:
        """Carry the tracks on to a frame.

        A stamp that goes backwards (a bag that loops, a clock that was reset) or far ahead ends all
        tracks, and so does another camera: what was seen then says nothing about now. Time has to pass
        from frame to frame: when to search, to look and to give up goes by the stamps.

        Args:
            frame: the next image.
            world_from_camera: pose of the camera in a frame that does not move, batch shape (). Where two
                frames in a row have it, objects are predicted in that frame: what is at rest stays where
                it is while the camera moves. None: not known.

        Returns:
            The confirmed tracks seen in this frame, by id.

        Raises:
            ValueError: world_from_camera is not one finite pose.
        """
        if world_from_camera is not None and not _is_one_pose(world_from_camera):
            raise ValueError(f"world_from_camera: expected one finite pose, got {world_from_camera}")
        now = Moment(frame, world_from_camera)
        last = self._follows_on(now)
        self._last = now
        self._living = self._follow(self._living, last, now, self._config.look_every_s)
        self._merge(frame.stamp_ns)
        self._search(now, now.seconds_since(last))
        self._drop(frame.stamp_ns)
        seen = (item.track for item in self._living if item.track.stamp_ns == frame.stamp_ns and item.misses == 0)
        confirmed = (track for track in seen if track.state is TrackState.CONFIRMED)
        return sorted(confirmed, key=lambda track: track.track_id)

    def lost(self) -> list[Track]:
        """Tracks that were confirmed and are not seen now, as they were seen last or flow has carried them since.

        In the camera of the last frame, if its motion is known.
        """
        return [item.track for item in self._living if item.track.state is TrackState.LOST]

    def reset(self) -> None:
        """Forget all tracks, and the search that is under way; ids are not used again."""
        self._living.clear()
        self._last = self._searching = self._arriving = None
        self._began_ns = self._searched_ns = self._looked_ns = None
        self._credit, self._agreed = 0.0, False

    def _follows_on(self, now: Moment) -> Moment | None:
        """The frame before, unless this one begins a new stream, which ends all tracks."""
        last = self._last
        if last is None:
            return None
        seconds = now.seconds_since(last)
        if seconds < 0 or seconds > self._config.reset_after_s or now.frame.camera != last.frame.camera:
            self.reset()
            return None
        for under_way in (self._searching, self._arriving):
            if under_way is not None:
                under_way.trail.add(now)
        return last

    def _follow(self, items: list[_Living], last: Moment | None, now: Moment, every_s: float) -> list[_Living]:
        """What a frame says of tracks: of all by optical flow, of each every so often by a look through the network.

        Returns:
            The tracks, without those that have come too near to be seen.
        """
        if last is not None:
            self._carry(items, last, now)
        items = [item for item in items if _in_front(item.belief)]
        seconds = now.seconds_since(last)
        turns = self._turns(items, now.frame.stamp_ns, seconds, every_s)
        looked_at = [item for item in items if id(item) in turns]
        others = [item for item in items if id(item) not in turns]
        self._look_at(looked_at, others, now, seconds)
        for item in others:
            item.track = dataclasses.replace(item.track, stamp_ns=now.frame.stamp_ns)
        return items

    def _turns(self, items: list[_Living], stamp_ns: int, seconds: float, every_s: float) -> set[int]:
        """The tracks to look at, by `id`: those in doubt, and others whose time has come, longest waiting first.

        Of these as many as make an even stream: tracks that began together would otherwise be looked at in
        one frame, which would be late. And no more than a third of all: a machine that falls behind sees
        longer pauses, and would be given more to do.
        """
        if every_s == 0:
            return {id(item) for item in items}
        doubtful = {id(item) for item in items if self._is_in_doubt(item)}
        latest_ns = stamp_ns - round((every_s - seconds / 2) * SECOND_NS)  # in the frame nearest to its time
        due = [item for item in items if id(item) not in doubtful and item.looked_at_ns <= latest_ns]
        due.sort(key=lambda item: item.looked_at_ns)
        share = len(items) * min(seconds / every_s, _MOST_LOOKS)
        self._credit = min(self._credit + share, math.ceil(share - _ROUNDING))
        taken = due[: int(self._credit + _ROUNDING)]
        self._credit -= len(taken)
        return doubtful | {id(item) for item in taken}

    def _is_in_doubt(self, item: _Living) -> bool:
        """Whether a track is to be looked at whatever flow says."""
        is_tentative = item.track.state is TrackState.TENTATIVE
        is_thinned = item.points is not None and item.points.share < self._config.flow.doubt_share
        return is_tentative or not item.carried or is_thinned or item.misses > 0 or item.rival is not None

    def _carry(self, items: list[_Living], before: Moment, after: Moment) -> None:
        """To where the image shows that they have moved, else to where they should be, in the camera as it is then."""
        motion, seconds = after.motion_since(before), after.seconds_since(before)
        for item in items:
            if not item.anchored:
                item.points, item.anchored = self._flow.seed(before.view, item.belief), True
                self._remember(item, before)
            item.parallax = Parallax.nothing() if motion is None else item.parallax.seen_from(motion)
            if motion is not None:
                item.belief, item.velocity = item.belief.seen_from(motion), item.velocity.seen_from(motion)
                item.seen_at = motion @ item.seen_at.to(torch.float64)
                item.rival = item.rival and item.rival.seen_from(motion)
                estimate = _turned(_at(item.track.estimate, item.seen_at.to(torch.float32)), motion)
                item.track = dataclasses.replace(item.track, estimate=estimate)
        config, memory = self._config.motion, self._config.memory
        beliefs, points = [item.belief for item in items], [item.points for item in items]
        expected = expect(beliefs, [item.velocity for item in items], seconds, config)
        carried: Sequence[Carried | None] = [None] * len(items)
        if seconds > 0 and any(item is not None for item in points):
            carried = self._flow.carry(before.view, after.view, beliefs, points, expected)
        motions = [_way(*each) for each in zip(items, expected, carried, strict=True)]
        moved = gone(beliefs, motions, [memory if there is None else 1.0 for there in carried])
        for item, way, there, belief in zip(items, expected, carried, moved, strict=True):
            if there is not None:
                self._move(item, way, there, seconds)
            item.belief, item.carried, item.points = belief, there is not None, None if there is None else there.points
            if item.rival is not None:
                rival_way = expect([item.rival], [item.velocity], seconds, config)
                (item.rival,) = gone([item.rival], rival_way, [memory])

    def _remember(self, item: _Living, moment: Moment) -> None:
        """Keep how a track looked where it was surely seen: no worse than before, or turned, and not more hidden."""
        is_sure = item.track.state is TrackState.CONFIRMED and item.shown >= self._config.keyframe.score
        if moment.depth is None or not is_sure:
            return
        new, old = take(moment.view, moment.depth, item.belief, item.shown), item.keyframe
        if new is not None and (old is None or new.replaces(old)):
            item.keyframe = new

    def _hold(self, item: _Living, sighting: Sighting, now: Moment, seconds: float) -> bool:
        """Hold a track that is hidden in part, and whose rest looks as it did, whatever the look sees.

        The network takes what is left of a covered object for a smaller one, or for none.

        Returns:
            Whether it is held.
        """
        keyframe, depth, config = item.keyframe, now.depth, self._config.keyframe
        if keyframe is None or depth is None or item.track.state is TrackState.LOST:
            return False  # a plane is soon found that looks like a side of what was lost
        found = self._known_again(item, keyframe, sighting, now.view, depth)
        if found is None:
            return False
        before, pose = item.belief.camera_from_object.to(torch.float64), found.camera_from_object
        if seconds > 0 and not item.carried:
            item.velocity = item.velocity.corrected(before, pose, seconds, self._config.motion.velocity_gain)
        item.belief = dataclasses.replace(item.belief, camera_from_object=pose)
        self._forget_size(item)
        if found.share >= _WELL_SEEN and found.hidden < _MOSTLY_HIDDEN:
            item.keyframe = renewed(keyframe, now.view, depth, item.belief)
        item.anchored, item.misses = True, 0
        estimate, told = item.track.estimate, max(0.0, 1 - found.hidden / config.least_hidden)
        estimate = dataclasses.replace(
            estimate,
            camera_from_object=pose.to(torch.float32),
            visible_fraction=found.share,
            # The less is hidden, the more the look tells.
            score=estimate.score + told * (sighting.estimate.score - estimate.score),
        )
        smooth = self._smoothed(_at(item.track.estimate, item.seen_at), estimate)
        is_believed = smooth.score >= self._config.withdraw_score
        state = item.track.state if is_believed else TrackState.TENTATIVE
        item.track = Track(item.track.track_id, state, smooth, now.frame.stamp_ns)
        item.seen_at = smooth.camera_from_object
        return True

    def _known_again(
        self, item: _Living, keyframe: Keyframe, sighting: Sighting, view: View, depth: Depth
    ) -> Recognised | None:
        """Where a track is that something hides, by how it looked; None where the look is to be believed."""
        config, score = self._config.keyframe, sighting.estimate.score
        is_seen = score >= config.score
        if_sure = _IF_SURE if keyframe.score >= config.sure else 1.0
        least_hidden = config.least_hidden * (_IF_SEEN if is_seen else if_sure)
        if is_seen and hidden_share(keyframe, view, depth, item.belief, config) < least_hidden:
            return None
        starts = [item.belief] if is_seen else [item.belief, sighting.belief]
        tried = (recognise(keyframe, view, depth, each, config) for each in starts)
        found = max((each for each in tried if each is not None), key=lambda each: each.share, default=None)
        if found is None:
            return None
        if not is_seen and found.hidden < least_hidden:
            if score < self._config.loss.keep_score:
                item.keyframe = None  # in full view the network knows better
            return None
        return found

    def _move(self, item: _Living, expected: Motion, there: Carried, seconds: float) -> None:
        """What is published of a track, and its velocity, as its points have moved."""
        before, now = item.belief.camera_from_object.to(torch.float64), there.motion.camera_from_object
        gain = self._config.motion.velocity_gain
        item.velocity = item.velocity.corrected(expected.camera_from_object, now, seconds, gain)
        turn, seen_at = now.rotation @ before.rotation.T, item.seen_at.to(torch.float64)
        item.seen_at = SE3(turn @ seen_at.rotation, seen_at.translation + now.translation - before.translation)
        estimate, covariance = item.track.estimate, there.covariance[:6, :6].numpy()
        estimate = dataclasses.replace(
            estimate,
            camera_from_object=item.seen_at.to(torch.float32),
            covariance=estimate.covariance + covariance,
        )
        item.track = dataclasses.replace(item.track, estimate=estimate)

    def _look_at(self, items: list[_Living], others: list[_Living], now: Moment, seconds: float) -> None:
        """What the network says of tracks, and of their rivals."""
        by_parallax = now.depth is None and now.world_from_camera is not None
        for item in items:
            item.looked_at_ns = now.frame.stamp_ns
            if item.carried:
                item.belief = item.belief.faded(self._config.memory)
            if by_parallax:
                told = at_distance(item.belief, item.parallax, self._config.memory, self._config.parallax)
                item.belief, item.parallax = told
        rivals = [item for item in items if item.rival is not None and _in_front(item.rival)]
        beliefs = [item.belief for item in items] + [item.rival for item in rivals if item.rival is not None]
        priors = [item.prior for item in items] + [1.0] * len(rivals)
        beside = [item.belief for item in others]
        sightings = self._estimator.follow(now.frame, beliefs, priors, beside) if beliefs else []
        pairs = zip(items, sightings[: len(items)], strict=True)
        held = {id(item) for item, sighting in pairs if self._hold(item, sighting, now, seconds)}
        for item, rival in zip(rivals, sightings[len(items) :], strict=True):
            own = items.index(item)
            if id(item) not in held and rival.log_score > sightings[own].log_score + self._config.rival_margin:
                sightings[own] = dataclasses.replace(rival, strain=0.0)
                item.velocity, item.belief, item.carried = item.velocity.without_turn(), rival.belief, False
        for item, sighting in zip(items, sightings[: len(items)], strict=True):
            item.rival = None
            if id(item) not in held:
                self._judge(item, sighting, now.frame.stamp_ns, seconds)
            if by_parallax and item.misses == 0:
                item.parallax = looked(item.parallax, item.belief, self._config.parallax)

    def _judge(self, item: _Living, sighting: Sighting, stamp_ns: int, seconds: float) -> None:
        """Believe what was seen, or count a miss."""
        loss, estimate = self._config.loss, sighting.estimate
        steady = item.misses == 0
        seen = (
            estimate.score >= (loss.keep_score if steady else loss.regain_score)
            and estimate.visible_fraction >= (loss.keep_visible if steady else loss.regain_visible)
            and sighting.strain <= loss.strain
        )
        if not seen:
            item.misses += 1
            self._forget_size(item)
            item.velocity = item.velocity.after(seconds, self._config.motion.persistence_s)
            if item.was_confirmed and item.misses >= loss.frames:
                item.track = dataclasses.replace(item.track, state=TrackState.LOST)
            return
        if seconds > 0 and item.sightings > 0 and not item.carried:
            gain = self._config.motion.velocity_gain
            predicted, found = item.belief.camera_from_object, sighting.belief.camera_from_object
            # Objects do not grow: one that seems larger, and as much farther, is seen otherwise and has not moved.
            grown = (sighting.belief.log_size - item.belief.log_size).mean().exp()
            found = SE3(found.rotation, found.translation / grown)
            item.velocity = item.velocity.corrected(predicted, found, seconds, gain)
        item.belief, item.prior, item.misses, item.anchored = sighting.belief, 1 - self._config.memory, 0, False
        item.sightings, item.shown = item.sightings + 1, estimate.score
        before = _at(item.track.estimate, item.seen_at)
        smooth = self._smoothed(before, estimate) if item.sightings > 1 else estimate
        proven = item.sightings >= self._config.confirm_after and smooth.score >= self._config.confirm_score
        believed = proven if item.track.state is TrackState.TENTATIVE else smooth.score >= self._config.withdraw_score
        state = TrackState.CONFIRMED if believed else TrackState.TENTATIVE
        item.was_confirmed |= believed
        item.track, item.seen_at = Track(item.track.track_id, state, smooth, stamp_ns), smooth.camera_from_object

    def _forget_size(self, item: _Living) -> None:
        """Of the size prior too only a share outlives a look that told the belief nothing."""
        item.prior = 1 - self._config.memory * (1 - item.prior)

    def _smoothed(self, before: ObjectEstimate, now: ObjectEstimate) -> ObjectEstimate:
        """Score and visible fraction averaged over time; symmetric objects turned as they were before.

        Pose, size and covariance are those of the belief, which is filtered already.
        """
        memory = self._config.memory
        steady = _same_yaw(now, before) if symmetry_of(now.category) is Symmetry.AXIS_Z else now
        return dataclasses.replace(
            steady,
            score=memory * before.score + (1 - memory) * now.score,
            visible_fraction=memory * before.visible_fraction + (1 - memory) * now.visible_fraction,
        )

    def _merge(self, stamp_ns: int) -> None:
        """Of two tracks that have come to one place the older one stays."""
        kept: list[_Living] = []
        for item in sorted(self._living, key=lambda item: (item.track.stamp_ns != stamp_ns, item.track.track_id)):
            here = item.track.estimate
            if item.misses or all(distance(here, other.track.estimate) > self._config.same_place for other in kept):
                kept.append(item)
        self._living = sorted(kept, key=lambda item: item.track.track_id)

    def _search(self, now: Moment, seconds: float) -> None:
        """Begin a search where one is due, and do some pieces of it, or of what follows it."""
        stamp_ns = now.frame.stamp_ns
        if self._searching is None and self._arriving is None and self._is_due(now, seconds):
            known = [(item, _at(item.track.estimate, item.seen_at)) for item in self._living]
            is_full = self._is_due_for_all(now, seconds)
            explained = [] if is_full else [item.belief for item in self._living if item.misses == 0]
            self._searching = _Searching(self._estimator.search(now.frame, explained), is_full, known, Trail([now]))
            self._began_ns = stamp_ns
        for _ in range(self._pieces(seconds)):
            if self._arriving is not None:
                self._arrive(self._arriving)
            elif self._searching is not None:
                self._look(self._searching, stamp_ns)
            else:
                return

    def _look(self, searching: _Searching, stamp_ns: int) -> None:
        """A piece of a search; after the last one its objects are on their way."""
        self._searching = None  # until it has gone on: one that raises is over
        try:
            next(searching.search)
            self._searching = searching
        except StopIteration as end:
            self._searched_ns = stamp_ns
            if searching.is_full:
                self._looked_ns = stamp_ns
            if arriving := self._compare(searching, end.value):
                self._arriving = _Arriving(arriving, searching.trail)

    def _pieces(self, seconds: float) -> int:
        """How many pieces of a search this frame is good for.

        All where frames are few or the stream begins. Otherwise as many as take about the time between
        frames, so that what nobody waits for does not make the next object late. While objects are
        followed, which must not stall, one, and a second where frames leave time for it: never more,
        since a machine that falls behind sees longer pauses and would be given more to do.
        """
        if _are_few(seconds) or (seconds == 0 and not self._is_following):
            return sys.maxsize
        if self._is_following:
            return 2 if _leave_time(seconds) else 1
        return math.ceil(seconds / _PIECE_S)

    @property
    def _is_following(self) -> bool:
        return any(item.misses < self._config.loss.frames for item in self._living)

    def _is_due(self, now: Moment, seconds: float) -> bool:
        if self._searched_ns is None or not self._is_following or self._is_any_newly_lost():
            return True
        return now.frame.stamp_ns - self._searched_ns >= self._pause_s(now, seconds) * SECOND_NS

    def _pause_s(self, now: Moment, seconds: float) -> float:
        # Without depth more searches find more objects at wrong distances, and not more objects.
        return self._config.search_every_s * (1 if _leave_time(seconds) and now.depth is not None else 3)

    def _is_any_newly_lost(self) -> bool:
        """Whether a track was lost that the latest search cannot have looked for."""
        lost = (item.track for item in self._living if item.track.state is TrackState.LOST)
        return any(self._began_ns is not None and track.stamp_ns >= self._began_ns for track in lost)

    def _is_due_for_all(self, now: Moment, seconds: float) -> bool:
        """Whether a search is for everything, or only for what no track explains."""
        if self._looked_ns is None or _are_few(seconds) or not self._is_following or not self._agreed:
            return True
        pause_s = self._pause_s(now, seconds) * self._config.settled
        return now.frame.stamp_ns - self._looked_ns >= pause_s * SECOND_NS

    def _compare(self, searching: _Searching, found: list[ObjectEstimate]) -> list[_Living]:
        """Hand a search's objects to the tracks: continued, contested, or begun.

        Returns:
            Those of new tracks and of lost ones, to be followed from the search's frame on.
        """
        alive = {id(item) for item in self._living}
        known = [(item, then) for item, then in searching.known if id(item) in alive]
        continued = associate([then for _, then in known], found, self._config.gate)
        seen = searching.trail.moments[0]
        new, lost, agreed = [], [], True
        for index, estimate in enumerate(found):
            if index not in continued:
                if not self._is_explained(known, estimate):
                    new.append(self._begin(estimate, seen.frame.stamp_ns))
                continue
            item, then = known[continued[index]]
            if item.misses:
                belief = Belief.about(estimate)
                place = then.camera_from_object  # as the track has it, for what of it is smoothed
                again = _Living(item.track, belief, place, was_confirmed=item.was_confirmed)
                again.sightings, again.misses = item.sightings, item.misses
                lost.append(again)
            else:
                alike = self._are_alike(then, estimate)
                if seen.depth is not None or not alike:  # without depth a search knows less of the distance
                    self._contest(item, then, estimate)
                agreed &= alike
        self._agreed = agreed and not new
        return new + lost

    def _contest(self, item: _Living, then: ObjectEstimate, found: ObjectEstimate) -> None:
        """What a search sees of a track is followed beside it, once: a track can drift, a search cannot.

        Args:
            item: the track.
            then, found: where it was in the frame of the search, and where the search saw it.
        """
        # As the object has moved since the search began.
        now, before, seen = item.belief.camera_from_object, then.camera_from_object, found.camera_from_object
        turn = now.rotation.double() @ before.rotation.double().transpose(-1, -2)
        shift = now.translation.double() - before.translation.double()
        pose = SE3(turn @ seen.rotation.double(), seen.translation.double() + shift)
        item.rival = Belief.about(dataclasses.replace(found, camera_from_object=pose))

    def _are_alike(self, first: ObjectEstimate, second: ObjectEstimate) -> bool:
        """Whether two estimates of an object cover the same part of the image and are turned alike."""
        one, other = first.camera_from_object, second.camera_from_object
        turn = rotation_distance(one.rotation.double(), other.rotation.double(), symmetry_of(first.category))
        if math.degrees(float(turn)) > self._config.rival_deg or distance(first, second) > _ALIKE:
            return False
        return abs(math.log(apparent_diagonal(second) / apparent_diagonal(first))) <= _ALIKE

    def _is_explained(self, known: list[tuple[_Living, ObjectEstimate]], found: ObjectEstimate) -> bool:
        """Whether a track was where a new object seems to be, unless it is surely of another category."""
        return any(
            item.misses == 0 and distance(then, found) < self._config.same_place and not self._contradicts(found, then)
            for item, then in known
        )

    def _contradicts(self, found: ObjectEstimate, known: ObjectEstimate) -> bool:
        """Whether what was found in the place of a known object is of another category, and surer of it."""
        surer = found.score > known.score * math.exp(self._config.rival_margin)
        return surer and found.category != known.category

    def _begin(self, found: ObjectEstimate, stamp_ns: int) -> _Living:
        """A new track."""
        track = Track(self.next_id, TrackState.TENTATIVE, found, stamp_ns)
        self.next_id += 1
        return _Living(track, Belief.about(found), found.camera_from_object)

    def _arrive(self, arriving: _Arriving) -> None:
        """Follow what a search found some frames further; in the present it joins the tracks.

        A search takes many frames, in which an object can leave the basin of refinement; from one of
        these frames to the next but few it cannot.
        """
        for _ in range(_STEPS):
            before, *ahead = arriving.trail.moments
            moment = ahead[0] if ahead else before
            arriving.items = self._follow(arriving.items, before, moment, every_s=0.0)
            arriving.trail.moments = ahead
            if len(ahead) <= 1:
                self._arriving = None
                self._join([item for item in arriving.items if item.misses == 0], moment.frame.stamp_ns)
                return

    def _join(self, arrived: list[_Living], stamp_ns: int) -> None:
        """New tracks beside the others; a lost one, unless it has come back by itself, in its old place.

        Where a search sees another category than a track, and still does in the present, the track ends.
        """
        followed = {item.track.track_id for item in self._living if item.misses == 0}
        arrived = [item for item in arrived if item.track.track_id not in followed]
        returned = {item.track.track_id for item in arrived}
        stay = [item for item in self._living if item.track.track_id not in returned]
        self._living = [item for item in stay if not self._is_displaced(item, arrived)] + arrived
        self._merge(stamp_ns)

    def _is_displaced(self, item: _Living, arrived: list[_Living]) -> bool:
        """Whether a track is where one that has arrived contradicts it."""
        known, found = item.track.estimate, (other.track.estimate for other in arrived)
        in_place = (each for each in found if distance(each, known) < self._config.same_place)
        return item.misses == 0 and any(self._contradicts(each, known) for each in in_place)

    def _drop(self, stamp_ns: int) -> None:
        """Tracks unseen for long; those that were never confirmed need only be lost."""
        oldest = stamp_ns - round(self._config.drop_after_s * SECOND_NS)
        self._living = [
            item
            for item in self._living
            if item.track.stamp_ns >= oldest and (item.was_confirmed or item.misses < self._config.loss.frames)
        ]


def _are_few(seconds: float) -> bool:
    """Whether frames are so far apart that each is searched as a whole."""
    return seconds >= _FEW_S


def _leave_time(seconds: float) -> bool:
    """Whether frames so far apart leave time for more than following objects and a piece of a search."""
    return seconds >= 3 * _PIECE_S


def _way(item: _Living, expected: Motion, there: Carried | None) -> Motion:
    """Where optical flow has it that a track went, else where it should be.

    A track that is still tentative may be off: it stays as free to be put right as without flow.
    """
    if there is None:
        return expected
    if item.track.state is TrackState.TENTATIVE:
        return Motion(there.motion.camera_from_object, expected.covariance)
    return there.motion


def _is_one_pose(pose: SE3) -> bool:
    return pose.batch_shape == () and bool(pose.matrix().isfinite().all())


def _at(estimate: ObjectEstimate, camera_from_object: SE3) -> ObjectEstimate:
    """The same object elsewhere."""
    return dataclasses.replace(estimate, camera_from_object=camera_from_object)


def _turned(estimate: ObjectEstimate, now_from_then: SE3) -> ObjectEstimate:
    """With the covariance along the axes of a camera that has moved."""
    turn = now_from_then.rotation.double().numpy()
    both = np.kron(np.eye(2), turn)
    return dataclasses.replace(estimate, covariance=both @ estimate.covariance @ both.T)


def _in_front(belief: Belief) -> bool:
    """A track that has come nearer than its own size can be neither cropped nor seen."""
    return float(belief.camera_from_object.translation[2]) > 0.5 * float(belief.size_m.norm())


def _same_yaw(estimate: ObjectEstimate, before: ObjectEstimate) -> ObjectEstimate:
    """Of the equivalent poses of a symmetric object the one nearest to an earlier pose.

    Seen from elsewhere its two horizontal extents change places, so they become one.
    """
    pose = estimate.camera_from_object
    apart = before.camera_from_object.rotation.double().T @ pose.rotation.double()
    yaw = torch.atan2(apart[0, 1] - apart[1, 0], apart[0, 0] + apart[1, 1])
    cosine, sine, zero, one = yaw.cos(), yaw.sin(), torch.zeros_like(yaw), torch.ones_like(yaw)
    turn = torch.stack([cosine, -sine, zero, sine, cosine, zero, zero, zero, one]).view(3, 3)
    rotation = (pose.rotation.double() @ turn).to(pose.rotation)
    across = float(estimate.size_m[:2].mean())
    size_m = np.array([across, across, estimate.size_m[2]])
    return dataclasses.replace(estimate, camera_from_object=SE3(rotation, pose.translation), size_m=size_m)
