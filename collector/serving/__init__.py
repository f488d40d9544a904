"""How requests reach the collector: listeners, who is asking, how much, and what they are told.

`listeners` opens the doors, `reached` is what each request passes on its way to one of
`endpoints`; which there are stands in `collector.app`, written in the words of `routes`.
"""
