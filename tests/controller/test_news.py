import asyncio

from af_hub.controller.news import WAITING_AT_MOST, News

LONG = 60


async def waiting(news, cluster, count=1):
    tasks = [asyncio.create_task(news.wait(cluster, LONG)) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


async def test_who_waits_is_told_at_once_and_nobody_else():
    news = News()
    (hers,), (his,) = await waiting(news, "a"), await waiting(news, "b")
    news.tell("a")
    await asyncio.wait_for(hers, LONG)
    assert not his.done()
    news.close()
    await asyncio.wait_for(his, LONG)


async def test_nobody_waits_for_ever():
    news = News()
    await news.wait("a", 0.01)
    assert not news._waiting


async def test_not_everybody_may_wait():
    news = News()
    tasks = await waiting(news, "a", WAITING_AT_MOST)
    await asyncio.wait_for(news.wait("a", LONG), 1)
    news.tell("a")
    await asyncio.gather(*tasks)


async def test_after_the_end_nobody_waits():
    news = News()
    news.close()
    await asyncio.wait_for(news.wait("a", LONG), 1)
