"""Ready-made tasks, at Prefect 1's places."""
