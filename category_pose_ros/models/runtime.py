"""What runs the networks when poses are estimated: OpenVINO on a CPU, PyTorch elsewhere.

To networks of this size a crop is little work, and PyTorch spends most of its time on handing layers
to the processor one by one. OpenVINO compiles them together for the processor that it finds, with
weights laid out as its instructions want them.
"""

from __future__ import annotations

import copy
import hashlib
import sys
import threading
import warnings
from dataclasses import fields
from types import ModuleType
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from category_pose_ros.models.backbone import Backbone, FeatureMap, folded
from category_pose_ros.models.judge import Judge
from category_pose_ros.models.quantization import Ranges, quantized
from category_pose_ros.records import STRIDE_PX

RUNTIMES = ("auto", "openvino", "pytorch")
PRECISIONS = ("auto", "float32", "bfloat16", "int8")
_TELEMETRY = "openvino_telemetry"

_graphs: dict[type[nn.Module], tuple[bytes, Any]] = {}  # of each kind of network the last, after its digest


class Network(Protocol):
    """Images (B, 3, H, W) uint8 RGB, sides multiples of 32, to what it says about their cells."""

    def __call__(self, image: Tensor) -> FeatureMap: ...


class Verdict(Protocol):
    """Answers laid over their crops (B, C, h, w) and their categories (B,) to log odds (B, 2); see `models.judge`."""

    def __call__(self, laid: Tensor, category: Tensor) -> Tensor: ...


def device_for(name: str) -> torch.device:
    """The device of a name, cpu, cuda or, for CUDA where there is one, auto.

    Raises:
        ValueError: cuda, and there is none.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ValueError("device: cuda was asked for, but this PyTorch finds no CUDA device")
    return torch.device("cuda" if available and name != "cpu" else "cpu")


def prepared(
    backbone: Backbone,
    device: torch.device,
    runtime: str = "auto",
    precision: str = "auto",
    ranges: Ranges | None = None,
) -> Network:
    """A copy of the network for inference alone.

    Args:
        runtime: one of RUNTIMES; auto: OpenVINO on a CPU, if it is installed.
        precision: one of PRECISIONS; auto: int8 where OpenVINO runs it and its ranges are known, else bfloat16
            where the device computes with it.
        ranges: of the inputs of its convolutions, for int8.

    Raises:
        ValueError: OpenVINO was asked for and is not installed, or the device is no CPU; int8 was asked for
            without OpenVINO or without ranges, or the ranges are not those of this network.
    """
    network, openvino = folded(backbone), _chosen(runtime, device)
    if precision == "int8" and openvino is None:
        raise ValueError("precision: int8 needs OpenVINO on a CPU")
    if precision == "int8" and ranges is None:
        raise ValueError("precision: int8 needs a model that knows the ranges of its inputs; calibrate it")
    if openvino is not None:
        example = torch.zeros(1, 3, 8 * STRIDE_PX, 8 * STRIDE_PX, dtype=torch.uint8)
        if ranges is not None and precision in ("auto", "int8"):
            compiled = _OpenVino(openvino, _Fields(quantized(network, ranges)), (example,), bfloat16=False)
        else:
            compiled = _OpenVino(openvino, _Fields(network), (example,), _is_bfloat16(precision, device))
        return lambda image: FeatureMap(*compiled(image))
    network = network.to(torch.bfloat16 if _is_bfloat16(precision, device) else torch.float32)
    return cast(Network, network.to(device, memory_format=torch.channels_last))  # type: ignore[call-overload]


def prepared_judge(judge: Judge, device: torch.device, runtime: str = "auto") -> Verdict:
    """A copy of the judge for inference alone, in single precision; arguments and errors as of `prepared`."""
    copied, openvino = copy.deepcopy(judge).eval(), _chosen(runtime, device)
    if openvino is None:
        return cast(Verdict, copied.to(device))
    # Of two answers: of one the tracer would take its number for a constant.
    example = (torch.zeros(2, copied.enter.in_channels, 8, 8), torch.zeros(2, dtype=torch.int64))
    compiled = _OpenVino(openvino, copied, example, bfloat16=False)
    return lambda laid, category: compiled(laid, category)[0]


def _chosen(runtime: str, device: torch.device) -> ModuleType | None:
    """OpenVINO, unless PyTorch is to run the networks."""
    if runtime == "openvino" and device.type != "cpu":
        raise ValueError(f"runtime: openvino runs on the CPU, and the device is {device.type}")
    openvino = None if runtime == "pytorch" or device.type != "cpu" else _openvino()
    if runtime == "openvino" and openvino is None:
        raise ValueError("runtime: openvino is not installed: pip install openvino")
    return openvino


class _OpenVino:
    """A network that is compiled when it is used, for as many threads as PyTorch has then.

    Args:
        openvino: the library.
        network: to a tensor or a tuple of them.
        example: what it is given; but for the channels, its extents may be others.
        bfloat16: whether to compute with it.
    """

    def __init__(self, openvino: ModuleType, network: nn.Module, example: tuple[Tensor, ...], bfloat16: bool) -> None:
        self._openvino = openvino
        self._model: Any = _converted(openvino, network, example)
        self._precision = "bf16" if bfloat16 else "f32"
        self._lock = threading.Lock()  # a request serves one caller at a time
        self._request: Any = None
        self._threads = 0

    def __call__(self, *given: Tensor) -> list[Tensor]:
        with self._lock:
            if self._threads != torch.get_num_threads():
                self._compile(torch.get_num_threads())
            # The caller's own: copied out of the request.
            result = self._request.infer([tensor.numpy() for tensor in given])
        return [torch.from_numpy(result[number]) for number in range(len(result))]

    def _compile(self, threads: int) -> None:
        options = {
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": self._precision,
            "PERFORMANCE_HINT": "LATENCY",
        }
        self._request = self._openvino.Core().compile_model(self._model, "CPU", options).create_infer_request()
        self._threads = threads


class _Fields(nn.Module):
    """What a network says as a tuple, since a graph has no dataclasses."""

    def __init__(self, network: Backbone) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        said: FeatureMap = self.network(image)
        return tuple(getattr(said, field.name) for field in fields(said))


def _converted(openvino: ModuleType, network: nn.Module, example: tuple[Tensor, ...]) -> Any:
    """Its graph, for any number and size of what it is given.

    The same network is not traced twice: PyTorch frees nothing of what it has traced, 8 MB each time, and other
    settings of an estimator mostly leave its network as it was.
    """
    digest = _digest(network)
    known, graph = _graphs.get(type(network), (b"", None))
    if known != digest:
        graph = _traced(openvino, network, example)
        _graphs[type(network)] = digest, graph
    return graph


def _digest(network: nn.Module) -> bytes:
    """Of the layers, as they describe themselves, and the weights."""
    digest = hashlib.sha256(repr(network).encode())
    for name, value in network.state_dict().items():
        digest.update(name.encode() + value.numpy().tobytes())
    return digest.digest()


def _traced(openvino: ModuleType, network: nn.Module, example: tuple[Tensor, ...]) -> Any:
    with torch.no_grad(), warnings.catch_warnings():
        # PyTorch would rather have `torch.export`, by which loading takes seconds more.
        warnings.simplefilter("ignore", DeprecationWarning)
        traced = torch.jit.trace(network, example, check_trace=False)
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


def _is_bfloat16(precision: str, device: torch.device) -> bool:
    """CPUs without bfloat16 instructions emulate them, slower than single precision."""
    if precision != "auto":
        return precision == "bfloat16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())
