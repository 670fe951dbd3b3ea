"""The subcommands, one table, or set of tables, each."""

from experiments.benchmark.tables.inference import Inference
from experiments.benchmark.tables.input import Input
from experiments.benchmark.tables.measure import Measure
from experiments.benchmark.tables.paper import Paper
from experiments.benchmark.tables.peers import Peers
from experiments.benchmark.tables.rules import Rules
from experiments.benchmark.tables.stream import Stream

__all__ = ["Inference", "Input", "Measure", "Paper", "Peers", "Rules", "Stream"]
