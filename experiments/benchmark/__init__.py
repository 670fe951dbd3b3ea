"""Step time, memory and compile time of a training step: safjax's rules beside one another and beside peer libraries.

    python -m experiments.benchmark rules      # every rule at T = 2, 6, 12, 24, 48: what grows with T
    python -m experiments.benchmark paper      # SAF against OTTT at T = 6 and 32, beside the published ratios
    python -m experiments.benchmark peers      # seven networks, beside SpikingJelly, snnTorch, Spyx and sinabs
    python -m experiments.benchmark inference  # a net at work, at batch 1, 8 and 64, beside peers and streamed
    python -m experiments.benchmark input      # images a second of the input pipeline, and of training
    python -m experiments.benchmark stream     # a loop of steps one by one beside one call over the whole sequence
    python -m experiments.benchmark measure    # any rows on any of the networks

    python -m experiments.benchmark measure --methods saf_f ottt_a --steps 32
    python -m experiments.benchmark measure --methods saf_f bptt --unrolled    # and with all T steps written out
    python -m experiments.benchmark measure --network=dense --methods bptt exodus spyx:bptt --repeats 15

SUBCOMMAND --help lists its flags; --output=FOLDER keeps the tables as table.md, every step of every row in rows.jsonl,
and the charts. Rows of other libraries need the extra: pip install -e ".[experiments,peers]"

Every row is a process of its own. After a first step, which is not timed, the rows of a table take turns, one step each
and never two at once, so that whatever else the machine does falls on all of them. Times are medians over `--repeats`
turns; a row whose turns have taken `--seconds` has fewer, two at least. "temp MB" is XLA's own figure for temporary
buffers; "peak MB" is all memory resident in the row's process at its highest, libraries and compilation included;
"compile s" is tracing and compiling ahead of the first step, of programs under XLA. "GMAC a step" are 10⁹
multiply-accumulates of the matrix products and convolutions of safjax's program, loops counted as often as they run.
GFLOP/s are twice these over the median time, and "of product" is their share of what the machine's 2048³ matrix product
reaches, the mean of one before and one after the rows of the table.

Below the tables stands what is to be reached (`experiments.benchmark.targets`), what was reached, and whether that is
enough. Of an online rule, temporary memory and compile time at the largest T are divided by those at T = 6.

All rows have `--threads` threads: PJRT_NPROC sets XLA's pool on a CPU, torch.set_num_threads and OMP_NUM_THREADS
PyTorch's. A quiet machine is needed: with fewer idle cores than threads, PyTorch's threads wait for one another far
longer than XLA's. Peers on PyTorch run on the CPU only.

All do the same work on the same batch: network, shapes, T, decay, float32, loss of every step, optimizer. Peers start
from their own initial weights and have their own form of the neuron; spyx, snntorch and spikingjelly have the same
surrogate as safjax, sinabs its own. They read out the current of each step where safjax takes its leaky mean in vgg,
dense, conv and resnet, and convolve a static image at every step where safjax does so once (2 % of the operations or
less). Batch normalisation is over all steps in rows that go layer by layer, safjax's bptt_layerwise, exodus and slayer
and spikingjelly:bptt, and over each step in those that go step by step. SpikingJelly's step mode "m" is the row
spikingjelly:bptt, its "s" spikingjelly:bptt_single. No layer of recurrent can be computed over all steps before the
next one, so that its rows are those that go step by step.

A turn of an inference row is a batch of T steps without gradients, as safjax.predict and as T calls of a stream,
which hands each output over before the next step; peers of PyTorch under torch.inference_mode().

A turn of an input row is 8 batches from a standing start: random images of CIFAR-10's shape, gathered, cropped, flipped
and cut out on the device; or JPEG files of the size of ImageNet's, held in memory, decoded, cropped and flipped.

The exit code is 0; 1 if a row failed, whose line then ends with the error (the others are measured all the same); 2 if
a flag is not possible; 130 after Ctrl-C, which ends all rows: tables that were complete are kept.
"""
