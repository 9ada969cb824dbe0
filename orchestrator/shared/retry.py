"""Retries a call at a fixed interval for a limited time."""

import time
from collections.abc import Callable

import tenacity  # noqa: TID251 - the only module that may

#: Default pause in seconds between two tries.
PAUSE_SECONDS = 0.05


def until[T](ask: Callable[[], T], seconds: float, pause: float = PAUSE_SECONDS) -> T:
    """Call `ask` until it returns a true value, for at most `seconds`; returns the last result.

    An exception from `ask` is not retried.
    """
    tries = _policy(tenacity.retry_if_result(lambda answer: not answer), seconds, pause)
    last = tries.copy(retry_error_callback=lambda state: state.outcome and state.outcome.result())
    answer: T = last(ask)
    return answer


def without[T](
    errors: type[Exception] | tuple[type[Exception], ...],
    act: Callable[[], T],
    seconds: float,
    pause: float = PAUSE_SECONDS,
) -> T:
    """Call `act` until it raises none of `errors`; after `seconds` re-raise the last one."""
    tries = _policy(tenacity.retry_if_exception_type(errors), seconds, pause)
    return tries.copy(reraise=True)(act)


def _policy(retry: tenacity.retry_base, seconds: float, pause: float) -> tenacity.Retrying:
    return tenacity.Retrying(
        retry=retry,
        wait=tenacity.wait_fixed(pause),
        stop=tenacity.stop_after_delay(seconds),
        sleep=time.sleep,
    )
