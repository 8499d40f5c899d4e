"""Learners: a method by name, fitted to a table of people, kept in a directory and used again."""
