"""The crash harness: real processes are killed in the middle of real commands, and what must hold is looked at."""
