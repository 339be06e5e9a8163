"""What both adapters refuse, before the first batch."""

from cltools.mining import NegativeRule, PositiveRule


def check_rules(positive_rule: object, negative_rule: object) -> None:
    """Raise ValueError for rules that are none, or in the wrong order."""
    if not isinstance(positive_rule, PositiveRule) or not isinstance(negative_rule, NegativeRule):
        raise ValueError(
            f"The rules are {type(positive_rule).__name__} and {type(negative_rule).__name__}; "
            "give a positive rule such as NearestKeys(), then a negative rule such as RankBand()."
        )
