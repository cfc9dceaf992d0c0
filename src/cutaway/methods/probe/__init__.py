"""What can be read off a model's values, and is it more than a probe would learn from anything?"""
