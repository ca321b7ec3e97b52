"""Many windows over sorted arrays at once: where each begins and ends, and its least, greatest and number of different values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

BEGIN, END = -(1 << 62), 1 << 62
"""Before and after every moment, in µs since 1970."""
NEVER = BEGIN - 1
"""No moment: before all there are."""


def bisect(values: Ints, sought: Ints, starts: Ints, stops: Ints) -> Ints:
    """For each i the first place in ``values[starts[i]:stops[i]]``, which is sorted, that is not below ``sought[i]``."""
    if not values.size:
        return starts.copy()
    # All go on together, by ever smaller steps: what is below goes on from there.
    found, last = starts - 1, values.size - 1
    step = 1 << max(0, int((stops - starts).max(initial=0)).bit_length() - 1)
    while step:
        further = found + step
        below = (further < stops) & (values[np.minimum(further, last)] < sought)
        found = np.where(below, further, found)
        step >>= 1
    return found + 1


def extremes(values: Floats, starts: Ints, stops: Ints, *, greatest: bool) -> Floats:
    """For each i the least (or greatest) of ``values[starts[i]:stops[i]]``; NaN where that is empty."""
    pick: Any = np.maximum if greatest else np.minimum
    lengths = stops - starts
    found = np.full(starts.shape, np.nan)
    level, width, longest = np.asarray(values), 1, int(lengths.max(initial=0))
    while width <= longest:
        these = np.flatnonzero((lengths >= width) & (lengths < 2 * width))
        found[these] = pick(level[starts[these]], level[stops[these] - width])
        if level.size > width:
            level = pick(level[:-width], level[width:])
        width *= 2
    return found


def count_below(values: Ints, limits: Ints, starts: Ints, stops: Ints) -> Ints:
    """For each i how many of ``values[starts[i]:stops[i]]`` are below ``limits[i]``: a wavelet matrix, a bit at a time."""
    known = np.unique(values)
    ranks, sought = np.searchsorted(known, values), np.searchsorted(known, limits)
    low, high = starts.copy(), stops.copy()
    found = np.zeros(starts.shape, dtype=np.int64)
    for bit in reversed(range(int(known.size).bit_length())):
        ones = (ranks >> bit) & 1 == 1
        zeros = np.concatenate(([0], np.cumsum(~ones)))
        low_zeros, high_zeros, above = zeros[low], zeros[high], (sought >> bit) & 1 == 1
        found += np.where(above, high_zeros - low_zeros, 0)
        low = np.where(above, zeros[-1] + low - low_zeros, low_zeros)
        high = np.where(above, zeros[-1] + high - high_zeros, high_zeros)
        ranks = np.concatenate((ranks[~ones], ranks[ones]))
    return found
