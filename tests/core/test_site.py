"""Sites: everything that prints parses back, and everything that is wrong says so."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutaway.core.errors import SiteError
from cutaway.core.site import EVERY, KINDS, STACKS, Site, Span, parse_sites

ENDS = [kind for kind, (part, _) in KINDS.items() if part == "ends"]
LAYERED = [kind for kind in KINDS if kind not in ENDS]

numbers = st.integers(-200, 200)
spans = st.builds(
    Span,
    st.none() | numbers,
    st.none() | numbers,
    st.none() | numbers.filter(bool),
)
names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,12}", fullmatch=True)
positions = st.none() | numbers | spans | names


@st.composite
def sites(draw: st.DrawFn) -> Site:
    kind = draw(st.sampled_from(list(KINDS)))
    dims = KINDS[kind][1]
    index = st.none() | numbers | spans
    return Site(
        kind,
        draw(numbers | spans) if kind in LAYERED else None,
        head=draw(index) if "head" in dims else None,
        unit=draw(index) if kind != "router" else None,
        expert=draw(index) if "expert" in dims else None,
        position=draw(positions),
        stack=draw(st.sampled_from(STACKS)),
    )


@given(sites())
def test_what_prints_parses_back(site: Site) -> None:
    again = Site.parse(str(site))
    assert again == site
    assert hash(again) == hash(site)
    assert str(again) == str(site)


@given(st.lists(sites(), min_size=1, max_size=4))
def test_a_list_of_sites_parses_back(many: list[Site]) -> None:
    assert parse_sites(", ".join(map(str, many))) == tuple(many)
    assert parse_sites(many) == tuple(many)
    assert parse_sites([", ".join(map(str, many))]) == tuple(many)


@given(spans, st.integers(0, 30))
def test_a_span_takes_what_a_slice_takes(span: Span, size: int) -> None:
    assert span.indices(size) == list(range(size))[slice(span.start, span.stop, span.step)]


@given(sites())
def test_dims_are_those_that_are_left(site: Site) -> None:
    dims = site.dims
    every = ("prompt", *KINDS[site.kind][1])
    gone = [
        isinstance(site.head, int),
        isinstance(site.unit, int),
        isinstance(site.expert, int),
        isinstance(site.position, int | str),
    ]
    assert dims[0] == "prompt"
    assert len(dims) == len(every) - sum(gone)
    assert [dim for dim in every if dim in dims] == list(dims)


@given(
    sites(),
    st.integers(1, 6),
    st.integers(1, 5),
    st.integers(1, 5),
    st.integers(1, 4),
    st.integers(1, 7) | st.none(),
)
def test_expand_gives_concrete_sites_in_order(
    site: Site, layers: int, heads: int, units: int, experts: int, positions: int | None
) -> None:
    sizes = {"layer": layers, "head": heads, "unit": units, "expert": experts}
    if positions is not None:
        sizes["position"] = positions
    wanted = {}
    for field, size in sizes.items():
        value = getattr(site, field)
        if isinstance(value, Span):
            wanted[field] = value.indices(size)
        elif isinstance(value, int):
            if not -size <= value < size:
                # An empty pattern elsewhere leaves nothing that could be out of range.
                if all(isinstance(getattr(site, f), Span) and not getattr(site, f).indices(sizes[f]) for f in wanted):
                    return
                try:
                    found = site.expand(layers=layers, heads=heads, units=units, experts=experts, positions=positions)
                except SiteError:
                    return
                assert found == []
                return
            wanted[field] = [value % size]
        else:
            wanted[field] = [value]
    expected = [{}]
    for field, values in wanted.items():
        expected = [{**fields, field: value} for fields in expected for value in values]
    found = site.expand(layers=layers, heads=heads, units=units, experts=experts, positions=positions)
    assert [{field: getattr(one, field) for field in wanted} for one in found] == expected
    assert not any(one.is_pattern for one in found)


def test_expand_examples() -> None:
    def names(text: str, **sizes: Any) -> list[str]:
        return [str(s) for s in Site.parse(text).expand(**{"layers": 4, "heads": 2, "units": 8, **sizes})]

    assert names("resid_post[*]@-1") == [f"resid_post[{i}]@-1" for i in range(4)]
    assert names("resid_pre[2:]@*") == ["resid_pre[2]@*", "resid_pre[3]@*"]
    assert names("resid_pre[-1]@*", positions=2) == ["resid_pre[3]@0", "resid_pre[3]@1"]
    assert names("z[1].head[*]") == ["z[1].head[0]", "z[1].head[1]"]
    assert names("z[::2].head[1]@end") == ["z[0].head[1]@end", "z[2].head[1]@end"]
    assert names("mlp_act[0].unit[1:3]") == ["mlp_act[0].unit[1]", "mlp_act[0].unit[2]"]
    assert names("embed") == ["embed"]


def test_the_encoders_positions_are_told_from_the_decoders() -> None:
    on_encoder = ["encoder.resid_pre[0]", "encoder.q[1]", "cross.k[0]", "cross.v[0].head[1]"]
    assert all(Site.parse(text).on_encoder for text in on_encoder)
    assert not any(Site.parse(text).on_encoder for text in ["resid_pre[0]", "k[0]", "cross.q[0]", "cross.z[1]"])


def test_parts_of_a_site() -> None:
    site = Site.parse(" z[9].head[6]@-1 ")
    assert site == Site("z", 9, head=6, position=-1)
    assert site.whole == Site("z", 9)
    assert site.at("end") == Site("z", 9, head=6, position="end")
    assert repr(site) == "Site('z[9].head[6]@-1')"
    assert Site.parse(site) is site
    assert Site.parse("encoder.resid_post[2]").whole.stack == "encoder"
    assert Site.parse("resid_pre[8:]@*") == Site("resid_pre", Span(8), position=EVERY)
    assert Site.parse("z[3].unit[5].head[2]") == Site("z", 3, head=2, unit=5)
    assert parse_sites("") == ()
    assert parse_sites("z[1:3], ,q[0]") == (Site("z", Span(1, 3)), Site("q", 0))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("resid_pst[3]", "'resid_pst' is not a kind of site: did you mean 'resid_post'?"),
        ("RESID[3]", "'RESID[3]' is not a site. A site is KIND[LAYER].head[N]@POSITION"),
        ("", "'' is not a site."),
        ("z[", "'z[' is not a site."),
        ("z[1]@", "'z[1]@' is not a site."),
        ("z[1] @2 @3", "'z[1] @2 @3' is not a site."),
        ("resid_post", "'resid_post' needs a layer. Write 'resid_post[5]' or 'resid_post[*]'."),
        ("logits[2]", "'logits' belongs to no layer. Write 'logits' alone."),
        ("resid_post[3].head[1]", "'resid_post' has no heads. Kinds that have: q_pre_rope"),
        ("z[3].expert[1]", "'z' has no experts. Kinds that have: router, expert_out."),
        ("z[3].haed[1]", "'z[3].haed[1]' names a part 'haed'. did you mean 'head'?"),
        ("z[one]", "'one' in 'z[one]' is not an index. An index is a number, a slice or '*', as in [5]"),
        ("z[]", "'' in 'z[]' is not an index."),
        ("z[1.5]", "'1.5' in 'z[1.5]' is not an index."),
        ("z[0:4:0]", "'0:4:0' in 'z[0:4:0]' steps by 0. A slice steps by 1 or more, as in '0:12:2'."),
        ("z[1]@a-b", "'a-b' in 'z[1]@a-b' is not an index."),
        ("router[3].unit[1]", "The units of 'router' are its experts. Write 'router[3].expert[2]'."),
        ("encodr.z[1]", "'encodr' is not a stack: did you mean 'encoder'?"),
    ],
)
def test_what_is_wrong_is_said(text: str, says: str) -> None:
    with pytest.raises(SiteError) as caught:
        Site.parse(text)
    assert str(caught.value).startswith(says) or says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("z[4]", "layer 4 of 'z[4]' does not exist: there are 4 layers, numbered 0 to 3 (negative numbers count"),
        ("z[-5]", "layer -5 of 'z[-5]' does not exist"),
        ("z[0].head[2]", "head 2 of 'z[0].head[2]' does not exist: there are 2 heads, numbered 0 to 1"),
        ("expert_out[0].expert[0]", "expert 0 of 'expert_out[0].expert[0]' does not exist: there are no experts here."),
    ],
)
def test_expand_says_what_does_not_exist(text: str, says: str) -> None:
    with pytest.raises(SiteError) as caught:
        Site.parse(text).expand(layers=4, heads=2)
    assert str(caught.value).startswith(says)


@pytest.mark.parametrize("name", ["two words", "a\n", "-x", "", "4th"])
def test_a_name_of_a_position_is_a_word(name: str) -> None:
    with pytest.raises(SiteError, match="is not a name of a position"):
        Site("z", 1, position=name)


@given(st.text(max_size=20))
def test_any_text_parses_or_is_refused(text: str) -> None:
    try:
        site = Site.parse(text)
    except SiteError:
        return
    assert Site.parse(str(site)) == site
