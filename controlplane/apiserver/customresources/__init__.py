"""Custom resources: what CustomResourceDefinitions add to the API.

lifecycle.py    what a definition's status should be: names accepted, established, terminating (pure)
serving.py      a definition as resources that handlers can serve
printing.py     additionalPrinterColumns
controller.py   keeps statuses and the set of served resources true
"""
