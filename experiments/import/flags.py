"""Writes the flags of open_clip's training command and how many values they take, which a test holds the table of
`couplet import` against: python experiments/import/flags.py > experiments/import/flags.txt
"""

import argparse

from open_clip_train.params import parse_args


def print_flags(parser, _):
    counts = {0: "nothing", None: "one", "+": "any", "*": "any"}
    flags = [(action.option_strings[-1][2:], counts[action.nargs]) for action in parser._actions]
    print("\n".join(sorted(f"{name} {count}" for name, count in flags if name != "help")))
    raise SystemExit


argparse.ArgumentParser.parse_args = print_flags
parse_args([])
