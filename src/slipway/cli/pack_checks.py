"""What is wrong with a model's files, told before they are uploaded: layout, script, requirements (containers.md 2)."""

from __future__ import annotations

import ast
import os
from pathlib import Path

from slipway.cli.pack_frameworks import Finding, check_files
from slipway.replicas.failures import CannotRun
from slipway.replicas.requirements import read_requirements

JUNK = frozenset(
    (".git", ".ipynb_checkpoints", "__pycache__", "__MACOSX", ".DS_Store", ".venv", ".mypy_cache", ".pytest_cache")
)
"""What never belongs into an archive; left out."""
_FUNCTIONS = {"model_fn": 1, "input_fn": 2, "predict_fn": 2, "output_fn": 2, "transform_fn": 4}
_WITHOUT_CONTEXT = ("sklearn", "xgboost")


def check_tree(folder: Path, framework: str = "") -> list[Finding]:
    """What is wrong with the unpacked archive in `folder`, the worst first."""
    names = sorted(entry.name for entry in folder.iterdir() if entry.name not in JUNK and not entry.name.startswith("._"))
    if not names:
        return [Finding(True, "There is nothing in it.", "put the model's files there, and code/inference.py")]
    found = _nested(folder, names)
    code = folder / "code" if (folder / "code").is_dir() else folder
    script = code / "inference.py"
    if code == folder and script.is_file():
        found.append(
            Finding(
                False,
                "inference.py lies at the top.",
                "in the archive it must be code/inference.py: `slipway pack` puts it there",
            )
        )
    found += _requirements(folder, code)
    if script.is_file():
        found += _script(script, framework)
    if not any(each.wrong for each in found):
        found += check_files(folder, names, framework, script=script.is_file())
    return sorted(found, key=lambda each: not each.wrong)


def _nested(folder: Path, names: list[str]) -> list[Finding]:
    """The most common mistake: the folder was packed, not what is in it."""
    if len(names) == 1 and names[0] != "code" and (folder / names[0]).is_dir():
        inner = names[0]
        if (folder / inner / "code").is_dir() or (folder / inner / "inference.py").is_file():
            message = f"Everything lies one folder too deep, in {inner}/."
            return [Finding(True, message, f"pack what is in that folder: slipway pack {folder / inner}")]
    return []


def _requirements(folder: Path, code: Path) -> list[Finding]:
    file = code / "requirements.txt"
    if file.is_file():
        try:
            read_requirements(str(file), os.environ)
        except CannotRun as error:
            return [Finding(True, error.failure.message, error.failure.mend)]
    elif (folder / "requirements.txt").is_file():
        return [Finding(True, "requirements.txt beside code/ is not read.", "move it into code/")]
    return []


def _script(path: Path, framework: str) -> list[Finding]:
    """Without running it: whether it can be parsed, which functions it has, and how many arguments they take."""
    try:
        tree = ast.parse(path.read_bytes(), str(path))
    except (SyntaxError, ValueError) as error:
        line = f" (line {error.lineno})" if isinstance(error, SyntaxError) and error.lineno else ""
        return [Finding(True, f"inference.py cannot be parsed{line}: {getattr(error, 'msg', error)}.", "correct that line")]
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    imported = any(isinstance(node, ast.ImportFrom | ast.Assign) for node in tree.body)
    found = []
    if framework in _WITHOUT_CONTEXT and "model_fn" not in functions and not imported:
        mend = "define model_fn(model_dir), which loads the model from model_dir and returns it"
        found.append(Finding(True, "inference.py defines no model_fn.", mend))
    three = sorted(set(functions) & {"input_fn", "predict_fn", "output_fn"})
    if "transform_fn" in functions and three:
        message = f"inference.py defines transform_fn and {', '.join(three)}, which exclude each other."
        found.append(Finding(True, message, "keep transform_fn alone, or remove it"))
    for name, wanted in _FUNCTIONS.items():
        if (node := functions.get(name)) is not None:
            found += _arguments(node, wanted, framework)
    return found


def _arguments(node: ast.FunctionDef | ast.AsyncFunctionDef, wanted: int, framework: str) -> list[Finding]:
    given = node.args
    if given.vararg or given.kwarg:
        return []
    count = len(given.posonlyargs) + len(given.args)
    needed = count - len(given.defaults)
    allowed = (wanted,) if framework in _WITHOUT_CONTEXT else (wanted, wanted + 1)
    if any(needed <= each <= count for each in allowed):
        return []
    shown = " or ".join(map(str, allowed))
    mend = "the last of them is the context" if len(allowed) > 1 else f"images of {framework} pass no context"
    return [Finding(True, f"{node.name} (line {node.lineno}) takes {count} arguments; it is called with {shown}.", mend)]
