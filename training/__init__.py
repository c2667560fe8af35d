"""The pipeline: one file a DVC stage. Imports `vitrine`, never `services`."""

import os

# Threads that wait by spinning make training several times slower as soon as anything else wants the
# same cores. It must be said before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
