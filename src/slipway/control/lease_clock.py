"""When leases that look overdue may be taken as such: not before every holder has had the chance to renew them.

Which nobody had while no control was there, while the machine slept, and where the clock was set.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

logger = logging.getLogger(__name__)

JUMP_SECONDS = 1.0
"""What the clock gains or loses between two looks, beyond which it was set, or the machine asleep."""


class LeaseClock:
    """From the beginning of a control on. `now`: epoch seconds; `steady`: of a clock that nobody sets, and that stands still
    while the machine sleeps."""

    def __init__(self, lease_seconds: float, now: Callable[[], float], steady: Callable[[], float]) -> None:
        self._lease_seconds = lease_seconds
        self._now = now
        self._steady = steady
        self._began = now()
        self._ahead = self._began - steady()

    def mind(self) -> None:
        """Call it before `may_reap`, often. Leases that ran out in a jump of the clock have not."""
        ahead = self._now() - self._steady()
        if abs(ahead - self._ahead) > JUMP_SECONDS:
            logger.warning("clock-jumped", extra={"seconds": round(ahead - self._ahead, 3)})
            self._began = self._now()
        self._ahead = ahead

    @property
    def may_reap(self) -> bool:
        """Every lease has had its chance to be renewed since this control began, and since the clock was set."""
        return self._now() >= self._began + self._lease_seconds
