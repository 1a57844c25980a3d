"""Synthetic tasks, one a file: where examples come from, and when an answer is right. There is none yet."""
