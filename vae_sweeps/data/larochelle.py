"""The fixed binarisation of MNIST on which most published likelihoods are given (Salakhutdinov & Murray 2008).

Larochelle & Murray (2011) published it as three text files of 50,000, 10,000 and 10,000 images, without labels.
"""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from vae_sweeps.data.downloads import Source, find_or_download
from vae_sweeps.system.memory import in_gb, memory_bytes

_FILES = {
    split: f"binarized_mnist_{name}.amat" for split, name in (("train", "train"), ("val", "valid"), ("test", "test"))
}
# Sums as in tensorflow/datasets, url_checksums/binarized_mnist.txt.
BINARIZED_MNIST = Source(
    mirrors=("http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/",),
    sums={
        "binarized_mnist_train.amat": "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d",
        "binarized_mnist_valid.amat": "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2",
        "binarized_mnist_test.amat": "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c",
    },
    served_as="plain",
)
_SIDE = 28
_LINE_BYTES = 2 * _SIDE**2  # each pixel is 0 or 1, followed by a space or the end of the line


def files(root: str | None) -> dict[str, Path]:
    """The file of each split, downloaded if it is missing. Raises ValueError if it cannot be had."""
    paths = find_or_download(root, BINARIZED_MNIST)
    return {split: paths[name] for split, name in _FILES.items()}


def read(path: Path) -> UInt8[np.ndarray, "N 28 28"]:
    """The images of a file, as bytes 0 and 255. Raises ValueError with the path if it is bad."""
    try:
        num_bytes = path.stat().st_size
        if num_bytes > memory_bytes() / 4:
            raise ValueError(f"{path}: has {in_gb(num_bytes)}, more than a quarter of this machine's memory")
        content = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not len(content) or len(content) % _LINE_BYTES:
        raise ValueError(
            f"{path}: {len(content)} bytes, expected a multiple of {_LINE_BYTES}: lines of {_SIDE**2} numbers 0 or 1, "
            "each followed by a space or the end of the line; copy it again"
        )
    pairs = content.reshape(-1, _SIDE**2, 2)
    ends = np.full(_SIDE**2, ord(" "), np.uint8)
    ends[-1] = ord("\n")
    is_right = ((pairs[..., 0] | 1) == ord("1")) & (pairs[..., 1] == ends)
    if not is_right.all():
        line = int((~is_right).any(1).argmax()) + 1
        raise ValueError(f"{path}: line {line} does not consist of {_SIDE**2} numbers 0 or 1; copy it again")
    return ((pairs[..., 0] & 1) * np.uint8(255)).reshape(-1, _SIDE, _SIDE)
