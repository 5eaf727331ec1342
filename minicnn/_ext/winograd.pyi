"""Nothing for Python: the kernels are called by the jobs of conv."""
