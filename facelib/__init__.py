"""A reference analysis of facial demographics."""

import os

# Threads that wait for a slower one sleep: on two cores this is 1.7 times as fast beside another program, and no slower
# alone (`python -m benchmarks.threads`). OpenMP reads it when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
