from af_hub.forwarder.access import Endpoint, Service
from af_hub.forwarder.offers import Offers

MINE = "a" * 32
SCHEDULER = Endpoint(MINE, Service.SCHEDULER)
AGENT = Endpoint(MINE, Service.AGENT)


def watched():
    offers, seen = Offers[str](), []
    offers.watch(lambda offered, endpoint: seen.append(("+" if offered else "-") + str(endpoint.service)))
    return offers, seen


def test_the_newest_job_takes_over_and_the_old_one_offers_no_more():
    offers, seen = watched()
    assert offers.take_over(MINE, "old") is None
    assert offers.offer(SCHEDULER, "old")
    assert offers.take_over(MINE, "new") == "old"
    assert not offers.offer(SCHEDULER, "old")
    assert offers.job_of(SCHEDULER) is None
    assert offers.offer(SCHEDULER, "new")
    offers.withdraw(SCHEDULER, "old")
    offers.leave(MINE, "old")
    assert offers.job_of(SCHEDULER) == "new"
    assert seen == ["+scheduler", "-scheduler", "+scheduler"]


def test_an_endpoint_is_offered_once():
    offers, seen = watched()
    offers.take_over(MINE, "job")
    assert offers.offer(AGENT, "job")
    assert not offers.offer(AGENT, "job")
    assert seen == ["+agent"]


def test_without_a_job_nothing_is_offered():
    assert not Offers[str]().offer(AGENT, "job")


def test_who_watches_late_hears_what_is_there():
    offers = Offers[str]()
    offers.take_over(MINE, "job")
    offers.offer(SCHEDULER, "job")
    offers.offer(AGENT, "job")
    seen = []

    def watcher(offered, endpoint):
        seen.append((offered, endpoint))

    offers.watch(watcher)
    assert seen == [(True, AGENT), (True, SCHEDULER)]
    offers.unwatch(watcher)
    offers.leave(MINE, "job")
    assert len(seen) == 2


def test_a_dropped_dask_cluster_names_its_connections_and_stays_out():
    offers = Offers[str]()
    offers.take_over(MINE, "job")
    offers.join(MINE, "session")
    offers.join("b" * 32, "stranger")
    assert sorted(offers.drop(MINE)) == ["job", "session"]
    assert offers.is_dropped(MINE)
    assert not offers.is_dropped("b" * 32)
    offers.leave(MINE, "job")
    offers.leave(MINE, "session")
    assert offers.drop(MINE) == []
