"""What do several methods that read sentences ask for in the same words? Their parameters, each said once."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import AfterValidator, Field

from cutaway.methods.control import enough

Treebank: TypeAlias = Annotated[
    str, Field(description="sentences with trees: made, ewt (where CUTAWAY_UD says), or the path of a .conllu file")
]
Heads: TypeAlias = Annotated[
    str, Field(description="layers and heads, such as pattern[*], pattern[5:8] or pattern[9].head[6]")
]
Streams: TypeAlias = Annotated[
    str, Field(description="residual streams, such as resid_post[*], resid_pre[3:6] or embed")
]
ShuffledNetworks: TypeAlias = Annotated[
    int,
    Field(ge=0, description="networks with shuffled weights that the check compares with, 5 or more; 0: no check"),
    AfterValidator(enough),
]
