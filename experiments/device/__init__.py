"""What an accelerator does with safjax: proofs, times and memory beside what the compiler foretells."""
