"""What runs the kernels: threads, memory, the choice of the instruction set, jobs and plans, random numbers."""
