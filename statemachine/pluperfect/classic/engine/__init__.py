"""Signals, states, cache validators and results, at Prefect 1's places."""
