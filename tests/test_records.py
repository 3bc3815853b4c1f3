import json

import pytest
from datasets import Features, Image
from datasets.arrow_writer import get_parquet_column_options

from fgr import records
from fgr.dataset import card, tables


@pytest.mark.parametrize("table", records.TABLES)
def test_datasets_reads_the_schema_as_its_own(table):
    schema = records.arrow_schema(table)
    features = Features.from_arrow_schema(schema)
    assert features.arrow_schema.equals(schema, check_metadata=False)
    assert json.loads(features.arrow_schema.metadata[b"huggingface"]) == json.loads(schema.metadata[b"huggingface"])
    assert {name for name, feature in features.items() if isinstance(feature, Image)} == set(records.media_columns(table))


@pytest.mark.parametrize("table", records.TABLES)
def test_card_declares_the_same_features(table):
    features = Features.from_arrow_schema(records.arrow_schema(table))
    assert [card._yaml_feature(column) for column in records.TABLES[table]] == features._to_yaml_list()


@pytest.mark.parametrize("table", records.TABLES)
def test_parquet_options_are_those_of_datasets(table):
    schema = records.arrow_schema(table)
    theirs = get_parquet_column_options(Features.from_arrow_schema(schema), schema)
    ours = tables._options(schema, records.media_columns(table))
    for option in ("compression", "column_encoding"):
        assert ours[option] == (theirs[option] if isinstance(theirs, dict) else getattr(theirs, option))


def test_figures_of_older_runs_get_the_names_of_today():
    old = '{"step": 3, "battery": 0.5, "battery_fidelity": 0.1, "rm0_heat": 2.0, "metrics": [{"battery": 1}]}'
    new = {"step": 3, "held_out": 0.5, "held_out_fidelity": 0.1, "rm0_severity": 2.0, "metrics": [{"held_out": 1}]}
    assert json.loads(old, object_hook=records.current_figures) == new
    assert records.current_figures(new) == new
