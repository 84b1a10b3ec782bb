"""The one place that imports Paddle and uses its objects: Programs, Scopes, tensors, modes."""
