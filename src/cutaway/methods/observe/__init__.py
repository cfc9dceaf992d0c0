"""What is there? Methods that read a network and say what they see."""
