"""The data subject's controls: icon, menu and windows.  They show and command; they decide nothing.

What is recorded is decided by the agent alone; the tray shows the agent's true state, read
again whenever it is looked at, and passes on what the data subject clicks.  Start with
`view` (what is shown for which state), then `controls` (what a click says to the agent).
"""
