"""Files of trained models: safetensors with a JSON header. Nothing is unpickled."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

Model = TypeVar("Model")


@dataclass(frozen=True)
class ModelFile(Generic[Model]):
    """One kind of model file.

    Attributes:
        kind: what messages call it, with its article: ("a", "model").
        key: of the header in the file's metadata.
        version: of the format; files of another one are refused.
        assemble: from the header and the tensors to the model.
    """

    kind: tuple[str, str]
    key: str
    version: int
    assemble: Callable[[dict[str, Any], dict[str, Tensor]], Model]

    def write(self, path: Path, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Write a file; the header gets the format version.

        Raises:
            OSError: it cannot be written.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        contiguous = {name: value.contiguous() for name, value in tensors.items()}
        described = json.dumps({"format_version": self.version, **header})
        content = save(contiguous, metadata={self.key: described})
        # Beside and renamed, so that an interrupt leaves no half a file. Not by safetensors' own `save_file`, whose
        # files are for their owner alone and whose errors are no OSError.
        beside = path.with_name(f"{path.name}.tmp")
        try:
            beside.write_bytes(content)
            os.replace(beside, path)
        except OSError as error:
            raise OSError(f"{path}: cannot be written: {error.strerror}") from error
        finally:
            beside.unlink(missing_ok=True)

    def read(self, path: Path) -> Model:
        """Read a file.

        Raises:
            ValueError: it is missing, damaged, of another format version or of another kind.
        """
        article, name = self.kind
        if not path.is_file():
            raise ValueError(f"{name}: no such file {path}")
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {each: file.get_tensor(each) for each in file.keys()}  # noqa: SIM118 - not a mapping
            header = json.loads(metadata[self.key])
            for each, value in tensors.items():
                if not value.isfinite().all():
                    raise ValueError(f"{each}: expected finite values")
            version = header["format_version"]
            model = self.assemble(header, tensors) if version == self.version else None
        except KeyError as error:
            raise ValueError(f"{name}: {path} is not {article} {name} of this package, {error} is missing") from error
        except (SafetensorError, ValueError, RuntimeError, TypeError, AttributeError) as error:
            raise ValueError(f"{name}: {path} is damaged: {str(error).splitlines()[0]}") from error
        if model is None:
            raise ValueError(f"{name}: {path} has format version {version}, expected {self.version}")
        return model


def halved(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a part, under its prefix, in half precision."""
    return {prefix + name: value.half() if value.is_floating_point() else value for name, value in state.items()}


def part(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under a prefix, without it, in single precision."""
    found = {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
    return {name: value.float() if value.is_floating_point() else value for name, value in found.items()}
