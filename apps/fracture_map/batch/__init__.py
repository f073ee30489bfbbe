"""``fracture-map batch``: many studies, each as if it were alone, with networks that stay loaded.

::

    ROOT --entries--> analyse_one: run_study with a warm process --> OUT/<name> --row_of--> tables

The same `analyse_one` runs in threads of one machine, each with an analysing process of its own, and in the
actors of a Ray cluster.
"""
