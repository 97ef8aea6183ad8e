"""The worker: threads with one duty each around a pool that runs the jobs."""
