"""Pictures of spiking nets, drawn with matplotlib (extra `plots`).

    run = safjax.simulate(net, images, steps=40, record=("spikes", "potential", "membrane"))
    plots.raster(run.spikes["lif1"][:, 0])                    # [T, N] of one example

Every function takes plain arrays and the `Axes` to draw in, makes new ones where it is given none, and returns them.
A figure of its own has a legend; in axes that are given `ax.legend()` draws it. Nothing is shown or saved: that is
`plt.show()` and `axes.figure.savefig(...)`.
"""

from safjax.plots.gradients import cosines, surrogates
from safjax.plots.layers import rates
from safjax.plots.neurons import membranes, raster

__all__ = ["cosines", "membranes", "raster", "rates", "surrogates"]
