"""A reference analysis of facial demographics."""

import os

# Threads that wait for a slower one sleep: beside another program this is 1.7 times as fast, and alone no slower
# (`python -m benchmarks.threads`). OpenMP reads it when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
