"""How does an index made by an earlier cutaway become one of today? Step by step, when it is opened."""
