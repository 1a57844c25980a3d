"""The machine: devices, precision, memory, threads, random generators."""
