"""Runs evaluated from the command line; `tests/test_cli.py` runs the command itself."""

from typing import get_args

from cltools import cli
from cltools.evaluation import PROTOCOLS


def test_every_choice_of_the_flag_has_its_protocols() -> None:
    choices = {each: cli.PROTOCOLS.get(each, (each,)) for each in get_args(cli.Protocol)}
    assert choices.keys() >= {*PROTOCOLS, *cli.PROTOCOLS} and choices.pop("default") is None
    assert all({*(found or ())} <= {*PROTOCOLS} for found in choices.values()) and choices["all"] == PROTOCOLS
    assert choices["knn10"] == ("knn10",) and choices["knn"] == ("knn200", "knn10")
