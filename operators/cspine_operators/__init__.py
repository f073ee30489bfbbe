"""MONAI Deploy operators: thin doors to the library.

Each one receives, calls one function that it was given, and emits one frozen value. What the function is, the
application says; so a test can give any other.
"""

from cspine.cuda_runtime import preload

preload()  # Holoscan, which the operators import, links to a library of which only pip knows the place.
