"""Pairs of coarse LST, guide and true fine LST: found, registered, split by place, and cut up.

Evaluation scores on them and training learns from them; neither may import the other's business,
so what both need of pairs stands here. Knows no learning framework.
"""
