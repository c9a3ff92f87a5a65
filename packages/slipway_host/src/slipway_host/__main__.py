"""Entry of a replica's host: `<python of the environment> <this file> [--container] --config FILE`.

The package is loaded by its path and never put on `sys.path`: user code must see its own modules and those of its
environment, nothing of ours (this folder has a `codecs.py`) and nothing that happens to be installed beside us.
"""

from __future__ import annotations

import sys


def _load_package() -> None:
    here = __file__.rpartition("/")[0]
    sys.path[:] = [entry for entry in sys.path if entry != here]
    if "slipway_host" in sys.modules:
        return
    import importlib.util  # noqa: PLC0415  not before the folder left sys.path: `importlib` itself imports by name

    spec = importlib.util.spec_from_file_location("slipway_host", here + "/__init__.py", submodule_search_locations=[here])
    if spec is None or spec.loader is None:
        raise SystemExit(f"slipway_host is not in {here}")
    package = importlib.util.module_from_spec(spec)
    sys.modules["slipway_host"] = package
    spec.loader.exec_module(package)


if __name__ == "__main__":
    _load_package()  # makes the name known
    if sys.argv[1:2] == ["--container"]:
        from slipway_host.container import main as of_container

        sys.exit(of_container(sys.argv[2:]))
    from slipway_host.parent import main

    sys.exit(main(sys.argv[1:]))
