from cutaway.data.python_source import SOURCE, files, functions


def test_the_library_is_read_as_text_and_as_functions() -> None:
    assert len(files()) > 200
    found = {(function.name, function.arguments) for function in functions()}
    assert ("dedent", ("text",)) in found  # textwrap
    assert ("shuffle", ("x",)) in found  # random, a method: self is left out
    assert all("self" not in function.arguments for function in functions())


def test_words_are_plain_and_the_order_is_fixed() -> None:
    words = {word for function in functions() for word in function.words}
    assert all(word.isalpha() and word.islower() for word in words)
    assert functions() is functions()
    assert "standard library of Python 3" in SOURCE
