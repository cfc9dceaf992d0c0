"""The workbench: methods, results and models over HTTP, and the pages that show them."""
