"""The development set, with which rules, guards and judges are developed and measured."""
