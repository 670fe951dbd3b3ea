"""Step time, memory and compile time of a training step: safjax's rules beside one another and beside peer libraries.

    python -m experiments.benchmark                     # the published VGG, batch 16, T = 6
    python -m experiments.benchmark --unrolled          # and against each rule's fully unrolled time loop
    python -m experiments.benchmark --methods saf_f ottt_a --steps 32
    python -m experiments.benchmark --network=dense --methods bptt exodus slayer sltt --repeats 15

Rows of other libraries (spikingjelly, snntorch, spyx, sinabs) need the extra: pip install -e ".[experiments,peers]"

    python -m experiments.benchmark --output=runs/vgg --methods saf_f ottt_a ottt_o sltt bptt \\
        spikingjelly:ottt_a spikingjelly:ottt_o spikingjelly:sltt spikingjelly:bptt
    python -m experiments.benchmark --network=dense --output=runs/dense --methods bptt exodus sltt ottt_a \\
        snntorch:bptt spyx:bptt sinabs:bptt spikingjelly:bptt
    python -m experiments.benchmark --network=conv --output=runs/conv --methods bptt bptt_layerwise saf_f \\
        snntorch:bptt spikingjelly:bptt spyx:bptt

Every row is a process of its own. After a first step, which compiles and is not timed, the rows take turns, one step
each and never two at once, so that whatever else the machine does falls on all of them. Times are medians over
`repeats` turns, with their ratio to the first row. "temp MB" is XLA's own figure for temporary buffers; "peak MB" is
all memory resident in the row's process at its highest, libraries and compilation included; "compile s" is the first
step. GFLOP/s are the multiplications and additions of the matrix products and convolutions of safjax's program over the
median time, to be seen beside the machine's 2048³ matrix product, taken before and after the rows.

All rows have `--threads` threads: PJRT_NPROC sets XLA's pool on a CPU, torch.set_num_threads and OMP_NUM_THREADS
PyTorch's. A quiet machine is needed: with fewer idle cores than threads, PyTorch's threads wait for one another far
longer than XLA's. Peers on PyTorch run on the CPU only.

All do the same work on the same batch: network, shapes, T, decay, float32, loss of every step, optimizer. Peers start
from their own initial weights and have their own form of the neuron; spyx, snntorch and spikingjelly have the same
surrogate as safjax, sinabs its own. They read out the current of each step where safjax takes its leaky mean, and
convolve a static image at every step where safjax does so once (2 % of the operations or less).

Prints a Markdown table; --output also writes it to `table.md`, with `rows.jsonl` and `chart.png`. The exit code is 1 if
a row failed; its line then ends with the error, and the others are measured all the same.
"""
