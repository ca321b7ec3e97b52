"""Every row of the contract, typed in a fresh clone as a user types it: `python3 -m acceptance`.

It knows the project by its commands, its files and its servers' answers alone; it imports nothing of it,
and of its tests the emulated Kubernetes API alone.
"""
