"""The formats of trainers that call a reward server by themselves."""
