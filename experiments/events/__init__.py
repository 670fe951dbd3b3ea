"""Event files from the command line: `look` tells what a file holds and draws it."""
