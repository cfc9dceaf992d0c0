"""The nouns that everything else is made of. Nothing here knows a network, a file or a screen."""
