"""Devices, precision, memory, threads and random generators."""
