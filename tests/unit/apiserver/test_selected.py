"""What selectors select is remembered, and true whatever has happened since."""

from __future__ import annotations

import random
from functools import partial

import orjson

from controlplane.apiserver.cacher.collection import Collection
from controlplane.apiserver.cacher.record import Record


def record(name: str, revision: int, app: str) -> Record:
    namespace = "even" if int(name) % 2 == 0 else "odd"
    value = {"metadata": {"name": name, "namespace": namespace, "labels": {"app": app}}}
    return Record(f"{namespace}/{name}", orjson.dumps(value), revision)


def runs(app: str, record: Record) -> bool:
    return record.labels["app"] == app


def test_random_changes_are_taken_in_whenever_it_is_asked_for() -> None:
    choose, collection, owner = random.Random(36), Collection("pods/", 0), object()
    for revision in range(1, 3_000):
        name, app = str(choose.randrange(60)), choose.choice("abc")
        key = record(name, revision, app).key
        if choose.random() < 0.3:
            collection.remove(key, revision, 0.0)
        else:
            collection.put(record(name, revision, app), 0.0)
        if choose.random() < 0.05:
            collection.reset(list(collection.records.values()), revision)
        for wanted in "abc":
            if choose.random() < 0.1:
                namespace, start = choose.choice(["", "even", "odd"]), choose.choice(["", "even/3", "odd/27"])
                found = collection.selected(f"app={wanted}", owner, partial(runs, wanted), namespace, start)
                assert found == [r for r in collection.list(namespace, start) if runs(wanted, r)]


def test_another_owner_s_selector_of_the_same_text_is_another() -> None:
    collection = Collection("pods/", 0)
    collection.put(record("1", 1, "a"), 0.0)
    one, other = object(), object()
    assert len(collection.selected("x", one, lambda r: True)) == 1
    assert collection.selected("x", other, lambda r: False) == []
    assert len(collection.selected("x", one, lambda r: True)) == 1


def test_of_very_many_selectors_the_latest_are_remembered() -> None:
    collection, owner, asked = Collection("pods/", 0), object(), []

    def remember(r: Record) -> bool:
        asked.append(r.key)
        return True

    collection.put(record("1", 1, "a"), 0.0)
    for number in range(40):
        collection.selected(f"n={number}", owner, remember)
    assert len(asked) == 40
    collection.selected("n=39", owner, remember)
    assert len(asked) == 40
    collection.selected("n=0", owner, remember)
    assert len(asked) == 41
