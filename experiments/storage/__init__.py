"""The folder of a run: who has it, what is in it, and how it survives what happens to the run."""
