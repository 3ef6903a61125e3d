"""`userpilot-async check --live`: what only a key of a real account can tell of the server, asked and written down.

The vendor's pages leave open how the job list pages, what a deletion answers, whether an import blanks what a row
leaves out. A person with a key and a test environment asks here, and gets a report that can be shown to others.

    _questions ──▶ requests, one after the other, and what the answers mean    (pure: generators that are sent answers;
       │           those of `_realtime` and `_files`, with their prices)
       │ values of `_terms`: an `Ask`, what was `Answered`, the ids of a `Session`
    _conversation  makes the requests, in the rate limits, and deletes whatever may exist under the session's ids
    _shapes        a body as names and types, without its values
    _report        the report as JSON, as Markdown, and as lines for a terminal
    _live          the command: says what it will cost, asks, and ends in deleting

A question that fails has its answer: the next one is asked all the same. All ids begin with a prefix made by chance for
this run, and are deleted at its end, also after a failure or an interrupt. The report has no key, no id, and no value
of the account's: `_report` builds it from shapes, and the key is taken out of every text in it.
"""
