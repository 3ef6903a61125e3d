"""Errors, and text that must not do harm in one.

    tree        the exceptions, and whose fault each is: the caller's, the machine's, the far side's
    foreign     values of the application, whose classes may lie and whose methods may raise
    secret      the API key: hidden from `repr`, and taken out of what servers say
    printable   foreign text for a terminal, a log or a message: on one line, and without control characters

Messages name a field, a type and a limit, and never hold a value: those are your users' data. The ground of the house:
every folder imports this one, which imports none.
"""
