"""What does one head carry? Its output on one prompt is put into the run of another, and the answer is watched."""

import cutaway as ca

model = ca.open("smollm2")
prompt = "When Mary and John went to the store, John gave a drink to"
contrast = "When Mary and John went to the store, Mary gave a drink to"
mary, john = model.token_id(" Mary"), model.token_id(" John")
head = "z[23].head[3]@-1"


def ahead(text: str, edit: ca.Edit | None = None) -> float:
    """How far the logit of ' Mary' is ahead of that of ' John'."""
    logits = model.run(text, edit=edit, logits="last").last_logits[0]
    return float(logits[mary] - logits[john])


source = model.run(prompt, read=head)
low, high = ahead(contrast), ahead(prompt)
patched = ahead(contrast, ca.patch(head, source))
other = ahead(contrast, ca.patch("z[23].head[4]@-1", model.run(prompt, read="z[23].head[4]@-1")))

print(f"the prompt                        {high:6.2f}")
print(f"the contrast                      {low:6.2f}")
print(f"the contrast, with head 3's value {patched:6.2f}   {(patched - low) / (high - low):.0%} of the way")
print(f"the contrast, with head 4's value {other:6.2f}   {(other - low) / (high - low):.0%} of the way (a control)")

looks = model.run(prompt, read="pattern[23]")["pattern[23].head[3]@-1"][0]
words = model.token_strings(model.encode(prompt))
strongest = [f"{words[i]!r} (token {i}) {looks[i]:.2f}" for i in looks.topk(3).indices.tolist()]
print("At the last token head 3 of layer 23 looks at", ", ".join(strongest))
