"""What causes what? Methods that change a part of a network and measure what follows."""
