"""Everybody's worker with the same POST. Read by the workers' own commands; each file runs alone."""
