"""Processes that hold the devices' connections, so that one machine carries many of them.

What costs is TLS, HTTP, hashes, signatures and the disk: a worker does that, for the
connections that come to it, and knows nothing else.  It has no index, no log and no key but
that of TLS.  What a request means is decided in the one process that started it (the
*owner*), with the same applications and endpoints as without workers:

    client === TLS === worker --- a request, in ASGI's words ---> owner
                         ^  <--- "take the frame in", "store it" ---'

`messages` has the words, `line` carries them, `tunnel` is the owner's end and `crew` starts
and ends the processes; `worker` is what runs in one.
"""
