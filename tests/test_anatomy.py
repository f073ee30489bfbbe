"""Numbers of vertebrae, ours and others'."""

from __future__ import annotations

from cspine.anatomy import CERVICAL, FOREIGN_LABELS, NETWORK_CHANNELS, OCCIPUT, THORACIC, Vertebra


def test_channels_of_the_networks_are_the_labels_of_the_masks():
    assert all(NETWORK_CHANNELS[v] == v.name for v in CERVICAL)
    assert (NETWORK_CHANNELS[THORACIC], NETWORK_CHANNELS[OCCIPUT]) == ("thoracic", "occiput")


def test_foreign_label_tables_name_every_level_once():
    for table in FOREIGN_LABELS.values():
        assert set(table) == set(CERVICAL)
        assert len(set(table.values())) == 7


def test_totalsegmentator_counts_from_the_feet():
    assert FOREIGN_LABELS["totalsegmentator"][Vertebra.C7] == 44
    assert FOREIGN_LABELS["totalsegmentator"][Vertebra.C1] == 50
