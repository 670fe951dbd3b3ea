"""A plain NumPy spiking net with gradients written out by hand: an independent reference.

Two dense layers of LIF neurons and a leaky readout, one explicit loop over time; nothing is shared with the library.
"""

import numpy as np


def slope(x, alpha=4.0):
    s = 1 / (1 + np.exp(-alpha * x))
    return alpha * s * (1 - s)


def forward(weights, xs, decay, threshold):
    """Runs the net over xs[T, B, n]; returns all currents, potentials and spikes, and the outputs [T, B, C]."""
    (w1, b1), (w2, b2), (w3, b3) = weights
    n_steps = len(xs)
    u1, s1, u2, s2, outputs = [], [], [], [], []
    m1, m2, m3, gain = 0.0, 0.0, 0.0, 0.0
    for t in range(n_steps):
        u1.append(decay * m1 + xs[t] @ w1 + b1)
        s1.append((u1[t] >= threshold).astype(float))
        m1 = u1[t] - threshold * s1[t]
        u2.append(decay * m2 + s1[t] @ w2 + b2)
        s2.append((u2[t] >= threshold).astype(float))
        m2 = u2[t] - threshold * s2[t]
        m3 = decay * m3 + s2[t] @ w3 + b3
        gain = decay * gain + 1
        outputs.append(m3 / gain)
    return u1, s1, u2, s2, outputs


def loss_gradient(output, targets):
    """Mean over the batch of the squared error summed over outputs; returns (value, d/d output)."""
    difference = output - targets
    return np.mean(np.sum(difference**2, 1)), 2 * difference / len(output)


def gains(n_steps, decay):
    return np.cumsum(decay ** np.arange(n_steps))


def bptt(weights, xs, targets, decay, threshold, detach_reset=False):
    """Back-propagation through time, by hand. Returns (value, gradients)."""
    (w2, _), (w3, _) = weights[1:]
    u1, s1, u2, s2, outputs = forward(weights, xs, decay, threshold)
    n_steps, gain = len(xs), gains(len(xs), decay)
    value = np.mean([loss_gradient(o, targets)[0] for o in outputs])
    grads = [[np.zeros_like(w), np.zeros_like(b)] for w, b in weights]
    e1 = e2 = e3 = 0.0
    for t in reversed(range(n_steps)):
        # e: gradient with respect to each layer's current; the membrane carries it back with factor λ.
        e3 = decay * e3 + loss_gradient(outputs[t], targets)[1] / gain[t] / n_steps
        e2 = through_neuron(e2, e3 @ w3.T, u2[t], decay, threshold, detach_reset)
        e1 = through_neuron(e1, e2 @ w2.T, u1[t], decay, threshold, detach_reset)
        for layer, (inputs, e) in enumerate(((xs[t], e1), (s1[t], e2), (s2[t], e3))):
            grads[layer][0] += inputs.T @ e
            grads[layer][1] += e.sum(0)
    return value, grads


def through_neuron(later, from_spikes, u, decay, threshold, detach_reset):
    """dL/du[t] from dL/du[t+1] and dL/ds[t]: m = u − θ s hands λ dL/du[t+1] to both u and s."""
    sigma = slope(u - threshold)
    kept = 1.0 if detach_reset else 1 - threshold * sigma
    return sigma * from_spikes + decay * later * kept


def online(weights, xs, targets, decay, threshold, traced, trace_bias=True, trace_input=True):
    """SLTT (traced=False) or OTTT (True): spatial errors δ[t]; weight gradients at spikes or at their traces.

    The traces of biases and of the net's input may be left out.
    """
    (w2, _), (w3, _) = weights[1:]
    u1, s1, u2, s2, outputs = forward(weights, xs, decay, threshold)
    n_steps, gain = len(xs), gains(len(xs), decay)
    grads = [[np.zeros_like(w), np.zeros_like(b)] for w, b in weights]
    traces = [0.0, 0.0, 0.0]
    for t in range(n_steps):
        d3 = loss_gradient(outputs[t], targets)[1] / gain[t] / n_steps
        d2 = slope(u2[t] - threshold) * (d3 @ w3.T)
        d1 = slope(u1[t] - threshold) * (d2 @ w2.T)
        for layer, (inputs, delta) in enumerate(((xs[t], d1), (s1[t], d2), (s2[t], d3))):
            kept = decay * traces[layer] if traced and (layer or trace_input) else 0.0
            traces[layer] = kept + inputs
            grads[layer][0] += traces[layer].T @ delta
            grads[layer][1] += (gain[t] if traced and trace_bias else 1.0) * delta.sum(0)
    return grads
