"""Output on terminals that cannot show every character: what they lack is spelled with characters that they have."""

import codecs
import io
import sys
import unicodedata

SPELLED = {
    "≤": "<=", "≥": ">=", "±": "+-", "×": "x", "–": "-", "—": "-", "→": "->", "‖": "||", "…": "...", "∞": "inf",
    "∇": "grad ", "−": "-", "·": "*", "√": "sqrt", "σ": "sigma", "λ": "lambda", "θ": "theta", "ḡ": "g",
    "“": '"', "”": '"', "‘": "'", "’": "'", "µ": "u", "≈": "~", "²": "^2",
}  # fmt: skip
"""Spellings of the characters that tables, figures and messages use."""
HANDLER = "bench-spelled"


def _spelled(error: UnicodeError) -> tuple[str, int]:
    """Return a spelling in ASCII of the characters that cannot be encoded, and the position after them."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(SPELLED.get(sign) or _plain(sign) for sign in text), error.end


def _plain(sign: str) -> str:
    """Return a character without its accents; a question mark if ASCII has nothing like it."""
    return unicodedata.normalize("NFKD", sign).encode("ascii", "ignore").decode() or "?"


def spell_what_terminals_lack() -> None:
    """Make stdout and stderr accept every character, whatever their encoding: ``≤`` is written ``<=`` if need be."""
    codecs.register_error(HANDLER, _spelled)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=HANDLER)
