"""API priority and fairness: how many requests are served at once, of whom, and who waits how long.

    request → FlowSchema (matching) → priority level: seats, or a queue, or 429 (level) → served → seats given back

Source: KEP-1040.
"""
