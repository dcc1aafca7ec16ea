"""What runs the network when poses are estimated: OpenVINO on a CPU, PyTorch elsewhere.

To a network of this size a crop is little work, and PyTorch spends most of its time on handing layers
to the processor one by one. OpenVINO compiles them together for the processor that it finds, with
weights laid out as its instructions want them.
"""

from __future__ import annotations

import sys
import threading
import warnings
from dataclasses import fields
from types import ModuleType
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from category_pose_ros.models.backbone import STRIDE_PX, Backbone, FeatureMap, folded

RUNTIMES = ("auto", "openvino", "pytorch")
PRECISIONS = ("auto", "float32", "bfloat16")
_TELEMETRY = "openvino_telemetry"


class Network(Protocol):
    """Images (B, 3, H, W) uint8 RGB, sides multiples of 32, to what it says about their cells."""

    def __call__(self, image: Tensor) -> FeatureMap: ...


def prepared(backbone: Backbone, device: torch.device, runtime: str = "auto", precision: str = "auto") -> Network:
    """A copy of the network for inference alone.

    Args:
        runtime: one of RUNTIMES; auto: OpenVINO on a CPU, if it is installed.
        precision: one of PRECISIONS; auto: bfloat16 where the device computes with it.

    Raises:
        ValueError: OpenVINO was asked for and is not installed, or the device is no CPU.
    """
    if runtime == "openvino" and device.type != "cpu":
        raise ValueError(f"runtime: openvino runs on the CPU, and the device is {device.type}")
    bfloat16 = precision == "bfloat16" or (precision == "auto" and _prefers_bfloat16(device))
    network = folded(backbone)
    if runtime != "pytorch" and device.type == "cpu":
        openvino = _openvino()
        if openvino is not None:
            return _OpenVino(openvino, network, bfloat16)
        if runtime == "openvino":
            raise ValueError("runtime: openvino is not installed: pip install openvino")
    network = network.to(torch.bfloat16 if bfloat16 else torch.float32)
    return cast(Network, network.to(device, memory_format=torch.channels_last))  # type: ignore[call-overload]


class _OpenVino:
    """A network that is compiled when it is used, for as many threads as PyTorch has then."""

    def __init__(self, openvino: ModuleType, network: Backbone, bfloat16: bool) -> None:
        self._openvino = openvino
        self._model: Any = _converted(openvino, network)
        self._precision = "bf16" if bfloat16 else "f32"
        self._lock = threading.Lock()  # a request serves one caller at a time
        self._request: Any = None
        self.threads = 0

    def __call__(self, image: Tensor) -> FeatureMap:
        with self._lock:
            if self.threads != torch.get_num_threads():
                self._compile(torch.get_num_threads())
            result = self._request.infer([image.numpy()])  # the caller's own: copied out of the request
        return FeatureMap(*(torch.from_numpy(result[number]) for number in range(len(result))))

    def _compile(self, threads: int) -> None:
        options = {
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": self._precision,
            "PERFORMANCE_HINT": "LATENCY",
        }
        self._request = self._openvino.Core().compile_model(self._model, "CPU", options).create_infer_request()
        self.threads = threads


class _Fields(nn.Module):
    """What a network says as a tuple, since a graph has no dataclasses."""

    def __init__(self, network: Backbone) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        said: FeatureMap = self.network(image)
        return tuple(getattr(said, field.name) for field in fields(said))


def _converted(openvino: ModuleType, network: Backbone) -> Any:
    """Its graph, for images of any number and size."""
    example = torch.zeros(1, 3, 8 * STRIDE_PX, 8 * STRIDE_PX, dtype=torch.uint8)
    with torch.no_grad(), warnings.catch_warnings():
        # PyTorch would rather have `torch.export`, by which loading takes seconds more.
        warnings.simplefilter("ignore", DeprecationWarning)
        traced = torch.jit.trace(_Fields(network), example, check_trace=False)
    return openvino.convert_model(traced, example_input=example)


def _openvino() -> ModuleType | None:
    """The library, if it is there, without its telemetry: it reports that it was imported, and robots do not phone."""
    absent = sys.modules.get(_TELEMETRY, False)
    if absent is False:
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # as if it were not installed
    try:
        import openvino
    except ImportError:
        return None
    finally:
        if absent is False:
            del sys.modules[_TELEMETRY]
    return cast(ModuleType, openvino)


def _prefers_bfloat16(device: torch.device) -> bool:
    """CPUs without bfloat16 instructions emulate them, slower than single precision."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())
