"""What travels with a model: its columns and how to read them, its task, the classes as their owner wrote them. Imports nothing of ours."""
