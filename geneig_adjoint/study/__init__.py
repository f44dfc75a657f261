"""Study files: what to solve, what to differentiate, where to write."""
