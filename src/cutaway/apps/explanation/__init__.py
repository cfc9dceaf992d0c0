"""Why did the model say that? One prediction explained, and the explanation tested."""

from cutaway.apps.explanation.explanation import Explanation, explain

__all__ = ["Explanation", "explain"]
