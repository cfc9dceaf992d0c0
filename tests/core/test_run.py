"""A run is a mapping: the address of a part finds it in whatever larger value was read."""

from __future__ import annotations

import pytest
import torch

from cutaway.core.errors import SiteError
from cutaway.core.run import Run, token_positions
from cutaway.core.site import Site

LENGTHS = (5, 3)
IDS = (tuple(range(5)), tuple(range(3)))


def numbered(*shape: int) -> torch.Tensor:
    return torch.arange(torch.Size(shape).numel()).reshape(shape).float()


@pytest.fixture
def run() -> Run:
    held = {
        Site("resid_post", 0): numbered(2, 5, 8),
        Site("resid_post", 2): numbered(2, 5, 8) + 1000,
        Site("z", 1): numbered(2, 5, 4, 3),
        Site("pattern", 1): numbered(2, 4, 5, 5),
        Site("expert_out", 1): numbered(2, 6, 5, 8),
        Site("q", 0, head=1): numbered(2, 5, 3),
        Site("q", 0, head=3): numbered(2, 5, 3) + 100,
        Site("k", 1): numbered(2, 5, 2, 3),
        Site("mlp_act", 0, position=-1): numbered(2, 16),
    }
    return Run(held, IDS, positions={"subject": [3, 1]}, n_layers={"": 4})


def test_parts_are_found_in_the_whole(run: Run) -> None:
    resid, z, pattern = (run[s] for s in ("resid_post[0]", "z[1]", "pattern[1]"))
    rows = [0, 1]
    assert torch.equal(run["resid_post[0]@-1"], resid[rows, [4, 2]])
    assert torch.equal(run["resid_post[0]@end"], resid[rows, [4, 2]])
    assert torch.equal(run["resid_post[0]@subject"], resid[rows, [3, 1]])
    assert torch.equal(run["resid_post[0]@1"], resid[:, 1])
    assert torch.equal(run["resid_post[0]@1:3"], resid[:, 1:3])
    assert torch.equal(run["resid_post[0]@*"], resid)
    assert torch.equal(run["resid_post[0].unit[5]"], resid[..., 5])
    assert torch.equal(run["z[1].head[2]"], z[:, :, 2])
    assert torch.equal(run["z[1].head[2]@-1"], z[rows, [4, 2], 2])
    assert torch.equal(run["z[1].head[2].unit[1]@-1"], z[rows, [4, 2], 2, 1])
    assert torch.equal(run["z[1].unit[1]@-1"], z[rows, [4, 2], :, 1])
    assert torch.equal(run["z[1].head[1:3]@-1"], z[rows, [4, 2], 1:3])
    assert torch.equal(run["pattern[1]@-1"], pattern[rows, :, [4, 2]])
    assert torch.equal(run["pattern[1].head[3]@2"], pattern[:, 3, 2])
    assert torch.equal(run["pattern[1].head[3].unit[0]@2"], pattern[:, 3, 2, 0])
    assert torch.equal(run["expert_out[1].expert[4]@-1"], run["expert_out[1]"][rows, 4, [4, 2]])
    assert torch.equal(run["expert_out[1]@-1"], run["expert_out[1]"][rows, :, [4, 2]])


def test_every_part_has_the_dims_that_its_site_names(run: Run) -> None:
    sizes = {"prompt": 2, "position": 5, "query": 5, "key": 5, "head": 4, "d_head": 3, "d_model": 8, "expert": 6}
    for text in (
        "resid_post[0]@-1",
        "z[1].head[2]",
        "z[1].unit[1]@0",
        "pattern[1]@-1",
        "pattern[1].head[0]",
        "pattern[1].unit[3]",
        "expert_out[1].expert[4]",
        "expert_out[1].unit[2]@1",
    ):
        assert tuple(run[text].shape) == tuple(sizes[d] for d in Site.parse(text).dims), text


def test_layers_are_stacked(run: Run) -> None:
    both = torch.stack([run["resid_post[0]@-1"], run["resid_post[2]@-1"]])
    assert torch.equal(run["resid_post[*]@-1"], both)
    assert torch.equal(run["resid_post[::2]@-1"], both)
    assert torch.equal(run["resid_post[1:]@-1"], both[1:])
    assert torch.equal(run["resid_post[:-1]@-1"], both)
    assert torch.equal(run["resid_post[-2:]@-1"], both[1:])


def test_layers_count_from_the_end_of_the_network(run: Run) -> None:
    assert run["resid_post[-2]"] is run["resid_post[2]"]
    assert run["resid_post[-4]"] is run["resid_post[0]"]
    with pytest.raises(SiteError, match="was not read"):
        run["resid_post[-1]"]  # layer 3, of which nothing is held: not the last layer that is
    with pytest.raises(SiteError, match="No layer of"):
        run["resid_post[-1:]"]


def test_heads_that_were_read_one_by_one(run: Run) -> None:
    assert torch.equal(run["q[0].head[1]@-1"], numbered(2, 5, 3)[[0, 1], [4, 2]])
    assert torch.equal(run["q[0].head[*]"], torch.stack([run["q[0].head[1]"], run["q[0].head[3]"]], dim=2))
    assert torch.equal(run["q[0].head[2:]"], run["q[0].head[3]"][:, :, None])


