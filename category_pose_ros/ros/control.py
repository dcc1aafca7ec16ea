"""The services of the node: `~/reset`, `~/enable` and `~/detect_once`."""

from __future__ import annotations

import enum
import time
from collections.abc import Callable

from rclpy.lifecycle import LifecycleNode
from std_srvs.srv import SetBool, Trigger


class Use(enum.Enum):
    """What an image is good for."""

    NOTHING = "nothing"
    TRACKING = "tracking"
    ONE_LOOK = "one look"  # estimated without the tracks, which have not seen what came before


class Control:
    """Offers the services, and says of every image what it is good for.

    Args:
        node: offers the services, in every state of its life cycle.
        is_active: whether the node is.
        forget: called to forget all objects.
    """

    def __init__(self, node: LifecycleNode, is_active: Callable[[], bool], forget: Callable[[], None]) -> None:
        self.enabled = True
        self._asked_s: float | None = None  # when one look was asked for, `time.monotonic()`
        self._is_active = is_active
        self._forget = forget
        node.create_service(Trigger, "~/reset", self._on_reset)
        node.create_service(SetBool, "~/enable", self._on_enable)
        node.create_service(Trigger, "~/detect_once", self._on_detect_once)

    def use_of_image(self, received_s: float) -> Use:
        """What an image that came then is good for; a request to detect once is settled with it if it is older.

        Args:
            received_s: `time.monotonic()` when the node was told of the image; it may have waited for its depth since.
        """
        if self.enabled:
            return Use.TRACKING
        if self._asked_s is None or received_s < self._asked_s:
            return Use.NOTHING
        self._asked_s = None
        return Use.ONE_LOOK

    def ask_again(self) -> None:
        """The image of a request to detect once was not used: the next one will be."""
        if not self.enabled:
            self._asked_s = time.monotonic()

    def forget_requests(self) -> None:
        self._asked_s = None

    def _on_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if not self._is_active():
            return _answer(response, False, "the node is not active: there is nothing to reset")
        self._forget()
        return _answer(response, True, "all tracks are forgotten")

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        if request.data != self.enabled and self._is_active():
            self._forget()
        self.enabled = bool(request.data)
        self.forget_requests()
        return _answer(response, True, "enabled" if self.enabled else "disabled: images are ignored")

    def _on_detect_once(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        # Answered at once: to await the poses in here would keep rclpy's executor spinning without a pause.
        if not self._is_active():
            return _answer(response, False, "the node is not active: activate it first")
        self._asked_s = None if self.enabled else time.monotonic()
        return _answer(response, True, "the objects of the next image will be published")


def _answer(
    response: Trigger.Response | SetBool.Response, success: bool, message: str
) -> Trigger.Response | SetBool.Response:
    response.success, response.message = success, message
    return response
