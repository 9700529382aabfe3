"""Random streams keyed by what they are for, so that adding a draw moves no other and order never matters.

Every random number in the project comes from a stream named by (seed, purpose, ...). Three forms:

* `key`: a 63-bit integer for anything that takes a seed;
* `rng`: a NumPy generator, for draws that belong to a whole run or data set;
* `uniform` and `normal`: counter-based draws *per sample id*, for masks and corruptions. A sample's numbers depend on
  (seed, purpose, sample id, position) alone: not on the batch, its order, or which other samples there are.
"""

from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray


def key(seed: int, *purpose: str | int) -> int:
    """Return the 63-bit key of the stream (seed, *purpose)."""
    text = "\x1f".join([str(int(seed)), *map(str, purpose)])
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def rng(seed: int, *purpose: str | int) -> np.random.Generator:
    """Return the NumPy generator of the stream (seed, *purpose)."""
    return np.random.Generator(np.random.Philox(key(seed, *purpose)))


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finaliser (Steele, Lea and Flood 2014): a bijection of words whose outputs pass for random."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def uniform(stream: int, ids: NDArray[np.integer], *shape: int) -> NDArray[np.float64]:
    """Return uniforms in [0, 1) of shape (len(ids), *shape); row i depends on `stream` and `ids[i]` alone.

    `stream` comes from `key`. Elements of a row are numbered in C order.
    """
    step = np.uint64(0x9E3779B97F4A7C15)
    with np.errstate(over="ignore"):
        row = _mix(_mix(np.asarray(ids).astype(np.uint64) * step + np.uint64(stream)))
        position = np.arange(1, int(np.prod(shape, dtype=np.int64)) + 1, dtype=np.uint64) * step
        bits = _mix(row[:, None] + position)
    u: NDArray[np.float64] = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return u.reshape(len(ids), *shape)


def normal(stream: int, ids: NDArray[np.integer], *shape: int) -> NDArray[np.float64]:
    """Return standard normals of shape (len(ids), *shape); row i depends on `stream` and `ids[i]` alone."""
    u = uniform(stream, ids, *shape, 2)  # Box-Muller: 1 - u lies in (0, 1], so the logarithm is finite
    z: NDArray[np.float64] = np.sqrt(-2 * np.log1p(-u[..., 0])) * np.cos(2 * np.pi * u[..., 1])
    return z