def test_what_is_not_there_is_not_made_up(run: Run) -> None:
    for text in ("q[0]", "q[0].head[0]", "mlp_act[0]", "mlp_act[0]@0", "resid_post[1]", "z[0]", "encoder.z[1]"):
        assert text not in run
        with pytest.raises(SiteError, match="was not read in this run"):
            run[text]
    assert "resid_post[0]@4" not in run  # the second prompt has 3 tokens
    assert "resid_post[0]@0" in run


def test_mapping(run: Run) -> None:
    assert len(run) == 9
    assert list(run) == list(run.held)
    assert run[Site("z", 1)] is run.held[Site("z", 1)]
    assert repr(run).startswith("Run(2 prompts, 9 sites: resid_post[0], resid_post[2], z[1]")


def test_a_slice_from_the_end_of_prompts_of_several_lengths(run: Run) -> None:
    with pytest.raises(SiteError) as caught:
        run["resid_post[0]@-2:"]
    assert str(caught.value).startswith("'resid_post[0]@-2:' counts from the end of prompts of 3 to 5 tokens.")
    even = Run({Site("resid_post", 0): numbered(2, 5, 8)}, (IDS[0], IDS[0]))
    assert torch.equal(even["resid_post[0]@-2:"], even["resid_post[0]"][:, -2:])


def test_errors_say_what_is_there(run: Run) -> None:
    with pytest.raises(SiteError) as caught:
        run["mlp_out[3]"]
    assert str(caught.value) == (
        "'mlp_out[3]' was not read in this run. It has: resid_post[0], resid_post[2], z[1], pattern[1], "
        "expert_out[1], q[0].head[1], q[0].head[3], k[1] …. "
        'Ask for it: model.run(prompts, read="mlp_out[3]").'
    )
    with pytest.raises(SiteError, match=r"No position is called 'verb' here. Known: end, subject."):
        run["z[1]@verb"]
    with pytest.raises(SiteError, match=r"Position 3 does not exist in a prompt of 3 tokens: there are 0 to 2, or -3"):
        run["z[1]@3"]
    with pytest.raises(SiteError, match=r"This run kept no logits"):
        run.last_logits
    with pytest.raises(SiteError, match="was not differentiated in this run"):
        run.grad("z[1]")


def test_logits_at_the_end() -> None:
    logits = numbered(2, 5, 7)
    whole = Run({}, IDS, logits=logits)
    assert torch.equal(whole.last_logits, logits[[0, 1], [4, 2]])
    last = Run({}, IDS, logits=logits[:, :1], logits_at_end=True)
    assert torch.equal(last.last_logits, logits[:, 0])
    one_token = Run({}, ((3,), (4,)), logits=logits[:, :1])
    assert torch.equal(one_token.last_logits, logits[:, 0])


def test_gradients_have_the_same_addresses() -> None:
    run = Run({}, IDS, grads={Site("z", 1): numbered(2, 5, 4, 3)})
    assert torch.equal(run.grad("z[1].head[2]@-1"), numbered(2, 5, 4, 3)[[0, 1], [4, 2], 2])


def test_keys_for_each_query_head(run: Run) -> None:
    with_queries = Run({**run.held, Site("z", 1): numbered(2, 5, 4, 3)}, IDS)
    wide = with_queries.per_query_head("k[1]")
    assert torch.equal(wide, run["k[1]"].repeat_interleave(2, dim=2))
    with pytest.raises(SiteError, match=r"Read 'q\[1\]' too, or read 'k_per_query_head\[1\]'"):
        Run({Site("k", 1): run["k[1]"]}, IDS).per_query_head("k[1]")


def test_the_encoder_has_positions_of_its_own() -> None:
    held = {Site("resid_post", 0): numbered(2, 2, 8), Site("resid_post", 0, stack="encoder"): numbered(2, 5, 8)}
    run = Run(held, ((1, 2), (1,)), encoder_ids=IDS, positions={"subject": [3, 1]}, n_layers={"": 2, "encoder": 2})
    assert torch.equal(run["encoder.resid_post[0]@-1"], held[Site("resid_post", 0, stack="encoder")][[0, 1], [4, 2]])
    assert torch.equal(run["encoder.resid_post[0]@subject"], numbered(2, 5, 8)[[0, 1], [3, 1]])
    assert torch.equal(run["resid_post[0]@-1"], numbered(2, 2, 8)[[0, 1], [1, 0]])
    with pytest.raises(SiteError, match="No position is called 'subject' here"):
        run["resid_post[0]@subject"]


def test_token_positions() -> None:
    assert token_positions(-1, LENGTHS) == [4, 2]
    assert token_positions(0, LENGTHS) == [0, 0]
    assert token_positions("end", LENGTHS, {"end": [0, 0]}) == [4, 2]
    assert token_positions("subject", LENGTHS, {"subject": [3, 1]}) == [3, 1]
    for outside in (-4, 3):
        with pytest.raises(SiteError, match="does not exist in a prompt of 3 tokens"):
            token_positions(outside, LENGTHS)
