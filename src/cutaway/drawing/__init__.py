"""Drawing: the kinds of picture in the terminal, on a page, in a paper, in a notebook, in a spreadsheet."""
