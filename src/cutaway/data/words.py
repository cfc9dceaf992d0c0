"""Common English nouns for prompts that need words without a story.

A list of our own. Each is one token, with a leading space, of SmolLM2's vocabulary (a test holds
it), and of those of Gemma 3 and BERT; in other large vocabularies nearly all are.
"""

from __future__ import annotations


def listed(words: str) -> tuple[str, ...]:
    """Words between spaces as a tuple."""
    return tuple(words.split())


NOUNS: tuple[str, ...] = listed(
    """
    apple river stone paper window table chair bridge cloud forest mountain ocean island desert valley
    hammer bottle candle mirror basket blanket carpet curtain pillow ladder wagon engine wheel rocket planet
    comet tiger horse rabbit eagle spider dragon turtle monkey pepper sugar butter cheese bread lemon orange
    cherry onion potato garlic pencil guitar piano violin drum trumpet button pocket jacket shirt glove boot
    silver copper iron diamond crystal marble cotton leather rubber plastic winter summer autumn spring
    morning evening shadow thunder storm flame smoke dust sand mud glass brick tower castle palace temple
    tunnel harbor canal fence gate roof floor wall kitchen cabin market circus doctor farmer soldier sailor
    painter writer lawyer judge baker king queen prince knight giant ghost angel devil pirate robot camera
    clock radio television magazine novel poem song dance movie ticket coin wallet purse envelope stamp flag
    ribbon rope chain knife spoon fork plate bowl kettle oven stove lamp torch
    """
)
