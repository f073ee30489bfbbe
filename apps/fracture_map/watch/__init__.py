"""``fracture-map watch``: follows a PACS, analyses what the rules name, stores the results beside the images.

::

    PACS --follow--> study table --claim--> worker: fetch, run_study, record --outbox--> PACS

Everything that must survive a crash is in one database, and every step is one transaction there. A result is
in the database, with its UIDs and bytes, before the first byte of it is sent; sending the same UIDs twice
changes nothing, so a worker may be killed anywhere.
"""
