"""What is compared, and how each peer computes it; `worker` runs one of them in a process."""
