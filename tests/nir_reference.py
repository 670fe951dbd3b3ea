"""NIR graphs computed by NumPy, node by node and step by step, channels first: independent of safjax.

The explicit Euler steps of NIR's equations, u[t] = (1 − dt/τ) v[t−1] + (dt/τ)(v_leak + R I[t]), z[t] = [u[t] > θ],
v[t] = v_reset where a spike falls. Membranes start at v_leak.
"""

import itertools

import numpy as np


class Simulator:
    """A flat graph; `delayed` are the edges that take one step."""

    def __init__(self, graph, dt, delayed=()):
        self.graph, self.dt, self.delayed = graph, dt, set(delayed)
        self.forward = [edge for edge in graph.edges if tuple(edge) not in self.delayed]
        self.state, self.before = {}, {}

    def run(self, x):
        """{node: [T, B, ...]} of x[T, B, ...]."""
        records = [self.step(now) for now in np.asarray(x, np.float64)]
        return {name: np.stack([record[name] for record in records]) for name in self.graph.nodes}

    def step(self, x):
        made = {}
        while len(made) < len(self.graph.nodes):
            for name, node in self.graph.nodes.items():
                sources = [a for a, b in self.forward if b == name]
                if name in made or any(a not in made for a in sources):
                    continue
                late = [self.before[a] for a, b in self.delayed if b == name and a in self.before]
                given = x if type(node).__name__ == "Input" else sum([made[a] for a in sources] + late)
                if not sources and type(node).__name__ != "Input" and not late:
                    given = np.zeros((len(x), *node.input_type["input"]))
                made[name] = self.node(name, node, given)
        self.before = made
        return made

    def node(self, name, node, given):
        method = getattr(self, type(node).__name__.lower())
        return method(name, node, given)

    def input(self, name, node, given):
        return given

    output = input

    def linear(self, name, node, given):
        return np.einsum("...oi,b...i->b...o", np.asarray(node.weight, np.float64), given)

    def affine(self, name, node, given):
        return self.linear(name, node, given) + node.bias

    def scale(self, name, node, given):
        return node.scale * given

    def flatten(self, name, node, given):
        shape = given.shape[1:]
        low, high = (n % len(shape) for n in (int(node.start_dim), int(node.end_dim)))
        return given.reshape(len(given), *shape[:low], -1, *shape[high + 1 :])

    def delay(self, name, node, given):
        queue = self.state.setdefault(name, [])
        queue.append(given)
        steps = np.broadcast_to(np.round(np.asarray(node.delay) / self.dt).astype(int), given.shape[1:])
        out = np.zeros_like(given)
        for at in np.ndindex(*steps.shape):
            if steps[at] < len(queue):
                out[(slice(None), *at)] = queue[len(queue) - 1 - steps[at]][(slice(None), *at)]
        return out

    def conv2d(self, name, node, given):
        stride, dilation = (np.broadcast_to(np.asarray(v), 2) for v in (node.stride, node.dilation))
        kernel, groups = np.asarray(node.weight, np.float64), int(node.groups)
        out_channels, per_group, *size = kernel.shape
        pads = self.pads(node.padding, size, dilation)
        padded = np.pad(given, [(0, 0), (0, 0), *pads])
        places = [(padded.shape[2 + a] - dilation[a] * (size[a] - 1) - 1) // stride[a] + 1 for a in range(2)]
        out = np.zeros((len(given), out_channels, *places))
        for o, i, j in itertools.product(range(out_channels), *map(range, places)):
            group = o // (out_channels // groups)
            rows = i * stride[0] + dilation[0] * np.arange(size[0])
            columns = j * stride[1] + dilation[1] * np.arange(size[1])
            channels = slice(group * per_group, (group + 1) * per_group)
            window = padded[:, channels][:, :, rows][:, :, :, columns]
            out[:, o, i, j] = np.einsum("bcij,cij->b", window, kernel[o]) + node.bias[o]
        return out

    @staticmethod
    def pads(padding, size, dilation):
        if isinstance(padding, str) and padding == "same":
            totals = [d * (k - 1) for d, k in zip(dilation, size, strict=True)]
            return [(total // 2, total - total // 2) for total in totals]
        if isinstance(padding, str):
            return [(0, 0)] * len(size)
        return [(int(p), int(p)) for p in np.broadcast_to(np.asarray(padding), len(size))]

    def conv1d(self, name, node, given):
        class Flat:
            weight, bias, groups = node.weight[:, :, None], node.bias, node.groups
            stride, dilation = (1, int(node.stride)), (1, int(node.dilation))
            padding = node.padding if isinstance(node.padding, str) else (0, int(node.padding))

        return self.conv2d(name, Flat, given[:, :, None])[:, :, 0]

    def sumpool2d(self, name, node, given, mean=False):
        (height, width), (down, right) = (np.broadcast_to(np.asarray(v), 2) for v in (node.kernel_size, node.stride))
        padded = np.pad(given, [(0, 0), (0, 0), *self.pads(node.padding, (height, width), (1, 1))])
        rows = (padded.shape[2] - height) // down + 1
        columns = (padded.shape[3] - width) // right + 1
        out = np.zeros((*given.shape[:2], rows, columns))
        for i, j in itertools.product(range(rows), range(columns)):
            out[:, :, i, j] = padded[:, :, i * down : i * down + height, j * right : j * right + width].sum((2, 3))
        return out / (height * width) if mean else out

    def avgpool2d(self, name, node, given):
        return self.sumpool2d(name, node, given, mean=True)

    def threshold(self, name, node, given):
        return (given > node.threshold).astype(np.float64)

    def membrane(self, name, tau, leak, driven):
        """u[t] of R I[t]; without tau no leak."""
        before = self.state.get(name, np.zeros_like(driven) + leak)
        return before + self.dt * driven if tau is None else before + self.dt / tau * (leak - before + driven)

    def i(self, name, node, given):
        self.state[name] = self.membrane(name, None, 0, node.r * given)
        return self.state[name]

    def li(self, name, node, given):
        self.state[name] = self.membrane(name, node.tau, node.v_leak, node.r * given)
        return self.state[name]

    def filtered(self, name, node, given):
        """I[t] of a Cuba node."""
        before = self.state.get((name, "syn"), np.zeros_like(given))
        current = before + self.dt / node.tau_syn * (node.w_in * given - before)
        self.state[name, "syn"] = current
        return current

    def cubali(self, name, node, given):
        current = self.filtered(name, node, given)
        self.state[name] = self.membrane(name, node.tau_mem, node.v_leak, node.r * current)
        return self.state[name]

    def fired(self, name, node, potential):
        spikes = (potential > node.v_threshold).astype(np.float64)
        self.state[name] = np.where(spikes > 0, node.v_reset, potential)
        return spikes

    def lif(self, name, node, given):
        return self.fired(name, node, self.membrane(name, node.tau, node.v_leak, node.r * given))

    def if_(self, name, node, given):
        return self.fired(name, node, self.membrane(name, None, 0, node.r * given))

    def cubalif(self, name, node, given):
        current = self.filtered(name, node, given)
        return self.fired(name, node, self.membrane(name, node.tau_mem, node.v_leak, node.r * current))


setattr(Simulator, "if", Simulator.if_)
