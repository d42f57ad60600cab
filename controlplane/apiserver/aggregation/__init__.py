"""Aggregation: groups that other servers serve, and the APIServices that say so.

registration.py   the APIServices of what this server serves itself (pure)
availability.py   whether an APIService can be had, in upstream's words (pure)
authentication.py what extension API servers are told of whom to believe
remote.py         another server: where it is, how to speak with it, what it offers
aggregator.py     keeps all of it true, and passes requests on
"""
