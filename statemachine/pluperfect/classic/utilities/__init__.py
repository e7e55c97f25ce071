"""Small helpers, at Prefect 1's places."""
