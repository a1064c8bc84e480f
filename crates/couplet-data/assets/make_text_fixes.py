"""Writes text_fixes.json.gz: the tables of ftfy 6.3.1 (Apache-2.0, Robyn Speer) and of
Python's html module, for `src/tokenizer/ftfy.rs` and `src/tokenizer/html.rs`.

Run: python make_text_fixes.py   (needs ftfy==6.3.1)
"""
import gzip
import html.entities
import json
import pathlib
import re

from ftfy import badness, chardata


def plain(pattern):
    """The pattern without what re.VERBOSE ignores: whitespace and comments outside of character classes."""
    out, in_class, at = [], False, 0
    while at < len(pattern):
        c = pattern[at]
        if c == "\\":
            out.append(pattern[at : at + 2])
            at += 2
            continue
        if in_class:
            in_class = c != "]"
        elif c == "[":
            in_class = True
        elif c == "#":
            at = pattern.find("\n", at)
            continue
        elif c.isspace() and c != "\u00a0":
            at += 1
            continue
        out.append(c)
        at += 1
    return "".join(out)


tables = {
    "badness": plain(badness.BADNESS_RE.pattern),
    "utf8_detector": plain(chardata.UTF8_DETECTOR_RE.pattern),
    # What the bytes 0x80 to 0xff and 0x1a decode to.
    "charmaps": [
        [name, bytes([*range(0x80, 0x100), 0x1A]).decode(name)] for name in chardata.CHARMAP_ENCODINGS
    ],
    "ligatures": {chr(key): value for key, value in chardata.LIGATURES.items()},
    "widths": {chr(key): value for key, value in chardata.WIDTH_MAP.items()},
    "ftfy_entities": {key[1:]: value for key, value in chardata.HTML_ENTITIES.items()},
    "html5": html.entities.html5,
    "html_invalid_charrefs": {str(key): value for key, value in html._invalid_charrefs.items()},
    "html_invalid_codepoints": sorted(html._invalid_codepoints),
}
assert badness.BADNESS_RE.flags & re.VERBOSE and chardata.UTF8_DETECTOR_RE.flags & re.VERBOSE
text = json.dumps(tables, ensure_ascii=False, separators=(",", ":"))
path = pathlib.Path(__file__).with_name("text_fixes.json.gz")
path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
