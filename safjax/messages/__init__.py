"""What travels between the layers of a bound net.

Under rules that propagate spikes a message is an ordinary array. Other families need more:

* `Traced` (OTTT): this step's value together with its eligibility trace.
* `Rate` (SAF): the weighted mean over time, a[t] / Λ[t].
* `Ported` (Approx-OTPE, S-TLLR): this step's value several times, each with derivatives of its own, and traces of it.
* `Driven` (OSTL, OTPE, e-prop): this step's value, of a current with its derivatives by each weight.
* `Averaged` (rate-based back-propagation): this step's value together with its mean over time.
* `Sequence` (rules that go layer by layer): the values of all steps. `AveragedSequence`: with their mean over time.

All are affine images of spikes, so messages may be added to one another and scaled by a number. Anything else belongs
inside a `safjax.nn.Synapse`, which knows how to map and how to differentiate them; a bare jnp function on a message
raises and says so.

In a loop of the net, where a message depends on the step before, there is `Silence` while the net's shapes are being
found out.
"""

from safjax.messages.driven import Driven, Source
from safjax.messages.message import Message, Silence, is_message
from safjax.messages.of_a_step import Averaged, Gathered, Rate, Traced
from safjax.messages.of_all_steps import AveragedSequence, Kept, Sequence
from safjax.messages.ported import Ported

__all__ = [
    "Averaged",
    "AveragedSequence",
    "Driven",
    "Gathered",
    "Kept",
    "Message",
    "Ported",
    "Rate",
    "Sequence",
    "Silence",
    "Source",
    "Traced",
    "is_message",
]
