"""Sources of tasks: readers of tables, and the built-in task prior."""
