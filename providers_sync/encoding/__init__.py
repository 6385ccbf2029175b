"""From messages and options in OpenAI's form to the body of each protocol; reads and sends nothing
but the files that messages hold.

Every protocol has a module. What it cannot carry is an ``InvalidRequestError`` that names the item.
"""
