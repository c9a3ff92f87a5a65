"""A handler service over a Transformer: what BYOC code derives from."""

from __future__ import annotations

from typing import Any

from .transformer import Transformer


class DefaultHandlerService:
    """`initialize(context)` loads the model, `handle(data, context)` answers."""

    def __init__(self, transformer: Any = None) -> None:
        self._service = transformer if transformer is not None else Transformer()

    def initialize(self, context: Any) -> None:
        self._service.validate_and_initialize(context.system_properties["model_dir"], context)

    def handle(self, data: Any, context: Any) -> Any:
        return self._service.transform(data, context)
