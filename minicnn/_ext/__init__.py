"""The compiled floor; private, and imports nothing of minicnn.

Here stand the kernels, a Cython module for each kind of layer; in ``leaves`` the inner loops that they call, in C; in
``machinery`` what runs them.
"""
