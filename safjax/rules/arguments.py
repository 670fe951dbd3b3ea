"""What is asked of a rule and cannot be had, refused where the rule is made."""

from typing import Any

import jax.numpy as jnp


def check_layerwise(rule: str, remat: bool, slopes: Any) -> None:
    """Refuses what a net computed layer by layer does not do.

    Raises:
      ValueError: `remat`, or a format of slopes.
    """
    if remat:
        raise ValueError(
            f"{rule}(layerwise=True, remat=True): rematerialisation computes a time step a second time, and layer by "
            "layer there are no time steps. Write bptt(remat=True), or exodus(), which has the same gradient and keeps "
            "one array a layer."
        )
    if slopes is not None:
        raise ValueError(
            f"{rule}(layerwise=True, slopes={slopes!r}): slopes are kept in another format only where the net is "
            "computed step by step. Leave layerwise out, or write exodus(), which keeps one array a layer."
        )


def check_segments(rule: str, segments: Any) -> None:
    """Refuses a number of segments that is none.

    Raises:
      ValueError: it is no positive whole number.
    """
    if segments is not None and (not isinstance(segments, int) or isinstance(segments, bool) or segments < 1):
        raise ValueError(
            f"{rule}(segments={segments!r}): expected a whole number ≥ 1, into how many parts the sequence is divided, "
            "for instance 10 for 100 steps. Write segments=None to keep all steps."
        )


def checked_format(rule: str, slopes: Any) -> jnp.dtype | None:
    """The number format in which slopes are kept, None for their own.

    Raises:
      ValueError: it is none of real numbers.
    """
    if slopes is None:
        return None
    try:
        dtype = jnp.dtype(slopes)
    except TypeError:
        dtype = jnp.dtype(bool)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(
            f"{rule}(slopes={slopes!r}): expected a format of real numbers, in which the slopes of neurons are kept, "
            "for instance jnp.bfloat16. Write slopes=None to keep them as they are."
        )
    return dtype
