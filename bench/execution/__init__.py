"""Where the work runs, and in what order: a study folder, worker processes, one loop."""
