"""What must not leave this process: keys become kinds, pictures lose what is not permitted.

Pure functions over values; they run in the sensors, before anything is handed on.
"""
