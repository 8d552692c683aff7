"""Measuring a judge: attacks, benign twins and pairs, and the report card made of them."""
