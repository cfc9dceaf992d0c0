"""Why did the model say that? One prediction explained, and the report written as a page that needs no network."""

from pathlib import Path

import cutaway as ca

model = ca.open("smollm2")
explanation = ca.explain(model, "The capital of France is", controls=5)

print(f"After {explanation.question.prompt!r} comes {explanation.question.answer!r}.")
for sentence in explanation.summary:
    print("*", sentence)

page = explanation.save(Path("explanation.html"))
print(f"The report with its pictures: {page} ({page.stat().st_size // 1024} KiB)")
