"""What a loop over layers inside a net, nnx.scan, needs of the messages that it carries."""

import contextlib
import re
from collections.abc import Iterator

_FORM = re.compile(r"\b(Traced|Presented|Rate|Averaged|AveragedSequence|Sequence|Kept)\b")
_LOOP = re.compile("Carry references must be the same|pytree metadata|pytree structure|scan body function carry")


@contextlib.contextmanager
def explained_loops() -> Iterator[None]:
    """A loop whose message changes its form from layer to layer is told so, not by the names of the forms.

    Raises:
      ValueError: in place of NNX's or JAX's own.
    """
    try:
        yield
    except (TypeError, ValueError) as error:
        if not (_LOOP.search(str(error)) and _FORM.search(str(error))):
            raise
        raise ValueError(
            "A loop over layers (nnx.scan) was given an input of another form than what comes out of its layers, and "
            "what it carries must keep its form. Before layers that end with a Synapse let a Synapse stand outside, "
            "before layers that end with neurons the same kind of neurons, in place of a plain array. Under exodus(), "
            "slayer() and bptt(layerwise=True) a static image differs from all that neurons make of it: there, give "
            "the net a sequence, x = jnp.broadcast_to(x, (T, *x.shape)), without steps."
        ) from error
