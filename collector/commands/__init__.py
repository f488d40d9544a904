"""Commands of `assent-collector` that take more than a few lines, and what is behind them.

The others stand in `collector.__main__`, or in the folder that they are about.
"""
