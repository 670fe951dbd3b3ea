"""Still images: in memory or as files, how they are augmented, and the published sets of them."""
