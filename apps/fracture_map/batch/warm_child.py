"""An analysing process that keeps its networks, for one study after the other.

It is started by `fracture_map.batch.warm` and ends with it. Each request comes through a socket together with
the pipe on which it is answered; the rest is as in `fracture_map.child`.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from functools import cache, partial

from fracture_map.child import Tell, analyse, answer, die_with_parent, load_method
from fracture_map.messages import MESSAGES_FD, Request
from fracture_map.study import ANSWERS

_REQUEST_BYTES = 1 << 16


_analyse_warm = partial(analyse, load=cache(load_method))


def main(work: Callable[[Request, Tell], None] = _analyse_warm) -> int:
    """Answer requests until there are no more, or one ends in a way that leaves this process in doubt."""
    die_with_parent()
    with socket.socket(fileno=int(os.environ[MESSAGES_FD])) as requests:
        while True:
            request, fds, _, _ = socket.recv_fds(requests, _REQUEST_BYTES, 1)
            if not request:
                return 0
            with os.fdopen(fds[0], "wb", buffering=0) as pipe:
                code = answer(request.decode(), pipe, work)
            if code not in ANSWERS:
                return code


if __name__ == "__main__":
    # As in `fracture_map.child`: threads of Holoscan and CUDA need not be waited for.
    code = main()
    sys.stderr.flush()
    os._exit(code)
