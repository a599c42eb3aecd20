"""The line discipline of a terminal: echo, erasing, ^C and ^D, line ends. Rule
SHELL-9."""

LINE_BYTES_MAX = 4096


class Terminal:
    """Typed characters are shown, and become input line by line."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._echo = bytearray()

    def typed(self, data: bytes) -> tuple[list[bytes], bool, bool]:
        """(complete lines, whether ^C was typed, whether ^D ended the input)."""
        lines: list[bytes] = []
        interrupted = ended = False
        for byte in data:
            if byte in (10, 13):
                self._echo += b"\r\n"
                lines.append(bytes(self._line) + b"\n")
                self._line.clear()
            elif byte == 3:
                self._echo += b"^C\r\n"
                self._line.clear()
                interrupted = True
            elif byte == 4:
                ended = ended or not self._line
            elif byte in (8, 127):
                if self._line:
                    del self._line[-1:]
                    self._echo += b"\b \b"
            elif len(self._line) < LINE_BYTES_MAX:
                self._line.append(byte)
                self._echo.append(byte)
        return lines, interrupted, ended

    def take_echo(self) -> bytes:
        """The echo of the typed characters."""
        echo = bytes(self._echo)
        self._echo.clear()
        return echo

    @staticmethod
    def shown(data: bytes) -> bytes:
        """A program's output as the terminal shows it."""
        return data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
