"""Threads of numeric libraries: none while a model is loaded that workers share by fork, as many as wanted in each worker.

A fork copies one thread. OpenMP's and OpenBLAS's pools are not made while their number is one, so that a process that has
loaded a model can be forked; afterwards each worker asks the libraries for the number that was meant.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping
from typing import Any

LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_SETTERS = (
    ("OMP_NUM_THREADS", ("libgomp", "libiomp", "libomp"), ("omp_set_num_threads",)),
    (
        "OPENBLAS_NUM_THREADS",
        ("openblas",),
        (
            "openblas_set_num_threads",
            "openblas_set_num_threads64_",
            "scipy_openblas_set_num_threads",
            "scipy_openblas_set_num_threads64_",
        ),
    ),
    ("MKL_NUM_THREADS", ("libmkl_rt",), ("MKL_Set_Num_Threads",)),
)
"""Variable, words in a library's file name, and the functions of which it has one; each takes an int."""


def hold_back(environment: Mapping[str, str]) -> dict[str, int]:
    """Libraries that are loaded from now on make no threads; the numbers that were meant, by variable.

    Only what C code sees changes: `os.environ` goes on saying what the user, or the parent, said.
    """
    wanted = {}
    for name in LIMITS:
        first = environment.get(name, "").partition(",")[0].strip()
        if first.isdecimal() and int(first) > 1:
            wanted[name] = int(first)
        if name in environment:
            os.putenv(name, "1")
    return wanted


def allow(wanted: Mapping[str, int], environment: Mapping[str, str]) -> None:
    """In a worker: the numbers that `hold_back` gave, for libraries that are loaded and for those that will be."""
    for name in LIMITS:
        if name in environment:
            os.putenv(name, environment[name])
    if not wanted:
        return
    for path in _loaded():
        for variable, words, names in _SETTERS:
            if variable in wanted and any(word in os.path.basename(path) for word in words):
                _ask(path, names, wanted[variable])
    torch: Any = sys.modules.get("torch")
    if "OMP_NUM_THREADS" in wanted and hasattr(torch, "set_num_threads"):
        torch.set_num_threads(wanted["OMP_NUM_THREADS"])


def _loaded() -> list[str]:
    """Files of shared libraries in this process."""
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
            return sorted({line.split(maxsplit=5)[5].rstrip("\n") for line in file if ".so" in line})
    except OSError:
        return []


def _ask(path: str, names: tuple[str, ...], count: int) -> None:
    try:
        library = ctypes.CDLL(path, mode=os.RTLD_NOW | os.RTLD_NOLOAD)
    except OSError:
        return  # mapped from a file that has been replaced
    for name in names:
        function = getattr(library, name, None)
        if function is not None:
            function(ctypes.c_int(count))
            return
