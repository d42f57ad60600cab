"""What is taken away: dead containers, unused images, long logs; and who makes room for a critical pod."""

from __future__ import annotations

import gzip
from pathlib import Path

from kubelet_values import container, ended, pod, ran, runtime, sandbox, sized

from agent.kubelet.collection.containers import excess_containers, excess_sandboxes, remove_log
from agent.kubelet.collection.images import ImageRecord, removable, to_free
from agent.kubelet.collection.logs import clean, compress, rotated
from agent.kubelet.container.model import CREATED
from agent.kubelet.pods import preemption
from agent.kubelet.pods.ending import remove_orphan_logs
from machinery.api import quantity


def test_the_last_dead_container_of_each_name_is_kept() -> None:
    seen = runtime(
        ran("a", count=3), ended("b", count=1), ended("a", count=2), ended("a", count=1), ended("a", count=0)
    )
    assert [c.id for c in excess_containers(seen, 1000.0)] == ["a-1", "a-0"]


def test_a_container_that_never_started_goes_when_another_took_its_place() -> None:
    old, new = ran("a", CREATED, count=0, created=1), ran("a", CREATED, count=1, created=990)
    assert excess_containers(runtime(new, old), 1000.0) == [old]
    assert excess_containers(runtime(new), 5000.0) == []


def test_empty_dead_sandboxes_go_but_the_newest() -> None:
    first, second, third = sandbox(0, ready=False), sandbox(1, ready=False), sandbox(2, ready=False)
    seen = runtime(ended("a", sandbox_id="s1"), sandboxes=(third, second, first))
    assert excess_sandboxes(seen) == [first]


def test_images_go_the_longest_unused_first() -> None:
    records = [
        ImageRecord("used", 1, False, 0.0, 5.0, in_use=True),
        ImageRecord("pinned", 1, True, 0.0, 1.0),
        ImageRecord("young", 1, False, 95.0, 1.0),
        ImageRecord("recent", 1, False, 0.0, 50.0),
        ImageRecord("never", 1, False, 10.0, 0.0),
    ]
    assert [r.id for r in removable(records, 100.0, 30.0, 100.0)] == ["never", "recent"]


def test_how_much_to_free() -> None:
    assert to_free(1000, 100, 85, 80) == 100
    assert to_free(1000, 200, 85, 80) == 0
    assert to_free(1000, 0, 100, 80) == 0
    assert to_free(0, 0, 85, 80) == 0


def test_rotated_logs_are_compressed_and_only_the_newest_kept(tmp_path: Path) -> None:
    log = tmp_path / "0.log"
    log.write_text("now")
    for stamp in ("20260101-000000", "20260102-000000", "20260103-000000"):
        (tmp_path / f"0.log.{stamp}").write_text(stamp)
    (tmp_path / "0.log.20260101-000000.gz.tmp").write_text("half")
    clean(str(log), 4)
    compress(str(log))
    assert [Path(p).name for p in rotated(str(log))] == ["0.log.20260102-000000.gz", "0.log.20260103-000000.gz"]
    with gzip.open(tmp_path / "0.log.20260103-000000.gz", "rt") as file:
        assert file.read() == "20260103-000000"
    remove_log(str(log))
    assert list(tmp_path.iterdir()) == []


def test_logs_of_nobodys_pods_are_removed(tmp_path: Path) -> None:
    logs, links = tmp_path / "pods", tmp_path / "containers"
    for name in ("ns_known_u1", "ns_gone_u2", "lost+found"):
        (logs / name / "c").mkdir(parents=True)
    links.mkdir()
    (links / "known.log").symlink_to(logs / "ns_known_u1" / "c")
    (links / "gone.log").symlink_to(logs / "ns_gone_u2" / "c")
    remove_orphan_logs(str(logs), str(links), {"u1"})
    assert sorted(p.name for p in logs.iterdir()) == ["lost+found", "ns_known_u1"]
    assert [p.name for p in links.iterdir()] == ["known.log"]
    remove_orphan_logs(str(tmp_path / "missing"), str(tmp_path / "missing"), set())


def test_critical_pods_displace_as_few_and_as_little_as_possible() -> None:
    node = {"cpu": quantity.parse("4"), "memory": quantity.parse("4Gi"), "pods": quantity.of(110)}
    critical = pod(sized(requests={"cpu": "2"}), name="critical", priority=2_000_000_000)
    small = pod(sized(requests={"cpu": "1"}), name="small")
    large = pod(sized(requests={"cpu": "2"}), name="large")
    guaranteed = pod(
        sized(requests={"cpu": "1", "memory": "1Gi"}, limits={"cpu": "1", "memory": "1Gi"}), name="guaranteed"
    )
    others = [small, large, guaranteed]
    lacking = preemption.missing(critical, others, node)
    assert lacking == {"cpu": 2 * 10**9}
    going = preemption.victims(critical, others, lacking)
    assert going is not None
    assert [p["metadata"]["name"] for p in going] == ["large"]
    assert preemption.victims(pod(priority=5), [pod(container(), priority=9)], {"pods": 1}) is None
    crowd = [pod(container(), name="x"), guaranteed]
    only = preemption.victims(critical, crowd, {"pods": 1})
    assert only is not None
    assert [p["metadata"]["name"] for p in only] == ["x"]
