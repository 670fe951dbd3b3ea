"""What a user is told, and how he stops it: messages on stderr, Ctrl-C and SIGTERM."""
