"""Returns freed memory to the system. Rule HTTP-10 (spec/http.md)."""


def give_memory_back() -> None:
    """Return freed memory to the system: the C library would keep half of a burst. Only with
    glibc."""
    import ctypes  # imported here, because it is not needed at start

    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        return
